#!/usr/bin/env bash
# Starts MariaDB as the official image documents it: an empty data directory is initialised by MARIADB_ROOT_PASSWORD,
# _ROOT_HOST, _DATABASE, _USER, _PASSWORD (each also as …_FILE) and the files of /docker-entrypoint-initdb.d, which see a server
# on the unix socket only. A directory counts as initialised once all of that is done: an interrupted first start begins again.
set -Eeo pipefail

fail() { printf 'error: %s\n' "$1" >&2; exit 1; }

# from_file NAME [DEFAULT]: sets NAME from itself, the file named by NAME_FILE, or the default.
from_file() {
  local name=$1 file=$1_FILE
  [[ -z ${!name:-} || -z ${!file:-} ]] || fail "both $name and $file are set, but they exclude each other"
  if [[ -n ${!file:-} ]]; then declare -g "$name=$(<"${!file}")"; else declare -g "$name=${!name:-${2:-}}"; fi
  unset "$file"
}

is_server() {
  [[ $1 == mariadbd || $1 == mysqld ]] || return 1
  local argument
  for argument; do
    case $argument in -\? | --help | -V | --version | --print-defaults) return 1 ;; esac
  done
}

# Sets `data` and `socket` to what the server makes of its files and arguments.
read_configuration() {
  local name value
  while read -r name value; do
    case $name in datadir) data=${value%/} ;; socket) socket=$value ;; esac
  done < <("$@" --verbose --help --log-bin-index="$(mktemp -u)" 2>/dev/null)
  [[ -n ${data:-} ]] || fail 'the server refuses its settings; its own words stand above'
}

# Root owns nothing here: hand the directories to mysql and start again as that user.
step_down() {
  mkdir -p "$data" "$(dirname "$socket")"
  find "$data" "$(dirname "$socket")" ! -user mysql -exec chown mysql:mysql {} +
  exec setpriv --reuid=mysql --regid=mysql --clear-groups "${BASH_SOURCE[0]}" "$@"
}

initialise() {
  from_file MARIADB_ROOT_PASSWORD
  from_file MARIADB_ROOT_HOST %
  from_file MARIADB_DATABASE
  from_file MARIADB_USER
  from_file MARIADB_PASSWORD
  [[ -n $MARIADB_ROOT_PASSWORD || -n ${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-} ]] || fail \
    'the data directory is empty and no root password is given: set MARIADB_ROOT_PASSWORD_FILE, or MARIADB_ALLOW_EMPTY_ROOT_PASSWORD=1 for none'

  find "$data" -mindepth 1 -maxdepth 1 ! -name lost+found -exec rm -rf {} +
  touch "$data/.initialising"
  sync "$data"
  mariadb-install-db --datadir="$data" --rpm --auth-root-authentication-method=normal --skip-test-db \
    --default-time-zone=SYSTEM --enforce-storage-engine= --skip-log-bin --loose-innodb_buffer_pool_load_at_startup=0 \
    --loose-innodb_buffer_pool_dump_at_shutdown=0 --innodb-flush-log-at-trx-commit=0 >/dev/null

  start_on_socket "$@"
  accounts | docker_process_sql --database=mysql
  MARIADB_ROOT_SET=1
  run_init_files /docker-entrypoint-initdb.d/*
  kill "$server"
  wait "$server" || true
  sync --file-system "$data"
  rm "$data/.initialising"
  sync "$data"
  printf '\nMariaDB init process done. Ready for start up.\n\n'
}

# Sets `server` to the process of a server that answers on the unix socket alone.
start_on_socket() {
  "$@" --skip-networking --socket="$socket" --default-time-zone=SYSTEM --skip-log-bin --skip-slave-start --skip-ssl \
    --loose-innodb_buffer_pool_load_at_startup=0 --innodb-flush-log-at-trx-commit=0 &
  server=$!
  until mariadb-admin --no-defaults --skip-ssl --socket="$socket" --user=root ${MARIADB_ROOT_SET:+--password="$MARIADB_ROOT_PASSWORD"} ping >/dev/null 2>&1; do
    kill -0 "$server" 2>/dev/null || fail 'the server did not start for initialisation'
    sleep 0.05
  done
}

quoted() { local text=${1//\\/\\\\}; printf "'%s'" "${text//\'/\\\'}"; }

accounts() {
  printf "DELETE FROM mysql.global_priv WHERE user NOT IN ('mariadb.sys', 'root', 'PUBLIC') OR user = 'root' AND host <> 'localhost';\nFLUSH PRIVILEGES;\n"
  if [[ $MARIADB_ROOT_HOST != localhost ]]; then
    printf "CREATE USER root@%s IDENTIFIED BY %s;\nGRANT ALL ON *.* TO root@%s WITH GRANT OPTION;\nGRANT PROXY ON ''@'%%' TO root@%s WITH GRANT OPTION;\n" \
      "$(quoted "$MARIADB_ROOT_HOST")" "$(quoted "$MARIADB_ROOT_PASSWORD")" "$(quoted "$MARIADB_ROOT_HOST")" "$(quoted "$MARIADB_ROOT_HOST")"
  fi
  [[ -z $MARIADB_DATABASE ]] || printf 'CREATE DATABASE IF NOT EXISTS `%s`;\n' "$MARIADB_DATABASE"
  if [[ -n $MARIADB_USER && -n $MARIADB_PASSWORD ]]; then
    printf "CREATE USER %s@'%%' IDENTIFIED BY %s;\n" "$(quoted "$MARIADB_USER")" "$(quoted "$MARIADB_PASSWORD")"
    [[ -z $MARIADB_DATABASE ]] || printf "GRANT ALL ON \`%s\`.* TO %s@'%%';\n" "${MARIADB_DATABASE//_/\\_}" "$(quoted "$MARIADB_USER")"
  fi
  printf 'SET PASSWORD FOR root@localhost = PASSWORD(%s);\n' "$(quoted "$MARIADB_ROOT_PASSWORD")"
}

# The name that scripts in initdb.d call, as documented by the official image. The password is in no argument.
docker_process_sql() {
  MYSQL_PWD=${MARIADB_ROOT_SET:+$MARIADB_ROOT_PASSWORD} mariadb --no-defaults --skip-ssl --protocol=socket --socket="$socket" --user=root \
    ${MARIADB_DATABASE:+--database="$MARIADB_DATABASE"} "$@"
}

run_init_files() {
  local file
  for file; do
    # shellcheck source=/dev/null
    case $file in
      *.sh) if [[ -x $file ]]; then echo "running $file"; "$file"; else echo "sourcing $file"; . "$file"; fi ;;
      *.sql) echo "running $file"; docker_process_sql <"$file" ;;
      *.sql.gz) echo "running $file"; gunzip --stdout "$file" | docker_process_sql ;;
      *.sql.xz) echo "running $file"; xz --decompress --stdout "$file" | docker_process_sql ;;
      *.sql.zst) echo "running $file"; zstd --decompress --stdout "$file" | docker_process_sql ;;
      */\*) ;;
      *) echo "ignoring $file" ;;
    esac
  done
}

[[ ${1:-} != -* ]] || set -- mariadbd "$@"
if is_server "$@"; then
  read_configuration "$@"
  (( EUID )) || step_down "$@"
  if [[ ! -d $data/mysql || -e $data/.initialising ]]; then initialise "$@"; fi
fi
exec "$@"
