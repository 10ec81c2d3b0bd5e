//! Addresses of servers that a user names, taken apart so that a password is never part of a command.

/// `SCHEME://USER:PASSWORD@HOST:PORT/DATABASE?OPTIONS`
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    pub scheme: String,
    pub user: Option<String>,
    pub password: Option<String>,
    pub host: String,
    pub port: Option<u16>,
    pub database: Option<String>,
    /// In their order; a name without a value has an empty one.
    pub options: Vec<(String, String)>,
}

impl Address {
    /// `None` if the text is a path.
    pub fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        let Some((scheme, rest)) = text.split_once("://") else { return Ok(None) };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = authority.rsplit_once('@').map_or((None, authority), |(login, host)| (Some(login), host));
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            Some((user, password)) => (Some(decoded(user)), Some(decoded(password)).filter(|password| !password.is_empty())),
            None => (None, None),
        };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port.parse().map_err(|_| "its port is not a number")?)),
            _ => (host, None),
        };
        if host.is_empty() {
            return Err("it has no host");
        }
        let options = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Ok(Some(Self {
            scheme: scheme.to_owned(),
            user,
            password,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            database: Some(decoded(database)).filter(|database| !database.is_empty()),
            options: options.collect(),
        }))
    }

    /// As people may see it.
    pub fn shown(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{user}{}{port}/{}", self.scheme, self.host, self.database.as_deref().unwrap_or_default())
    }

    /// The text without the password.
    pub fn redact(&self, text: &str) -> String {
        self.password.as_ref().map_or_else(|| text.to_owned(), |password| text.replace(password, "********"))
    }
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
        let address = Address::parse("postgres://ada:p%40ss%2F1@db.example:6543/shop?sslmode=verify-full&x").unwrap().unwrap();
        assert_eq!((address.password.as_deref(), address.port, address.database.as_deref()), (Some("p@ss/1"), Some(6543), Some("shop")));
        assert_eq!(address.options, [("sslmode".to_owned(), "verify-full".to_owned()), ("x".to_owned(), String::new())]);
        assert_eq!(address.shown(), "postgres://ada@db.example:6543/shop");
        assert_eq!(address.redact("no p@ss/1"), "no ********");
        assert_eq!(Address::parse("postgresql://[::1]/").unwrap().unwrap().host, "::1");
        assert!(Address::parse("dumps/a.dump").unwrap().is_none());
        assert!(Address::parse("postgres://h:x/x").is_err());
        assert!(Address::parse("postgres://:1/x").is_err());
    }
}
