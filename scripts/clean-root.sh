#!/usr/bin/env bash
# Runs a command in a new root file system of a Debian release, as on a new user's machine:
#   scripts/clean-root.sh trixie 'make demo'
# The command runs as root in a checkout of HEAD, with Python 3, git and make installed. This host's CA certificates and
# registry settings are copied into it. Everything is deleted at the end. Prints one line and exits with 0 if this
# machine cannot run it (not root, no apt-get, no mounts, no Debian mirror).
set -euo pipefail
release=$1 command=$2
project=$(cd "$(dirname "$0")/.." && pwd)

skip() { echo "cdc: skipped, cannot create a root file system of Debian $release: $1" >&2; exit 0; }

[ "$(id -u)" = 0 ] || skip "not root"
command -v apt-get >/dev/null || skip "no apt-get"
unshare --mount --pid --fork --kill-child true 2>/dev/null || skip "mounts are not permitted"
if ! command -v debootstrap >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap debian-archive-keyring; } \
        >/dev/null 2>&1 || skip "debootstrap cannot be installed"
fi

root=$(mktemp -d /var/tmp/cdckit-root.XXXXXX)
chmod 755 "$root"  # other users than root run PostgreSQL in it
child=
cleanup() {
    [ -z "$child" ] || { kill -KILL "$child" 2>/dev/null && wait "$child" 2>/dev/null || true; }
    rm -rf --one-file-system "$root" "$root.log"
}
trap cleanup EXIT
trap 'exit 143' TERM INT

# Runs a command in its own mount and process namespaces, so that its mounts and processes end with it.
# It runs in the background, so that this shell handles a signal immediately.
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
        exec chroot "$root" env -i --default-signal=INT,QUIT "$@"  # background commands of a shell ignore these signals
    ' bash "$root" "${variables[@]}" "$@"
}

copy_in() { [ ! -f "$1" ] || install -D -m 600 "$1" "$root$2"; }

# Adds the variables that name registries, proxies and certificates, and copies the files that they name.
registry_variables() {
    local name value
    for name in $(compgen -e | grep -iE '^(pip|uv|npm_config|maven)_|_proxy$|ca_?(bundle|certs|info)|ssl_cert'); do
        value=${!name}
        if [ "${value#/}" != "$value" ] && [ ! -e "$root$value" ]; then
            [ -f "$value" ] || continue  # a folder, which is not copied
            copy_in "$value" "$value"
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
echo "cdc: creating a root file system of Debian $release ..." >&2
contained debootstrap --variant=minbase --include=ca-certificates "$release" "$root" "$mirror" "$script" \
    >"$root.log" 2>&1 || { skip "$(tail -n 1 "$root.log")"; }

mkdir -p "$root/usr/local/share/ca-certificates" "$root/root/project"
cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
for file in /etc/resolv.conf /etc/hosts; do install -m 644 "$file" "$root$file"; done
for file in /etc/pip.conf /etc/npmrc /etc/apt/auth.conf; do copy_in "$file" "$file"; done
for file in .pip/pip.conf .config/pip/pip.conf .config/uv/uv.toml .npmrc .m2/settings.xml; do
    copy_in "$HOME/$file" "/root/$file"
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
