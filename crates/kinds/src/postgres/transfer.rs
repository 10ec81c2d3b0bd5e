//! PostgreSQL: exports in custom format, and dumps of servers elsewhere, taken by the tools in the service's own container.

use std::{io::Read, path::Path};

use async_trait::async_trait;
use devenv_api::Content;
use devenv_spec::ServiceSpec;

use super::{
    PostgresKind,
    backup::{Dump, Server},
    scripts::{authority, psql},
    spec::PostgresProvision,
};
use crate::{
    backup::BackupError,
    capability::{RemoteSource, ServerSite, Transfers},
    script::NOBODY,
    transfer::Address,
};

/// Options of an address that the tools take as a variable.
const OPTIONS: [(&str, &str); 13] = [
    ("sslmode", "PGSSLMODE"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslsni", "PGSSLSNI"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("require_auth", "PGREQUIREAUTH"),
    ("gssencmode", "PGGSSENCMODE"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("application_name", "PGAPPNAME"),
    ("client_encoding", "PGCLIENTENCODING"),
    ("options", "PGOPTIONS"),
];
/// Options that name files of this host.
const FILES: [&str; 6] = ["sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "passfile"];

#[async_trait]
impl Transfers for PostgresKind {
    fn databases(&self, service: &ServiceSpec) -> Vec<String> {
        PostgresProvision::of(service).into_iter().flat_map(|declared| declared.databases).map(|database| database.name).collect()
    }

    fn ending(&self) -> &'static str {
        "dump"
    }

    async fn export(&self, site: &ServerSite<'_>, database: Option<&str>, file: &Path) -> Result<Vec<Content>, BackupError> {
        Server::own(site.engine, site.container).dump(database.unwrap_or_default(), Dump::Foreign, file).await
    }

    fn check(&self, file: &Path) -> Result<(), (String, Option<String>)> {
        if let Some(tool) = compression(file) {
            let hint = format!("unpack it first: `{tool} --decompress --keep {}`", file.display());
            return Err((format!("{} is compressed", file.display()), Some(hint)));
        }
        match psql::reaches(file) {
            Ok(None) => Ok(()),
            Ok(Some((line, what))) => {
                let message = format!("{}:{line}: `{what}` reaches beyond the owner's role", file.display());
                Err((message, Some(authority::HINT.to_owned())))
            }
            Err(error) => Err((format!("cannot read {}: {error}", file.display()), None)),
        }
    }

    fn remote(&self) -> Result<&dyn RemoteSource, &'static str> {
        Ok(self)
    }
}

#[async_trait]
impl RemoteSource for PostgresKind {
    fn is_scheme(&self, scheme: &str) -> bool {
        matches!(scheme, "postgres" | "postgresql")
    }

    fn port(&self) -> u16 {
        5432
    }

    fn check(&self, address: &Address) -> Result<(), String> {
        address.options.iter().try_for_each(|(name, value)| setting(name, value).map(drop))
    }

    fn database(&self, address: &Address) -> String {
        address.database.clone().or_else(|| address.user.clone()).unwrap_or_else(|| "postgres".to_owned())
    }

    async fn fetch(
        &self,
        site: &ServerSite<'_>,
        address: &Address,
        through: (String, u16),
        file: &Path,
    ) -> Result<Vec<Content>, BackupError> {
        let mut server = Server::own(site.engine, site.container);
        server.variables = variables(address, through);
        // What answers there is not ours.
        server.system_user = NOBODY;
        server.dump(&self.database(address), Dump::Foreign, file).await
    }
}

/// The name stays the server's own, for its certificate; the way there is another.
fn variables(address: &Address, (host, port): (String, u16)) -> Vec<(String, String)> {
    let mut variables = vec![
        ("PGHOST".to_owned(), address.host.clone()),
        ("PGHOSTADDR".to_owned(), host),
        ("PGPORT".to_owned(), port.to_string()),
        ("PGCONNECT_TIMEOUT".to_owned(), "10".to_owned()),
    ];
    variables.extend(address.user.clone().map(|user| ("PGUSER".to_owned(), user)));
    variables.extend(address.password.clone().map(|password| ("PGPASSWORD".to_owned(), password)));
    let said = address.options.iter().filter_map(|(name, value)| setting(name, value).ok());
    for (name, value) in said {
        // What the address says counts, and not what we would say.
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value));
    }
    variables
}

