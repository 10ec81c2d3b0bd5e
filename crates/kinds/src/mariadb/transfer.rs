//! Exports as SQL, and dumps of other servers, made by the tools in the service's own container.

use std::path::Path;

use async_trait::async_trait;
use devenv_api::Content;
use devenv_spec::ServiceSpec;

use super::{
    MariadbKind,
    backup::Reach,
    dump::{dump, fetch},
    fields::PORT,
    spec::MariadbProvision,
};
use crate::{
    backup::BackupError,
    capability::{RemoteSource, ServerSite, Transfers},
    script::NOBODY,
    transfer::Address,
};

#[async_trait]
impl Transfers for MariadbKind {
    fn databases(&self, service: &ServiceSpec) -> Vec<String> {
        MariadbProvision::of(service).into_iter().flat_map(|declared| declared.databases).map(|database| database.name).collect()
    }

    fn ending(&self) -> &'static str {
        "sql"
    }

    async fn export(&self, site: &ServerSite<'_>, database: Option<&str>, file: &Path) -> Result<Vec<Content>, BackupError> {
        dump(site, database.unwrap_or_default(), false, file).await
    }

    fn remote(&self) -> Result<&dyn RemoteSource, &'static str> {
        Ok(self)
    }
}

#[async_trait]
impl RemoteSource for MariadbKind {
    fn is_scheme(&self, scheme: &str) -> bool {
        matches!(scheme, "mysql" | "mariadb")
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn check(&self, address: &Address) -> Result<(), String> {
        if address.database.is_none() {
            return Err("it has no database".to_owned());
        }
        tls(address).map(drop)
    }

    fn database(&self, address: &Address) -> String {
        address.database.clone().unwrap_or_default()
    }

    async fn fetch(
        &self,
        site: &ServerSite<'_>,
        address: &Address,
        through: (String, u16),
        file: &Path,
    ) -> Result<Vec<Content>, BackupError> {
        let (host, port) = through;
        let tls = tls(address).map_err(|reason| BackupError::refused("use the address", reason))?;
        let user = address.user.clone().unwrap_or_else(|| "root".to_owned());
        let password = address.password.clone().unwrap_or_default();
        // What answers there is not ours.
        let reach = Reach { host, port, user, password, tls, system_user: NOBODY };
        fetch(site, &reach, &self.database(address), file).await
    }
}

/// How the tools encrypt, or why an option of the URL is not supported: none is ignored silently.
fn tls(address: &Address) -> Result<&'static str, String> {
    const ENCRYPTED: &str = "ssl\nskip-ssl-verify-server-cert";
    let mut chosen = "skip-ssl-verify-server-cert";
    for (name, value) in &address.options {
        chosen = match (name.as_str(), value.to_ascii_uppercase().as_str()) {
            ("ssl-mode" | "sslmode", "DISABLED" | "DISABLE") => "skip-ssl",
            ("ssl-mode" | "sslmode", "PREFERRED" | "PREFER") => chosen,
            ("ssl-mode" | "sslmode", "REQUIRED" | "REQUIRE") => ENCRYPTED,
            ("ssl-mode" | "sslmode", _) => {
                return Err(format!(
                    "`{name}={value}` is not supported: the tools connect through a tunnel, under another name than the certificate's"
                ));
            }
            _ => return Err(format!("its option `{name}` is not supported; remove it (the only supported option is ssl-mode)")),
        };
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_an_address_is_taken_or_refused_by_its_name() {
        let check = |text: &str| RemoteSource::check(&MariadbKind, &Address::parse(text).unwrap().unwrap());
        assert_eq!(check("mysql://a:b@h/shop?ssl-mode=REQUIRED"), Ok(()));
        assert_eq!(check("mysql://a:b@h/"), Err("it has no database".to_owned()));
        for (query, words) in [
            ("ssl-mode=VERIFY_IDENTITY", "`ssl-mode=VERIFY_IDENTITY` is not supported"),
            ("charset=utf8", "its option `charset` is not supported"),
        ] {
            let error = check(&format!("mysql://h/d?{query}")).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
