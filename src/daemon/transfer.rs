//! Data that comes from elsewhere or goes there: a dump in a file, or a server at an address that the user gives.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use devenv_api::{ApiError, Compared, Content, ErrorCode, TransferRequest, Transferred};

use super::{
    Environments,
    backups::{opened, told},
    environments::Environment,
    internal,
};
use crate::{
    backup::{compare, verified},
    kinds::{
        postgres::{
            backup::{Dump, Server},
            spec::PostgresProvision,
        },
        redis::{backup as redis, spec::RedisProvision},
    },
    net::Tunnel,
    spec::{ServiceName, ServiceSpec},
};

impl Environments {
    pub(crate) async fn export(&self, environment: &Environment, request: &TransferRequest) -> Result<Transferred, ApiError> {
        let began = Instant::now();
        let (name, service) = service(environment, &request.service).await?;
        let place = PathBuf::from(&request.place);
        let instance = environment.instance(&name)?;
        let mut databases = Vec::new();
        if let Some(provision) = PostgresProvision::of(&service) {
            let server = Server::own(self.engine().as_ref(), &instance.id);
            let all = request.database.is_none() && place.is_dir();
            for (database, file) in targets(&provision, request.database.as_deref(), &place, all)? {
                let before = server.dump(&database, Dump::Foreign, &file).await.map_err(|error| told(&error))?;
                keep_manifest(&file, &before)?;
                databases.push(compare(&database, &before, &before));
            }
        } else if let Some(provision) = RedisProvision::of(&service) {
            let mut server = redis::Server::open(&provision, &environment.vault, environment.caretaker.authority())
                .await
                .map_err(|error| told(&error))?;
            let before = server.dump(self.engine().as_ref(), &instance.id, &place).await.map_err(|error| told(&error))?;
            keep_manifest(&place, &before)?;
            databases.push(compare(name.as_str(), &before, &before));
        } else {
            return Err(unsupported(&name, &service));
        }
        Ok(Transferred {
            service: name.to_string(),
            place: request.place.clone(),
            verified: true,
            databases,
            backup: None,
            elapsed_ms: began.elapsed().as_millis() as u64,
        })
    }

    /// What is there is backed up first; what comes is counted and compared with its source before it takes its place.
    pub(crate) async fn import(&self, environment: &Environment, request: &TransferRequest) -> Result<Transferred, ApiError> {
        let began = Instant::now();
        let (name, service) = service(environment, &request.service).await?;
        let saved = self.save_backup(environment, std::slice::from_ref(&name)).await?;
        let (place, databases) = if let Some(provision) = PostgresProvision::of(&service) {
            match Address::parse(&request.place, "postgres")? {
                Some(address) => (address.shown(), vec![self.import_from_server(environment, &name, &provision, request, &address).await?]),
                None => (request.place.clone(), self.import_files(environment, &name, &provision, request).await?),
            }
        } else if let Some(provision) = RedisProvision::of(&service) {
            if Address::parse(&request.place, "redis")?.is_some() {
                return Err(ApiError::new(ErrorCode::Usage, "Redis is imported from a dump file")
                    .hint("`redis-cli -u URL --rdb FILE` writes one; the password goes into REDISCLI_AUTH"));
            }
            let file = PathBuf::from(&request.place);
            let is_dump = std::fs::File::open(&file).and_then(|mut file| {
                let mut magic = [0; 5];
                std::io::Read::read_exact(&mut file, &mut magic)?;
                Ok(&magic == b"REDIS")
            });
            if !is_dump.map_err(|error| ApiError::new(ErrorCode::Usage, format!("cannot read {}: {error}", file.display())))? {
                return Err(ApiError::new(ErrorCode::Usage, format!("{} is no dump of Redis", file.display()))
                    .hint("a `.jsonl` of keys is a data set: `seed:` in the profile"));
            }
            let fresh = self.redis_volume(environment, &name, &service, &file).await?;
            self.move_and_wait(environment, fresh).await?;
            let mut server = redis::Server::open(&provision, &environment.vault, environment.caretaker.authority())
                .await
                .map_err(|error| told(&error))?;
            let after = server.contents().await.map_err(|error| told(&error))?;
            let before = manifest(&file).unwrap_or_else(|| after.clone());
            (request.place.clone(), vec![compare(name.as_str(), &before, &after)])
        } else {
            return Err(unsupported(&name, &service));
        };
        Ok(Transferred {
            service: name.to_string(),
            place,
            verified: verified(&databases),
            databases,
            backup: Some(saved.id),
            elapsed_ms: began.elapsed().as_millis() as u64,
        })
    }

    async fn import_files(
        &self,
        environment: &Environment,
        name: &ServiceName,
        provision: &PostgresProvision,
        request: &TransferRequest,
    ) -> Result<Vec<Compared>, ApiError> {
        let place = PathBuf::from(&request.place);
        let instance = environment.instance(name)?;
        let server = Server::own(self.engine().as_ref(), &instance.id);
        let mut compared = Vec::new();
        for (database, file) in targets(provision, request.database.as_deref(), &place, place.is_dir())? {
            let arrived = server.restore(provision, &database, Dump::Foreign, opened(&file).await?).await.map_err(|error| told(&error))?;
            // A manifest of our own says more than the dump itself, in which rows can be counted.
            let source = manifest(&file).unwrap_or(arrived.promised);
            compared.push(self.put_in_place(&server, &database, &source, &arrived.contents).await?);
        }
        self.provision_again(environment, provision).await?;
        environment.reread(name).await;
        Ok(compared)
    }

