#!/usr/bin/env bash
# devenv in a container, as CI jobs have it: with the engine's socket mounted, and with an engine in another container that
# is reached by TCP (DinD). In both, the addresses that it tells must work where it runs. Needs root for DinD.
#
#   tests/places.sh [BINARY]      default: target/debug/devenv
#
# Exit status: 0 all of it held, 1 it did not.
set -euo pipefail
binary=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/debug/devenv}")
place=$(mktemp -d /tmp/devenv-places-XXXXXX)
name=devenv-places-$$
# As in engines.sh: a machine that is itself confined may not be able to give --privileged.
rights=(--privileged)
bounding=$(awk '/^CapBnd/ { print $2 }' /proc/self/status)
(( 16#$bounding >> 24 & 1 )) || rights=(--cap-add ALL --cap-drop SYS_RESOURCE --security-opt seccomp=unconfined --security-opt apparmor=unconfined)

die() { printf 'FAIL  %s\n' "$*"; exit 1; }

close() {
  docker rm -f -v "$name-job" "$name-engine" >/dev/null 2>&1 || true
  docker network rm "$name" >/dev/null 2>&1 || true
  rm -rf "$place"
}
trap close EXIT

mkdir -p "$place/project/profiles" "$place/project/files"
echo seven > "$place/project/files/note"
cat > "$place/project/profiles/ci.yaml" <<'YAML'
services:
  cache:
    redis: {}
  reader:
    container:
      image: redis:8.0
      command: [sh, -c, "cat /files/note; exec sleep 86400"]
      volumes: [{ source: ./files, target: /files, read_only: true }]
    probe: { log: seven }
YAML

# What a job does; each line must succeed. The address is the one that a laptop would have.
cat > "$place/project/job.sh" <<'JOB'
set -ex
export DEVENV_STATE_DIR=/tmp/state DEVENV_RUNTIME_DIR=/tmp/run NO_COLOR=1
cd /project
devenv up ci
devenv run -- sh -c 'test "$CACHE_HOST" = 127.0.0.1'
devenv run -- sh -c 'redis-cli --no-auth-warning -u "$REDIS_URL" set key value'
devenv restart cache
devenv run -- sh -c 'test "$(redis-cli --no-auth-warning -u "$REDIS_URL" get key)" = value'
devenv lease cache -- sh -c 'test "$(redis-cli --no-auth-warning -u "$REDIS_URL" ping)" = PONG'
# A killed daemon takes its passages with it; the next one has them again.
kill -KILL "$(devenv daemon status --json | sed 's/.*"pid":\([0-9]*\).*/\1/')"
devenv wait
devenv run -- sh -c 'test "$(redis-cli --no-auth-warning -u "$REDIS_URL" get key)" = value'
devenv up ci
devenv test ci -- sh -c 'test "$(redis-cli --no-auth-warning -u "$REDIS_URL" ping)" = PONG'
devenv down --volumes
devenv gc --all
devenv daemon stop
JOB

job() {
  docker run --rm --name "$name-job" -v "$binary:/usr/local/bin/devenv:ro" -v "$place/project:/project" "$@" --entrypoint sh redis:8.0 \
    /project/job.sh >"$place/log" 2>&1 || { tail -n 40 "$place/log"; return 1; }
}

job -v /var/run/docker.sock:/var/run/docker.sock || die "with the engine's socket mounted"
echo "ok    with the engine's socket mounted"

docker network create "$name" >/dev/null
docker run -d "${rights[@]}" --name "$name-engine" --network "$name" --network-alias docker -v "$place/project:/project" \
  devenv/docker-engine:26.1.5 --host=tcp://0.0.0.0:2375 --tls=false >/dev/null
address=$(docker inspect -f "{{(index .NetworkSettings.Networks \"$name\").IPAddress}}" "$name-engine")
for _ in {1..150}; do docker -H "tcp://$address:2375" version >/dev/null 2>&1 && break; sleep 0.2; done
docker save redis:8.0 | docker -H "tcp://$address:2375" load >/dev/null || { docker logs "$name-engine" 2>&1 | tail -n 20; die "no inner engine"; }
job --network "$name" -e DOCKER_HOST=tcp://docker:2375 || die "with an engine in another container"
left=$(docker -H "tcp://$address:2375" ps -aq; docker -H "tcp://$address:2375" volume ls -q)
[[ -z $left ]] || die "left behind in the inner engine: $left"
echo "ok    with an engine in another container"
