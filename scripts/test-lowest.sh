#!/bin/sh
# Tests the lower bounds of pyproject.toml: the lowest version of each direct dependency, on the oldest Python, in an
# environment of its own (build/lowest).
#   scripts/test-lowest.sh          the unit tests and the demo
#   scripts/test-lowest.sh unit     only the unit tests
set -eu
cd "$(dirname "$0")/.."
python=$(command -v python3.11) || { echo "cdc: the lowest versions are tested on Python 3.11, which is not here" >&2; exit 1; }
folder=build/lowest
want=$(cat pyproject.toml scripts/test-lowest.sh | cksum)
if [ ! -e "$folder/.installed" ] || [ "$(cat "$folder/.installed")" != "$want" ]; then
    echo "cdc: installing the lowest versions of the dependencies …" >&2
    rm -rf "$folder" && "$python" -m venv "$folder"
    .venv/bin/python -m uv pip compile --quiet --resolution lowest-direct --no-annotate --no-header --no-emit-index-url \
        --python-version 3.11 --extra all --extra local --extra dev pyproject.toml -o "$folder/requirements.txt"
    pip="$folder/bin/python -m pip install -q --disable-pip-version-check"
    $pip --require-hashes -r requirements-build.lock
    $pip --no-build-isolation -r "$folder/requirements.txt"
    $pip --no-build-isolation --no-deps -e .
    echo "$want" > "$folder/.installed"
fi
"$folder/bin/python" -m pytest -q -n 2 --dist loadfile tests/unit
[ "${1:-}" = unit ] || "$folder/bin/cdcctl" demo