    async fn import_from_server(
        &self,
        environment: &Environment,
        name: &ServiceName,
        provision: &PostgresProvision,
        request: &TransferRequest,
        address: &Address,
    ) -> Result<Compared, ApiError> {
        let database = match &request.database {
            Some(database) => database.clone(),
            None => provision.databases.first().map(|database| database.name.clone()).unwrap_or_default(),
        };
        let instance = environment.instance(name)?;
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let gateway = record
            .subnet
            .and_then(|subnet| subnet.hosts().next())
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the environment has no network"))?;
        // The tools are in a container, which does not reach what listens on this host's loopback.
        let tunnel = Tunnel::open(gateway.into(), &address.host, address.port)
            .await
            .map_err(|error| ApiError::new(ErrorCode::Failed, format!("cannot reach {}: {error}", address.shown())))?;
        let file = tempfile::NamedTempFile::new().map_err(internal)?;
        let mut server = Server::own(self.engine().as_ref(), &instance.id);
        server.variables = address.variables(gateway.to_string(), tunnel.port());
        let before = server
            .dump(&address.database, Dump::Foreign, file.path())
            .await
            .map_err(|error| ApiError::new(ErrorCode::Failed, address.redact(&told(&error).message)))?;
        drop(tunnel);
        let server = Server::own(self.engine().as_ref(), &instance.id);
        let arrived =
            server.restore(provision, &database, Dump::Foreign, opened(file.path()).await?).await.map_err(|error| told(&error))?;
        let named = |contents: Vec<Content>| -> Vec<Content> {
            contents
                .into_iter()
                .map(|content| Content { name: content.name.replacen(&address.database, &database, 1), ..content })
                .collect()
        };
        let compared = self.put_in_place(&server, &database, &named(before), &arrived.contents).await?;
        self.provision_again(environment, provision).await?;
        environment.reread(name).await;
        Ok(compared)
    }

    async fn put_in_place(
        &self,
        server: &Server<'_>,
        database: &str,
        source: &[Content],
        arrived: &[Content],
    ) -> Result<Compared, ApiError> {
        let compared = compare(database, source, arrived);
        if !compared.differences.is_empty() {
            server.discard(database).await;
            let message = format!("what arrived is not what was sent: {}", compared.differences.join("; "));
            return Err(ApiError::new(ErrorCode::Failed, message).hint("nothing was changed"));
        }
        server.swap(database).await.map_err(|error| told(&error))?;
        Ok(compared)
    }
}

async fn service(environment: &Environment, name: &str) -> Result<(ServiceName, ServiceSpec), ApiError> {
    let spec = environment.spec().await?;
    let found = spec.services.into_iter().find(|(known, _)| known.as_str() == name);
    found.ok_or_else(|| {
        ApiError::new(ErrorCode::NotFound, format!("there is no service `{name}` in this environment"))
            .hint("`devenv status` lists the services")
    })
}

fn unsupported(name: &ServiceName, service: &ServiceSpec) -> ApiError {
    ApiError::new(ErrorCode::Usage, format!("`{name}` is a {} service, which has no dump", service.kind))
        .hint("PostgreSQL and Redis have; `devenv snapshot` copies the data of all")
}

/// One database and the file, or every one of them with its file in a directory.
fn targets(provision: &PostgresProvision, wanted: Option<&str>, place: &Path, all: bool) -> Result<Vec<(String, PathBuf)>, ApiError> {
    let names: Vec<&str> = provision.databases.iter().map(|database| database.name.as_str()).collect();
    match wanted {
        Some(name) if !names.contains(&name) => {
            Err(ApiError::new(ErrorCode::NotFound, format!("the profile declares no database `{name}`"))
                .hint(format!("it declares {}", names.join(", "))))
        }
        Some(name) => Ok(vec![(name.to_owned(), place.to_owned())]),
        None if all => Ok(names.iter().map(|name| ((*name).to_owned(), place.join(format!("{name}.dump")))).collect()),
        None => Ok(vec![(names.first().copied().unwrap_or_default().to_owned(), place.to_owned())]),
    }
}

/// Beside the dump, so that whoever reads it back can compare.
fn manifest_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".manifest.json");
    name.into()
}

fn keep_manifest(file: &Path, contents: &[Content]) -> Result<(), ApiError> {
    crate::store::write_atomically(&manifest_of(file), &serde_json::to_vec_pretty(contents).expect("plain data")).map_err(internal)
}

fn manifest(file: &Path) -> Option<Vec<Content>> {
    serde_json::from_slice(&std::fs::read(manifest_of(file)).ok()?).ok()
}

