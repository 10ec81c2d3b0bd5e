#!/bin/sh
# Arguments are the gateway's own. Without any: VGW_BACKEND (posix, …) with VGW_BACKEND_ARG (its directory, as one word),
# preceded by VGW_ARGS and followed by VGW_BACKEND_ARGS (both split into words).
set -e
if [ $# = 0 ]; then
  [ -n "$VGW_BACKEND" ] || { echo "give arguments, as in: posix /data ; or set VGW_BACKEND and VGW_BACKEND_ARG" >&2; exit 1; }
  # shellcheck disable=SC2086
  set -- $VGW_ARGS "$VGW_BACKEND" ${VGW_BACKEND_ARG:+"$VGW_BACKEND_ARG"} $VGW_BACKEND_ARGS
fi
exec "${VGW_BINARY:-/usr/local/bin/versitygw}" "$@"
