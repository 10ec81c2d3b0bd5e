#!/bin/sh
# Installs a release of devenv: the program, its completions and its manual pages, after verifying the checksum.
#
#   sh install.sh --base-url URL [--version V] [--prefix DIR] [--name NAME]
#
#   --base-url  the directory that holds SHA256SUMS and the archives: https:// or file://
#   --version   default: the only version in SHA256SUMS
#   --prefix    default: ~/.local
#   --name      the program's name, if `devenv` is taken (cachix/devenv has a command of the same name); default: devenv
#
# Nothing is installed unless everything was fetched and verified.
set -eu

die() { printf 'install: %s\n' "$@" >&2; exit 1; }
base_url= version= prefix=$HOME/.local name=devenv
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || die "$1 needs a value" "usage: install.sh --base-url URL [--version V] [--prefix DIR] [--name NAME]"
  case $1 in
    --base-url) base_url=${2%/} ;;
    --version) version=$2 ;;
    --prefix) prefix=$2 ;;
    --name) name=$2 ;;
    *) die "unknown option $1" ;;
  esac
  shift 2
done
case $base_url in
  https://* | file://*) ;;
  "") die "say where the releases are: --base-url URL" ;;
  *) die "the base URL has to begin with https:// or file://" ;;
esac
case $name in
  "" | *[!A-Za-z0-9_-]*) die "\`$name\` is no name for a program" ;;
esac
command -v curl >/dev/null 2>&1 || die "curl is missing"

case $(uname -s)-$(uname -m) in
  Linux-x86_64) target=x86_64-unknown-linux-musl ;;
  Linux-aarch64 | Linux-arm64) target=aarch64-unknown-linux-musl ;;
  *) die "there is no release for $(uname -s) on $(uname -m); build it: cargo install --path ." ;;
esac

if command -v sha256sum >/dev/null 2>&1; then
  sum() { sha256sum "$1" | cut -d' ' -f1; }
elif command -v shasum >/dev/null 2>&1; then
  sum() { shasum -a 256 "$1" | cut -d' ' -f1; }
else
  die "neither sha256sum nor shasum is there to verify the archive with"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
fetch() {
  curl --fail --silent --show-error --location --proto '=https,file' --max-time 600 --output "$work/$1" "$base_url/$1" ||
    die "cannot fetch $base_url/$1"
}

fetch SHA256SUMS
if [ -z "$version" ]; then
  version=$(sed -n "s/^[0-9a-f]\{64\}  devenv-\(.*\)-$target\.tar\.gz$/\1/p" "$work/SHA256SUMS")
  [ "$(printf '%s\n' "$version" | grep -c .)" = 1 ] || die "SHA256SUMS has no or several archives for $target; pass --version"
fi
archive=devenv-$version-$target.tar.gz
expected=$(awk -v file="$archive" '$2 == file { print $1 }' "$work/SHA256SUMS")
[ ${#expected} = 64 ] || die "SHA256SUMS does not list $archive"
fetch "$archive"
actual=$(sum "$work/$archive")
[ "$actual" = "$expected" ] || die "$archive is not what SHA256SUMS lists: nothing is installed" "  expected $expected" "  actual   $actual"

tar -xzf "$work/$archive" -C "$work"
from=$work/devenv-$version-$target
"$from/bin/devenv" --version >/dev/null || die "the program does not run on this machine: nothing is installed"
mkdir -p "$prefix/bin"
# Renamed into place, so that a running daemon keeps its own file.
cp "$from/bin/devenv" "$prefix/bin/.$name.new"
chmod 755 "$prefix/bin/.$name.new"
mv -f "$prefix/bin/.$name.new" "$prefix/bin/$name"
if [ "$name" = devenv ]; then
  cp -R "$from/share" "$prefix/"
fi
printf 'installed devenv %s as %s\n' "$version" "$prefix/bin/$name"
case :$PATH: in
  *:"$prefix/bin":*) ;;
  *) printf 'add it to your PATH: export PATH="%s/bin:$PATH"\n' "$prefix" ;;
esac
