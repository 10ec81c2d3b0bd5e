#!/bin/sh
# Runs the example for real: needs devenv (DEVENV_BIN, else PATH) and an engine. Leaves the environment up for the next run.
set -e
# Not that of the example for node, which may run at the same time.
place=${TMPDIR:-/tmp}/devenv-example-vitest
mkdir -p "$place/vitest"
cp -r "$(dirname "$0")"/../project "$place"/
cp "$(dirname "$0")"/*.js* "$(dirname "$0")"/../node/devenv.js "$place/vitest/"
cd "$place/vitest"
[ -d node_modules/vitest ] || npm install --silent --no-fund --no-audit
exec npm test --silent
