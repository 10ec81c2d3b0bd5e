#!/bin/sh
# Runs the example for real: needs devenv (DEVENV_BIN, else PATH) and an engine. Leaves the environment up for the next run.
set -e
cd "$(dirname "$0")"
place=${TMPDIR:-/tmp}/devenv-example-python
[ -x "$place/bin/pytest" ] || { python3 -m venv "$place" && "$place/bin/pip" install --quiet pytest "psycopg[binary]"; }
exec "$place/bin/pytest" -q -p no:cacheprovider "$@"
