#!/bin/sh
# Arguments that begin with `-` or end in `.conf` are redis-server's. As root: owns /data, then steps down.
set -e

case $1 in
  -* | *.conf) set -- redis-server "$@" ;;
esac

if [ "$1" = redis-server ]; then
  shift
  # The official image is built with protected mode off: a container's ports are published on purpose. What is set by
  # the configuration file or the arguments still wins.
  case $1 in
    - | -v | --version | -h | --help | --test-memory | --check-system) ;;
    '' | -*) set -- --protected-mode no "$@" ;;
    *) if ! grep -qs '^ *protected-mode' "$1"; then
         configuration=$1; shift
         set -- "$configuration" --protected-mode no "$@"
       fi ;;
  esac
  set -- redis-server "$@"
  umask 0077
  if [ "$(id -u)" = 0 ]; then
    find . ! -user redis -exec chown redis:redis {} +
    exec setpriv --reuid=redis --regid=redis --clear-groups "$@"
  fi
fi
exec "$@"
