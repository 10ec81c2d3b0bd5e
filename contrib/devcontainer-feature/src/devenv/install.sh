#!/bin/sh
# Run as root while the dev container is built; options come as variables. Everything is verified by the installer.
set -eu
if ! command -v curl >/dev/null 2>&1; then
  apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates curl
fi
if [ -z "${BASEURL:-}" ]; then
  echo "devenv: set the option baseUrl to the place of the releases" >&2
  exit 1
fi
installer=$(mktemp)
sums=$(mktemp)
trap 'rm -f "$installer" "$sums"' EXIT
curl --fail --silent --show-error --location --output "$installer" "$BASEURL/install.sh"
curl --fail --silent --show-error --location --output "$sums" "$BASEURL/SHA256SUMS"
expected=$(awk '$2 == "install.sh" { print $1 }' "$sums")
actual=$(sha256sum "$installer" | cut -d' ' -f1)
if [ -z "$expected" ] || [ "$expected" != "$actual" ]; then
  echo "devenv: the installer at $BASEURL does not have the checksum in SHA256SUMS" >&2
  exit 1
fi
sh "$installer" --base-url "$BASEURL" --prefix /usr/local
