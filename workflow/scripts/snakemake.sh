#!/bin/sh
# The project's Snakemake, whoever calls it: that of the environment in $VENV (.venv), else one on the PATH; in a clone
# that has neither, the environment is made first. Arguments are Snakemake's.
set -eu
cd "$(dirname "$0")/../.."
venv=${VENV:-.venv}
if [ ! -x "$venv/bin/snakemake" ]; then
    if command -v snakemake >/dev/null 2>&1; then
        exec snakemake "$@"
    fi
    make env VENV="$venv" >&2
fi
exec "$venv/bin/snakemake" "$@"
