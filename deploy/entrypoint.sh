#!/bin/sh
# An image has no cdc.toml. When CDC_TOML has its text (a variable or secret of the task), write it to the file.
set -eu
if [ -n "${CDC_TOML:-}" ]; then
    CDC_CONFIG=${CDC_CONFIG:-${TMPDIR:-/tmp}/cdc.toml}
    export CDC_CONFIG
    (umask 077 && printf '%s\n' "$CDC_TOML" >"$CDC_CONFIG")
    unset CDC_TOML
fi
exec "$@"
