#!/bin/sh
# Installs PostgreSQL with wal2json, which pip cannot install. For Debian and Ubuntu; does nothing when both are installed.
set -eu

has_wal2json() {
    for library in /usr/lib/postgresql/*/lib/wal2json.so; do
        [ -e "$library" ] && [ -x "$(dirname "$(dirname "$library")")/bin/initdb" ] && return 0
    done
    command -v pg_config >/dev/null 2>&1 && [ -e "$(pg_config --pkglibdir)/wal2json.so" ]
}

explain() {
    echo "cdc: cannot install PostgreSQL with wal2json here: $1." >&2
    echo "cdc: on Debian or Ubuntu: sudo apt-get install postgresql-NN postgresql-NN-wal2json (NN: your release's version)." >&2
    echo "cdc: or use your own PostgreSQL (wal_level=logical, with wal2json): export CDC_DSN=postgresql://user@host/database," >&2
    echo "cdc: then run 'make install' and 'cdcctl producer run'; the README's section 'By hand' continues from there." >&2
    exit 1
}

has_wal2json && exit 0
command -v apt-get >/dev/null 2>&1 || explain "this system is neither Debian nor Ubuntu"
if [ "$(id -u)" = 0 ]; then as_root=""; elif command -v sudo >/dev/null 2>&1; then as_root="sudo"; else explain "this needs root or sudo"; fi

echo "cdc: installing PostgreSQL with wal2json by apt-get …" >&2
$as_root apt-get update -qq
package=$(apt-cache search --names-only '^postgresql-[0-9]+-wal2json$' | cut -d' ' -f1 | sort -t- -k2 -n | tail -n 1)
[ -n "$package" ] || explain "no package postgresql-NN-wal2json in the configured sources"
server=${package%-wal2json}
# the demo and the tests run their own clusters, so the package must not start one
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    $as_root mkdir -p /etc/postgresql-common
    echo "create_main_cluster = false" | $as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$server" "$package" >/dev/null
has_wal2json || explain "apt-get installed $package, but wal2json.so is not in the expected folder"
