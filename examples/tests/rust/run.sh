#!/bin/sh
# Runs the example for real: needs devenv (DEVENV_BIN, else PATH) and an engine. Leaves the environment up for the next run.
set -e
cd "$(dirname "$0")"
exec cargo test --quiet --test orders
