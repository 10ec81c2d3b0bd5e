#!/usr/bin/env bash
# Other engines: each image runs a Docker engine of another release in a container of the one at hand, and devenv is
# driven against it: negotiation, up, real clients, exec, a killed daemon, down. Needs root (nsenter), psql, redis-cli.
#
#   tests/engines.sh [BINARY [IMAGE...]]      default: target/release/devenv devenv/docker-engine:26.1.5
#
# The inner engine publishes ports in its own container's network namespace, so devenv and the clients are run in that
# namespace too; the files, and with them the engine's socket, are the host's. Exit status: 0 all of it held, 1 it did not.
set -euo pipefail
binary=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/release/devenv}")
shift || true
(( $# )) || set -- devenv/docker-engine:26.1.5
carried=(redis:8.0 postgres:17)
place=$(mktemp -d /tmp/devenv-engines-XXXXXX)
container=
# A machine that is itself confined may lack CAP_SYS_RESOURCE (24), and then cannot give --privileged.
rights=(--privileged)
bounding=$(awk '/^CapBnd/ { print $2 }' /proc/self/status)
(( 16#$bounding >> 24 & 1 )) || rights=(--cap-add ALL --cap-drop SYS_RESOURCE --security-opt seccomp=unconfined --security-opt apparmor=unconfined)

say()  { printf '%s\n' "$*"; }
die()  { say "FAIL  $*"; exit 1; }
dev()  { nsenter -t "$pid" -n env DOCKER_HOST="unix://$place/socket/docker.sock" DEVENV_STATE_DIR="$place/state" \
           DEVENV_RUNTIME_DIR="$place/run" NO_COLOR=1 "$binary" --project "$place/project" "$@"; }
inner() { docker -H "unix://$place/socket/docker.sock" "$@"; }
code() { local status=0; "$@" >/dev/null 2>&1 </dev/null || status=$?; echo "$status"; }
field() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }

close() {
  if [[ -n $container ]]; then
    dev down --all --volumes >/dev/null 2>&1 || true
    dev daemon stop >/dev/null 2>&1 || true
    docker rm -f -v "$container" >/dev/null
    container=
  fi
}
trap 'close; rm -rf "$place"' EXIT

drive() {
  local image=$1 began
  mkdir -p "$place/socket" "$place/project/profiles"
  container=devenv-engines-$$
  docker run -d "${rights[@]}" --name "$container" -v "$place/socket:/run/docker-engine" "$image" \
    --host=unix:///run/docker-engine/docker.sock >/dev/null
  pid=$(docker inspect -f '{{.State.Pid}}' "$container")
  for _ in {1..150}; do [[ $(code inner version) == 0 ]] && break; sleep 0.2; done
  inner version >/dev/null || { docker logs "$container" 2>&1 | tail -n 20; die "$image: its engine does not answer"; }
  say "engine $(inner version -f '{{.Server.Version}}, API {{.Server.MinAPIVersion}} to {{.Server.APIVersion}}') in a container of $(docker version -f '{{.Server.Version}}, API {{.Server.APIVersion}}')"
  docker save "${carried[@]}" | inner load | sed 's/^/  /'

  dev doctor --json | field "['checks'][0]" | sed 's/^/  doctor: /'
  began=$(date +%s%N)
  [[ $(dev up data --json 2>"$place/progress" | field "['phase']") == ready ]] || { cat "$place/progress"; die "up data"; }
  say "  up data: ready after $(( ($(date +%s%N) - began) / 1000000 )) ms"
  dev daemon status --json | field "['engine']" | sed 's/^/  daemon: /'
  [[ $(dev run -- sh -c 'nsenter -t "$0" -n psql -XqAt "$DATABASE_URL" -c "create table kept (x int); insert into kept values (7); select x from kept"' "$pid") == 7 ]] || die "psql"
  [[ $(dev run -- sh -c 'redis-cli --no-auth-warning -u "$REDIS_URL" ping') == PONG ]] || die "redis-cli"
  [[ $(code dev exec cache -- sh -c 'exit 7') == 7 ]] || die "exec hands the exit code through"
  [[ $(code dev exec cache -- /no/such/program) == 127 ]] || die "exec of a program that is not there"
  [[ $(code dev exec cache -- /etc/passwd) == 126 ]] || die "exec of a file that cannot be run"
  [[ $(dev logs db --json | wc -l) -gt 3 ]] || die "logs"
  say "  psql, redis-cli, exec, logs: ok"

  inner kill "$(dev status --json | field "['services'][1]['container']")" >/dev/null
  dev wait --timeout 20s >/dev/null 2>&1 || true
  for _ in {1..100}; do [[ $(dev status --json | field "['services'][1]['restarts']") == 1 ]] && break; sleep 0.1; done
  [[ $(code dev wait cache --timeout 20s) == 0 ]] || die "a killed service does not come back"
  local before after
  before=$(dev status --json | field "['services'][0]['container']")
  kill -KILL "$(dev daemon status --json | field "['pid']")"
  after=$(dev status --json | field "['services'][0]['container']")
  [[ $before == "$after" && $(code dev wait --timeout 20s) == 0 ]] || die "the next daemon does not adopt"
  say "  killed service and killed daemon: recovered"

  dev down >/dev/null 2>&1 && dev up data >/dev/null 2>&1
  [[ $(dev run -- sh -c 'psql -XqAt "$DATABASE_URL" -c "select x from kept"') == 7 ]] || die "data over down and up"
  dev down --volumes >/dev/null 2>&1 && dev gc --all >/dev/null 2>&1 && dev daemon stop >/dev/null 2>&1
  local left
  left="$(inner ps -aq) $(inner volume ls -q) $(inner network ls --filter label=dev.devenv.owner -q)"
  [[ -z ${left// /} ]] || die "left behind: $left"
  say "  down --volumes: nothing left"
  close
  rm -rf "${place:?}"/*
}

for image; do drive "$image"; done
say "all engines: ok"
