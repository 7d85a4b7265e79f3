#!/bin/sh
# An image has no cdc.toml of yours: where CDC_TOML holds its text (a task's variable or secret) it becomes the file.
set -eu
if [ -n "${CDC_TOML:-}" ]; then
    CDC_CONFIG=${CDC_CONFIG:-${TMPDIR:-/tmp}/cdc.toml}
    export CDC_CONFIG
    (umask 077 && printf '%s\n' "$CDC_TOML" >"$CDC_CONFIG")
    unset CDC_TOML
fi
exec "$@"
