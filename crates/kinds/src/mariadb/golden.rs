//! MariaDB's golden volumes: flushing a server so that its files are complete, and checking whether it has written since.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use devenv_spec::{OfKind, ServiceSpec};

use super::{
    MariadbKind,
    fields::DATA,
    provision::superuser,
    session::{Session, reason},
    spec::MariadbProvision,
};
use crate::{
    capability::{Golden, GoldenServer, LogRange},
    provision::ProvisionContext,
};

/// A file that our own image keeps there while it initialises.
const INITIALISING: &str = ".initialising";
/// The file with the version that wrote the catalogue.
const VERSION: &str = "mariadb_upgrade_info";
/// The time limit for every changed page to be written.
const PATIENCE: Duration = Duration::from_secs(10);
const FLUSH: &str = "SET GLOBAL innodb_max_dirty_pages_pct_lwm = 0, innodb_max_dirty_pages_pct = 0";
const DIRTY: &str = "SELECT COUNT(*) FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'INNODB_BUFFER_POOL_PAGES_DIRTY' AND VARIABLE_VALUE <> '0'";
const POSITION: &str = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'INNODB_LSN_CURRENT'";

impl Golden for MariadbKind {
    fn directory(&self) -> &'static str {
        DATA
    }

    fn left_behind(&self) -> &'static [&'static str] {
        &["data/ibtmp1", "data/ib_buffer_pool"]
    }

    fn key(&self, provision: &OfKind) -> Option<String> {
        let mut declared: MariadbProvision = provision.decode().ok()?;
        declared.port = 0;
        serde_json::to_string(&declared).ok()
    }

    fn check(&self, service: &ServiceSpec, data: &Path) -> Option<Result<(), (String, String)>> {
        let found = std::fs::read_to_string(data.join(VERSION)).ok()?;
        Some(version_fits(service, found.trim()))
    }

    fn served(&self, data: &Path) -> bool {
        data.join("mysql").is_dir() && !data.join(INITIALISING).exists()
    }

    fn server(&self, provision: &OfKind, cx: ProvisionContext) -> Option<Box<dyn GoldenServer>> {
        Some(Box::new(Watched { declared: provision.decode().ok()?, cx }))
    }
}

/// The log is one file, which is always copied.
struct Whole;

impl LogRange for Whole {
    fn is_needless(&self, _: &Path) -> bool {
        false
    }
}

/// The server that is copied, through a superuser session.
struct Watched {
    declared: MariadbProvision,
    cx: ProvisionContext,
}

#[async_trait]
impl GoldenServer for Watched {
    /// Waits until no page is left to write, so that the data files are complete without the log.
    async fn checkpoint(&self) -> Result<(Box<dyn LogRange>, String), String> {
        let mut session = self.session().await?;
        let one = |rows: Vec<super::session::Texts>| rows.into_iter().flatten().flatten().collect::<Vec<_>>();
        let flushed = async {
            let settings = one(session.rows("SELECT @@innodb_max_dirty_pages_pct, @@innodb_max_dirty_pages_pct_lwm").await?);
            session.run_all(&["FLUSH TABLES", FLUSH].map(str::to_owned)).await?;
            let until = tokio::time::Instant::now() + PATIENCE;
            while one(session.rows(DIRTY).await?).first().is_some_and(|dirty| dirty != "0") && tokio::time::Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if let [most, low] = &settings[..] {
                let restore = format!("SET GLOBAL innodb_max_dirty_pages_pct = {most}, innodb_max_dirty_pages_pct_lwm = {low}");
                session.run(&restore).await?;
            }
            session.rows(POSITION).await
        };
        let position = flushed.await.map_err(|error| reason(&error))?;
        session.close().await;
        Ok((Box::new(Whole), one(position).concat()))
    }

    async fn position(&self) -> Result<String, String> {
        let mut session = self.session().await?;
        let position = session.rows(POSITION).await.map_err(|error| reason(&error))?;
        session.close().await;
        Ok(position.into_iter().flatten().flatten().collect())
    }

    async fn next_writer(&self) -> Result<String, String> {
        let mut session = self.session().await?;
        let status = session.rows("SHOW ENGINE INNODB STATUS").await.map_err(|error| reason(&error))?;
        session.close().await;
        let text: String = status.into_iter().flatten().flatten().collect();
        next_transaction(&text).map(str::to_owned).ok_or_else(|| "it does not report its next transaction".to_owned())
    }
}

impl Watched {
    async fn session(&self) -> Result<Session, String> {
        let login =
            superuser(&self.declared.target(), &self.cx.vault, self.cx.authority.clone(), None).map_err(|error| error.to_string())?;
        login.open().await.map_err(|error| reason(&error))
    }
}

/// `Trx id counter 1234`
fn next_transaction(status: &str) -> Option<&str> {
    status.lines().find_map(|line| line.trim().strip_prefix("Trx id counter "))
}

/// MariaDB refuses the data of a later version with an unclear message: this explains what to do, and starts nothing.
fn version_fits(spec: &ServiceSpec, found: &str) -> Result<(), (String, String)> {
    let wanted = spec.container().and_then(|container| release(container.image.name().rsplit_once(':')?.1));
    let (Some(wanted), Some(written)) = (wanted, release(found)) else { return Ok(()) };
    if written <= wanted {
        return Ok(());
    }
    let (service, (major, minor)) = (&spec.name, written);
    let cause = format!(
        "the data of `{service}` was written by MariaDB {major}.{minor}, but the profile requires MariaDB {}.{}, which cannot read it; \
            the server was not started",
        wanted.0, wanted.1
    );
    let fix = format!("set `version: \"{major}.{minor}\"`. To drop the data, run `devenv reset {service}` (`devenv undo` brings it back)");
    Err((cause, fix))
}

/// `11.8` of `11.8.9-MariaDB`; `None` unless both numbers exist.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_start_that_was_cut_off_has_served_nobody() {
        let data = tempfile::tempdir().unwrap();
        assert!(!MariadbKind.served(data.path()));
        std::fs::create_dir(data.path().join("mysql")).unwrap();
        assert!(MariadbKind.served(data.path()));
        std::fs::write(data.path().join(INITIALISING), "").unwrap();
        assert!(!MariadbKind.served(data.path()));
    }

    #[test]
    fn releases_and_transactions_are_read_from_what_the_server_writes() {
        assert_eq!(release("11.8.9-MariaDB"), Some((11, 8)));
        assert_eq!(release("11.8"), Some((11, 8)));
        assert_eq!(release("lts"), None);
        assert_eq!(next_transaction("TRANSACTIONS\n------------\nTrx id counter 57\nPurge done"), Some("57"));
    }
}
