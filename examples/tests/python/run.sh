#!/bin/sh
# Runs the example for real: needs devenv (DEVENV_BIN, else PATH) and an engine. Leaves the environment up for the next run.
set -e
cd "$(dirname "$0")"
place=${TMPDIR:-/tmp}/devenv-example-python
if [ ! -e "$place/whole" ]; then
    python3 -m venv --clear "$place"
    "$place/bin/pip" install --quiet pytest "psycopg[binary]"
    : > "$place/whole"
fi
exec "$place/bin/pytest" -q -p no:cacheprovider "$@"
