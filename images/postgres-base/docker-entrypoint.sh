#!/usr/bin/env bash
# Starts PostgreSQL as the official image documents it: an empty PGDATA is initialised by POSTGRES_USER, _PASSWORD, _DB,
# _INITDB_ARGS, _INITDB_WALDIR, _HOST_AUTH_METHOD (each also as …_FILE) and the files of /docker-entrypoint-initdb.d, which
# see a server on the unix socket only. Few programs are started on the way: each costs a restart its milliseconds.
set -Eeo pipefail

fail() { printf 'error: %s\n' "$1" >&2; exit 1; }

# from_file NAME [DEFAULT]: exports NAME from itself, the file named by NAME_FILE, or the default.
from_file() {
  local name=$1 file=$1_FILE
  [[ -z ${!name:-} || -z ${!file:-} ]] || fail "both $name and $file are set, but they exclude each other"
  if [[ -n ${!file:-} ]]; then export "$name=$(<"${!file}")"; else export "$name=${!name:-${2:-}}"; fi
  unset "$file"
}

is_server() {
  [[ $1 == postgres ]] || return 1
  local argument
  for argument; do
    case $argument in -\? | --help | --describe-config | -V | --version) return 1 ;; esac
  done
}

# Root owns nothing here: hand the directories to postgres and start again as that user.
step_down() {
  mkdir -p "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}
  chmod 700 "$PGDATA" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}
  chmod 3775 /var/run/postgresql
  find "$PGDATA" /var/run/postgresql ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"} ! -user postgres -exec chown postgres {} +
  export HOME=/var/lib/postgresql
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "${BASH_SOURCE[0]}" "$@"
}

initialise() {
  from_file POSTGRES_PASSWORD
  from_file POSTGRES_USER postgres
  from_file POSTGRES_DB "$POSTGRES_USER"
  from_file POSTGRES_INITDB_ARGS
  from_file POSTGRES_HOST_AUTH_METHOD
  [[ -n $POSTGRES_PASSWORD || $POSTGRES_HOST_AUTH_METHOD == trust ]] || fail \
    "PGDATA is empty and no superuser password is given: set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust for none"

  create_cluster "$@"
  start_on_socket "$@"
  export PGHOST=/var/run/postgresql PGPASSWORD=${PGPASSWORD:-$POSTGRES_PASSWORD}
  [[ $POSTGRES_DB == postgres ]] || docker_process_sql --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
  run_init_files /docker-entrypoint-initdb.d/*
  unset PGHOST PGPASSWORD
  kill -INT "$server"
  wait "$server"
  sync --file-system "$PGDATA" ${POSTGRES_INITDB_WALDIR:+"$POSTGRES_INITDB_WALDIR"}
  printf '\nPostgreSQL init process complete; ready for start up.\n\n'
}

create_cluster() {
  local arguments method
  eval "arguments=($POSTGRES_INITDB_ARGS)"
  if ! getent passwd "$EUID" >/dev/null; then # docker run --user: initdb wants a name for it
    NSS_WRAPPER_PASSWD=$(mktemp) NSS_WRAPPER_GROUP=$(mktemp) LD_PRELOAD=libnss_wrapper.so
    export NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP LD_PRELOAD
    printf 'postgres:x:%s:%s:PostgreSQL:%s:/bin/false\n' "$EUID" "$(id -g)" "$PGDATA" >"$NSS_WRAPPER_PASSWD"
    printf 'postgres:x:%s:\n' "$(id -g)" >"$NSS_WRAPPER_GROUP"
  fi
  # Not synced file by file: `initialise` ends with one sync of the file system.
  initdb --no-sync --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile <(printf '%s\n' "$POSTGRES_PASSWORD") \
    ${POSTGRES_INITDB_WALDIR:+--waldir "$POSTGRES_INITDB_WALDIR"} "${arguments[@]}"
  if [[ -n ${NSS_WRAPPER_PASSWD:-} ]]; then
    rm -f "$NSS_WRAPPER_PASSWD" "$NSS_WRAPPER_GROUP"
    unset NSS_WRAPPER_PASSWD NSS_WRAPPER_GROUP LD_PRELOAD
  fi

  method=$POSTGRES_HOST_AUTH_METHOD
  if [[ -z $method ]]; then
    case "$*" in
      *password_encryption* | *config_file*) method=$(postgres -C password_encryption "${@:2}") ;;
      *) method=scram-sha-256 ;; # the default since 14
    esac
  fi
  # Where Debian's clients look for the socket; servers built elsewhere would have it in /tmp.
  sed -i "s|^#\{0,1\}unix_socket_directories = '/tmp'|unix_socket_directories = '/var/run/postgresql'|" "$PGDATA/postgresql.conf"
  printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

# Sets `server` to the process of a server that answers on the unix socket alone.
start_on_socket() {
  local state=()
  "$@" -c listen_addresses='' -c unix_socket_directories=/var/run/postgresql -p 5432 &
  server=$!
  exec {tick}<> <(:) # a pipe on which nothing ever comes: reading it with a time limit sleeps without a program
  until [[ ${state[7]:-} == ready* ]]; do
    kill -0 "$server" 2>/dev/null || fail 'the server did not start for initialisation'
    read -r -t 0.01 -u "$tick" || true
    [[ ! -e $PGDATA/postmaster.pid ]] || mapfile -t state <"$PGDATA/postmaster.pid"
  done
  exec {tick}>&-
}

# The names that scripts in initdb.d call, as documented by the official image.
docker_process_sql() {
  PGDATABASE=$POSTGRES_DB psql --set ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"
}

run_init_files() {
  local file
  for file; do
    # shellcheck source=/dev/null
    case $file in
      *.sh) if [[ -x $file ]]; then echo "running $file"; "$file"; else echo "sourcing $file"; . "$file"; fi ;;
      *.sql) echo "running $file"; docker_process_sql --file "$file" ;;
      *.sql.gz) echo "running $file"; gunzip --stdout "$file" | docker_process_sql ;;
      *.sql.xz) echo "running $file"; xz --decompress --stdout "$file" | docker_process_sql ;;
      *.sql.zst) echo "running $file"; zstd --decompress --stdout "$file" | docker_process_sql ;;
      */\*) ;;
      *) echo "ignoring $file" ;;
    esac
  done
}

[[ ${1:-} != -* ]] || set -- postgres "$@"
if is_server "$@"; then
  from_file POSTGRES_INITDB_WALDIR
  (( EUID )) || step_down "$@"
  [[ -s $PGDATA/PG_VERSION ]] || initialise "$@"
fi
exec "$@"
