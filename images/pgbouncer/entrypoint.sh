#!/usr/bin/env bash
# Writes /etc/pgbouncer/pgbouncer.ini and userlist.txt from variables, unless such files are given, and starts the command.
#
#   DATABASE_URL, or DB_HOST, DB_PORT, DB_USER, DB_PASSWORD, DB_NAME (all databases when it is empty)
#   any setting of pgbouncer's section [pgbouncer] by its name in capitals: POOL_MODE, LISTEN_PORT, AUTH_TYPE, MAX_CLIENT_CONN, …
set -euo pipefail

settings=(listen_addr listen_port unix_socket_dir auth_type auth_file auth_user auth_query auth_hba_file auth_dbname admin_users stats_users
  pool_mode max_client_conn default_pool_size min_pool_size reserve_pool_size reserve_pool_timeout max_db_connections max_user_connections
  max_prepared_statements server_round_robin ignore_startup_parameters disable_pqexec application_name_add_host
  server_reset_query server_reset_query_always server_check_query server_check_delay server_lifetime server_idle_timeout
  server_connect_timeout server_login_retry client_login_timeout query_timeout query_wait_timeout client_idle_timeout
  idle_transaction_timeout autodb_idle_timeout dns_max_ttl dns_nxdomain_ttl log_connections log_disconnections log_pooler_errors
  log_stats stats_period verbose pkt_buf tcp_keepalive tcp_keepcnt tcp_keepidle tcp_keepintvl
  client_tls_sslmode client_tls_ca_file client_tls_cert_file client_tls_key_file server_tls_sslmode server_tls_ca_file)
directory=/etc/pgbouncer
defaults() { : "${LISTEN_ADDR:=0.0.0.0}" "${LISTEN_PORT:=5432}" "${AUTH_FILE:=$directory/userlist.txt}" "${AUTH_TYPE:=md5}" \
  "${ADMIN_USERS:=postgres}" "${IGNORE_STARTUP_PARAMETERS:=extra_float_digits}"; }

if [[ ! -e $directory/pgbouncer.ini ]]; then
  defaults
  if [[ ${DATABASE_URL:-} =~ ^postgres(ql)?://([^:@/]*)(:([^@/]*))?@([^:/?]+)(:([0-9]+))?(/([^?]*))? ]]; then
    DB_USER=${BASH_REMATCH[2]} DB_PASSWORD=${BASH_REMATCH[4]} DB_HOST=${BASH_REMATCH[5]}
    DB_PORT=${BASH_REMATCH[7]} DB_NAME=${BASH_REMATCH[9]}
  fi
  [[ -n ${DB_HOST:-} ]] || { echo "set DATABASE_URL or DB_HOST, or mount $directory/pgbouncer.ini" >&2; exit 1; }
  if [[ -n ${DB_USER:-} && ! -e $AUTH_FILE ]]; then
    printf '"%s" "%s"\n' "${DB_USER//\"/\"\"}" "${DB_PASSWORD//\"/\"\"}" >"$AUTH_FILE"
    chmod 600 "$AUTH_FILE"
  fi
  {
    printf '[databases]\n%s = host=%s port=%s' "${DB_NAME:-*}" "$DB_HOST" "${DB_PORT:-5432}"
    [[ -z ${AUTH_USER:-${DB_USER:-}} ]] || printf ' auth_user=%s' "${AUTH_USER:-$DB_USER}"
    printf '\n[pgbouncer]\n'
    for setting in "${settings[@]}"; do
      variable=${setting^^}
      [[ -z ${!variable:-} ]] || printf '%s = %s\n' "$setting" "${!variable}"
    done
  } >"$directory/pgbouncer.ini"
fi
exec "$@"