/// An option as a variable of the tools, or why it cannot be honoured: none is left out in silence.
fn setting(name: &str, value: &str) -> Result<(&'static str, String), String> {
    if let Some((_, variable)) = OPTIONS.iter().find(|(known, _)| *known == name) {
        return Ok((variable, value.to_owned()));
    }
    // The certificates that the system trusts are no file of ours.
    if name == "sslrootcert" && value == "system" {
        return Ok(("PGSSLROOTCERT", value.to_owned()));
    }
    if FILES.contains(&name) {
        return Err(format!("`{name}` names a file, and the tools run in the service's container, which does not have it"));
    }
    if matches!(name, "host" | "hostaddr" | "port" | "user" | "password" | "dbname") {
        return Err(format!("`{name}` is given as an option; write it as `postgres://USER:PASSWORD@HOST:PORT/DATABASE`"));
    }
    let known: Vec<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
    Err(format!("its option `{name}` means nothing here; remove it (known are {})", known.join(", ")))
}

/// The program that has compressed a file. A file that cannot be read is reported by what reads it.
fn compression(file: &Path) -> Option<&'static str> {
    let mut start = [0; 4];
    devenv_files::open_regular(file).ok()?.read_exact(&mut start).ok()?;
    match start {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0xfd, b'7', b'z', b'X'] => Some("xz"),
        [0x28, 0xb5, 0x2f, 0xfd] => Some("zstd"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compressed_dump_is_refused_with_the_program_that_unpacks_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dump.sql.gz");
        std::fs::write(&file, [0x1f, 0x8b, 8, 0]).unwrap();
        let (message, hint) = Transfers::check(&PostgresKind, &file).unwrap_err();
        assert!(message.ends_with("is compressed") && hint.unwrap().contains("`gzip --decompress --keep "), "{message}");
        std::fs::write(&file, "SELECT 1;\n").unwrap();
        Transfers::check(&PostgresKind, &file).unwrap();
    }

    fn parsed(text: &str) -> Address {
        Address::parse(text).unwrap().unwrap()
    }

    #[test]
    fn a_dump_that_runs_programs_or_leaves_its_role_is_refused_at_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("evil.sql");
        let check = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Transfers::check(&PostgresKind, &file).map_err(|(message, _)| message)
        };
        check("CREATE TABLE t (a text);\nCOPY t FROM stdin;\n\\! touch /tmp/x\n\\.\nSELECT '\\! x';\n").unwrap();
        check("PGDMP\u{1}\\! touch /tmp/x\n").unwrap();
        for text in ["SELECT 1;\n\\! touch /tmp/x\n", "SELECT 1;\nRESET ROLE;\n", "\n\\getenv a PGPASSWORD\n", "SELECT 1;\n\\o | sh\n"] {
            assert!(check(text).unwrap_err().contains("evil.sql:2: "), "{text}");
        }
    }

    #[test]
    fn the_tools_get_the_address_as_variables_and_reach_it_through_the_tunnel() {
        let variables =
            variables(&parsed("postgres://ada:p%40ss%2F1@db.example:6543/shop?sslmode=verify-full"), ("172.20.0.1".to_owned(), 4000));
        for (name, value) in [
            ("PGHOST", "db.example"),
            ("PGHOSTADDR", "172.20.0.1"),
            ("PGPORT", "4000"),
            ("PGUSER", "ada"),
            ("PGPASSWORD", "p@ss/1"),
            ("PGSSLMODE", "verify-full"),
        ] {
            assert_eq!(variables.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str()), Some(value));
        }
    }

    #[test]
    fn every_option_of_an_address_is_taken_or_refused_by_its_name() {
        let variables = variables(
            &parsed("postgres://h/d?application_name=a%20b&connect_timeout=3&sslrootcert=system"),
            ("172.20.0.1".to_owned(), 4000),
        );
        for (name, value) in [("PGAPPNAME", "a b"), ("PGCONNECT_TIMEOUT", "3"), ("PGSSLROOTCERT", "system")] {
            assert_eq!(variables.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str()), Some(value));
        }
        for (query, words) in [
            ("sslrootcert=/etc/ca.pem", "`sslrootcert` names a file"),
            ("schema=public", "its option `schema` means nothing here"),
            ("sslmode=require&pgbouncer", "its option `pgbouncer` means nothing here"),
            ("host=/run/postgresql", "`host` is given as an option"),
        ] {
            let error = RemoteSource::check(&PostgresKind, &parsed(&format!("postgres://h/d?{query}"))).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