/// A server that the user names, taken apart so that its password is never part of a command.
#[derive(PartialEq, Eq)]
struct Address {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: u16,
    database: String,
    /// What `sslmode` and its like mean, as variables of the tools.
    settings: Vec<(&'static str, String)>,
}

impl Address {
    /// `None` if it is a path.
    fn parse(text: &str, scheme: &str) -> Result<Option<Self>, ApiError> {
        let Some((found, rest)) = text.split_once("://") else { return Ok(None) };
        let wrong = |what: &str| ApiError::new(ErrorCode::Usage, format!("the address cannot be used: {what}"));
        if !found.starts_with(scheme) {
            return Err(wrong(&format!("its scheme is `{found}`, and this service's is `{scheme}`")));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(decoded(user)), Some(decoded(password)).filter(|password| !password.is_empty())),
            None => (None, None),
        };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| wrong("its port is no number"))?),
            _ => (host, 5432),
        };
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let database = decoded(database);
        let mut settings = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            settings.push(setting(&decoded(name), decoded(value)).map_err(|why| wrong(&why))?);
        }
        let database = if database.is_empty() { user.clone().unwrap_or_else(|| "postgres".to_owned()) } else { database };
        Ok(Some(Self {
            scheme: found.to_owned(),
            user,
            password,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            database,
            settings,
        }))
    }

    fn shown(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        format!("{}://{user}{}:{}/{}", self.scheme, self.host, self.port, self.database)
    }

    fn redact(&self, text: &str) -> String {
        self.password.as_ref().map_or_else(|| text.to_owned(), |password| text.replace(password, "********"))
    }

    /// The name stays the server's own, for its certificate; the way there is the tunnel's.
    fn variables(&self, gateway: String, port: u16) -> Vec<(String, String)> {
        let mut variables = vec![
            ("PGHOST".to_owned(), self.host.clone()),
            ("PGHOSTADDR".to_owned(), gateway),
            ("PGPORT".to_owned(), port.to_string()),
            ("PGCONNECT_TIMEOUT".to_owned(), "10".to_owned()),
        ];
        variables.extend(self.user.clone().map(|user| ("PGUSER".to_owned(), user)));
        variables.extend(self.password.clone().map(|password| ("PGPASSWORD".to_owned(), password)));
        // What the address says counts, and not what we would say.
        variables.retain(|(name, _)| !self.settings.iter().any(|(set, _)| set == name));
        variables.extend(self.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        variables
    }
}

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

/// An option as a variable of the tools, or why it cannot be honoured: none is left out in silence.
fn setting(name: &str, value: String) -> Result<(&'static str, String), String> {
    if let Some((_, variable)) = OPTIONS.iter().find(|(known, _)| *known == name) {
        return Ok((variable, value));
    }
    // The certificates that the system trusts are no file of ours.
    if name == "sslrootcert" && value == "system" {
        return Ok(("PGSSLROOTCERT", value));
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

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten().and_then(|pair| u8::from_str_radix(pair, 16).ok());
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_apart_and_shown_without_its_password() {
        let address =
            Address::parse("postgres://ada:p%40ss%2F1@db.example:6543/shop?sslmode=verify-full", "postgres").ok().flatten().unwrap();
        assert_eq!(address.password.as_deref(), Some("p@ss/1"));
        assert_eq!(address.shown(), "postgres://ada@db.example:6543/shop");
        assert_eq!(address.redact("no: p@ss/1"), "no: ********");
        let variables = address.variables("172.20.0.1".to_owned(), 4000);
        assert!(variables.contains(&("PGSSLMODE".to_owned(), "verify-full".to_owned())));
        assert!(variables.contains(&("PGHOST".to_owned(), "db.example".to_owned())));
        assert_eq!(Address::parse("postgresql://h/", "postgres").ok().flatten().unwrap().port, 5432);
        assert!(Address::parse("dumps/a.dump", "postgres").is_ok_and(|found| found.is_none()));
        assert!(Address::parse("mysql://h/x", "postgres").is_err());
        assert!(Address::parse("postgres://h:x/x", "postgres").is_err());
    }

    #[test]
    fn every_option_of_an_address_is_taken_or_refused_by_its_name() {
        let address = Address::parse("postgres://h/d?application_name=a%20b&connect_timeout=3&sslrootcert=system", "postgres");
        let variables = address.ok().flatten().unwrap().variables("172.20.0.1".to_owned(), 4000);
        for (name, value) in [("PGAPPNAME", "a b"), ("PGCONNECT_TIMEOUT", "3"), ("PGSSLROOTCERT", "system")] {
            assert_eq!(variables.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str()), Some(value));
        }
        for (query, words) in [
            ("sslrootcert=/etc/ca.pem", "`sslrootcert` names a file"),
            ("schema=public", "its option `schema` means nothing here"),
            ("sslmode=require&pgbouncer", "its option `pgbouncer` means nothing here"),
            ("host=/run/postgresql", "`host` is given as an option"),
        ] {
            let Err(error) = Address::parse(&format!("postgres://h/d?{query}"), "postgres") else { panic!("{query}") };
            assert!(error.message.contains(words), "{}", error.message);
        }
    }
}
