#!/bin/sh
# Creates .venv with the locked dependencies (hashes checked) and this checkout. Returns at once when nothing changed.
set -eu
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "cdc: Python 3.11 or newer is required, but $python is $("$python" --version 2>&1); set PYTHON=/path/to/python3.11" >&2
    exit 1
}
stamp=.venv/.installed
want=$(cat requirements.lock pyproject.toml scripts/venv.sh | cksum)
[ -e "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    if command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null 2>&1; }; then
        as_root=$([ "$(id -u)" = 0 ] || echo sudo)
        $as_root apt-get update -qq && $as_root apt-get install -y -qq --no-install-recommends "$version" >/dev/null
    else
        echo "cdc: Python's venv module is missing: sudo apt-get install $version" >&2
        exit 1
    fi
fi
echo "cdc: creating .venv with the locked dependencies …" >&2
"$python" -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-build.lock
.venv/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation --require-hashes -r requirements.lock
.venv/bin/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
.venv/bin/python -m consumers.kcl.class_archive
echo "$want" > "$stamp"
