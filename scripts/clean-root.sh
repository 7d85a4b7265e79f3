#!/usr/bin/env bash
# Runs a command in a fresh root of a Debian release, as on a new user's machine:
#   scripts/clean-root.sh trixie 'make demo'
# The command runs as root in a checkout of HEAD, with Python 3, git and make installed. This host's CA certificates and
# registry settings are carried over. Everything is removed at the end. Prints one line and exits 0 where this machine
# cannot do it (not root, no apt-get, no mounts, no Debian mirror).
set -euo pipefail
release=$1 command=$2
project=$(cd "$(dirname "$0")/.." && pwd)

skip() { echo "cdc: no clean root of Debian $release here: $1" >&2; exit 0; }

[ "$(id -u)" = 0 ] || skip "not root"
command -v apt-get >/dev/null || skip "no apt-get"
unshare --mount --pid --fork --kill-child true 2>/dev/null || skip "mounts are not permitted"
if ! command -v debootstrap >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring; } \
        >/dev/null 2>&1 || skip "debootstrap cannot be installed"
fi

root=$(mktemp -d /var/tmp/cdckit-root.XXXXXX)
child=
cleanup() {
    [ -z "$child" ] || { kill -KILL "$child" 2>/dev/null && wait "$child" 2>/dev/null || true; }
    rm -rf --one-file-system "$root" "$root.log"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

# Runs a command with mounts and processes in namespaces of their own: all of them end with it, whatever ends it.
# The shell waits for it in the background, so that it handles a signal at once.
contained() {
    unshare --mount --pid --fork --kill-child "$@" </dev/null &
    child=$!
    local status=0
    wait "$child" || status=$?
    child=
    return "$status"
}

# shellcheck disable=SC2016
inside() {
    contained bash -euc '
        root=$1; shift
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/dev/shm"
        mount --rbind /sys "$root/sys"
        mount -t proc proc "$root/proc"
        exec chroot "$root" env -i --default-signal=INT,QUIT "$@"  # a shell has a background command ignore them
    ' bash "$root" "${variables[@]}" "$@"
}

carry() { [ ! -f "$1" ] || install -D -m 600 "$1" "$root$2"; }

# The variables that name registries, proxies and certificates; a file that one names comes along.
registry_variables() {
    local name value
    for name in $(compgen -e | grep -iE '^(pip|uv|npm_config|maven)_|_proxy$|ca_?(bundle|certs|info)|ssl_cert'); do
        value=${!name}
        if [ "${value#/}" != "$value" ] && [ ! -e "$root$value" ]; then
            [ -f "$value" ] || continue  # a folder of this host
            carry "$value" "$value"
        fi
        variables+=("$name=$value")
    done
}

mirror=http://deb.debian.org/debian
if grep -qx 'ID=debian' /etc/os-release; then
    found=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    mirror=${found:-$mirror}
fi
apt_proxy=
eval "$(apt-config shell apt_proxy Acquire::http::Proxy)"
[ -z "$apt_proxy" ] || export http_proxy="${http_proxy:-$apt_proxy}"
script=/usr/share/debootstrap/scripts/$release
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
echo "cdc: making a clean root of Debian $release ..." >&2
contained debootstrap --variant=minbase --include=ca-certificates "$release" "$root" "$mirror" "$script" \
    >"$root.log" 2>&1 || { skip "$(tail -n 1 "$root.log")"; }

mkdir -p "$root/usr/local/share/ca-certificates" "$root/root/project"
cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
for file in /etc/resolv.conf /etc/hosts; do install -m 644 "$file" "$root$file"; done
for file in /etc/pip.conf /etc/npmrc /etc/apt/auth.conf; do carry "$file" "$file"; done
for file in .pip/pip.conf .config/pip/pip.conf .config/uv/uv.toml .npmrc .m2/settings.xml; do
    carry "$HOME/$file" "/root/$file"
done
apt-config dump | grep -E '^Acquire::(http|https|Check-|Retries|Force)' >"$root/etc/apt/apt.conf.d/99host" || true
git -C "$project" archive HEAD | tar -x -C "$root/root/project"

variables=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 CI=1
    DEBIAN_FRONTEND=noninteractive)
inside update-ca-certificates >/dev/null 2>&1
registry_variables
inside bash -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends python3 git make' >/dev/null
inside bash -c "cd /root/project; $command
exit \$?"
