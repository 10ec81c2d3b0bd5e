//! The SQL and the shell scripts that [`super`] runs in the container. Constants only.

/// Every table whose rows a dump contains; the checksum does not depend on their order.
pub(super) const COUNT: &str = r#"
SELECT format('SELECT ''=%s'', count(*), coalesce(sum((''x''||left(md5(t::text),15))::bit(60)::bigint),0) FROM %I.%I AS t', replace(format('%I.%I', n.nspname, c.relname), '''', ''''''), n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'devenv') AND n.nspname NOT LIKE 'pg\_toast%'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1 \gexec
"#;

pub(super) const PLAIN: &str = "SET client_min_messages = error; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'; SET intervalstyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex'; SET statement_timeout = 0; SET row_security = off;\n";

/// The dump goes to standard output, the counts to standard error, each after a mark.
pub(super) const DUMP: &str = r#"set -eu
printf '%s' "$DEVENV_SQL" | psql -X -q -A -t -F "$(printf '\t')" -v ON_ERROR_STOP=1 --no-password -f -
"#;

/// What the scripts that make a database begin with.
pub(super) const PARTS: &str = r#"set -eu
umask 077
run() { psql -X -q -v ON_ERROR_STOP=1 --no-password -v "db=$DEVENV_DATABASE" -v "new=$DEVENV_NEW" -v "owner=$DEVENV_OWNER" "$@"; }
receive() {
  d=$(mktemp -d /tmp/devenv.XXXXXX)
  trap 'rm -rf "$d"' EXIT
  cat > "$d/dump"
  [ "$(wc -c < "$d/dump")" -eq "$DEVENV_SIZE" ] || { echo 'the dump did not arrive as a whole' >&2; exit 1; }
}
make() { printf '%s' 'DROP DATABASE IF EXISTS :"new" WITH (FORCE); CREATE DATABASE :"new" OWNER :"owner" TEMPLATE template0;' | run -d postgres -f -; }
count() {
  printf '%s' 'ANALYZE;' | run -d "$DEVENV_NEW" -f -
  printf '%s' "$DEVENV_SQL" | run -A -t -F "$(printf '\t')" -d "$DEVENV_NEW" -f -
}
"#;

/// A dump of this very service, by the superuser.
pub(super) const RESTORE_OWN: &str = r#"receive
make
if [ "$(head -c 5 "$d/dump")" = PGDMP ]; then
  pg_restore --exit-on-error -d "$DEVENV_NEW" "$d/dump"
else
  printf '%s' "$DEVENV_EXTENSIONS" | run -d "$DEVENV_NEW" -f -
  run -o /dev/null -1 -U "$DEVENV_OWNER" -d "$DEVENV_NEW" -f "$d/dump"
fi
count
"#;

/// The empty database for a dump from elsewhere, by the superuser.
pub(super) const MAKE: &str = r#"make
printf '%s' "$DEVENV_EXTENSIONS" | run -d "$DEVENV_NEW" -f -
"#;

/// The dump from elsewhere runs in sessions of the owner, who is no superuser whatever it says, and as a system user whom the
/// socket trusts with nothing. So do its counts, whose casts are its own.
pub(super) const FILL: &str = r#"receive
rows() { awk '/^COPY /&&/ FROM stdin;$/{t=$0;sub(/^COPY /,"",t);sub(/ \(.*/,"",t);sub(/ FROM stdin;$/,"",t);n=0;c=1;next} c&&/^\\\.$/{printf "~%s\t%d\n",t,n;c=0;next} c{n++}'; }
if [ "$(head -c 5 "$d/dump")" = PGDMP ]; then
  pg_restore -l "$d/dump" > "$d/all"
  grep -v -E '^[0-9]+; [0-9]+ [0-9]+ (SCHEMA - (public|devenv)|COMMENT - SCHEMA (public|devenv)|COMMENT - EXTENSION|[A-Z ]+ devenv) ' "$d/all" > "$d/list" || true
  pg_restore --exit-on-error --no-owner --no-privileges -L "$d/list" -d "$DEVENV_NEW" "$d/dump"
  pg_restore -a --no-owner -L "$d/list" -f - "$d/dump" | rows
else
  run -o /dev/null -1 -d "$DEVENV_NEW" -f "$d/dump"
  rows < "$d/dump"
fi
count
"#;

/// The ledger of the database in use, which stays its own.
pub(super) const KEEP_LEDGER: &str = r#"run -A -t -d "$DEVENV_DATABASE" -c "SELECT 1 FROM pg_namespace WHERE nspname = 'devenv'" | grep -q 1 && pg_dump -n devenv -d "$DEVENV_DATABASE" | run -o /dev/null -d "$DEVENV_NEW" -f - || true
"#;
