#!/usr/bin/env bash
# Starts RabbitMQ as the official image documents it: RABBITMQ_DEFAULT_USER, _PASS and _VHOST are settings of its own, and files
# in /etc/rabbitmq/conf.d configure it. As root: owns its data, then steps down, for the server as for its tools.
set -euo pipefail

for variable in RABBITMQ_DEFAULT_PASS_FILE RABBITMQ_DEFAULT_USER_FILE RABBITMQ_ERLANG_COOKIE_FILE; do
  [[ -z ${!variable:-} ]] || { echo "error: $variable is not supported; put the value into a file in /etc/rabbitmq/conf.d" >&2; exit 1; }
done

if [[ ${1:-} == rabbitmq* && $(id -u) == 0 ]]; then
  [[ $1 != rabbitmq-server ]] || find /var/lib/rabbitmq ! -user rabbitmq -exec chown rabbitmq:rabbitmq {} +
  exec setpriv --reuid=rabbitmq --regid=rabbitmq --clear-groups "${BASH_SOURCE[0]}" "$@"
fi
exec "$@"
