#!/bin/sh
# Runs the example for real: needs devenv (DEVENV_BIN, else PATH) and an engine. Leaves the environment up for the next run.
set -e
place=${TMPDIR:-/tmp}/devenv-example-node
mkdir -p "$place/node"
cp -r "$(dirname "$0")"/../project "$place"/
cp "$(dirname "$0")"/*.js* "$place/node/"
cd "$place/node"
[ -d node_modules/pg ] || npm install --silent --no-fund --no-audit
exec npm test --silent
