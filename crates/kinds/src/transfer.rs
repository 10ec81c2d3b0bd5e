//! Parses the URLs of servers that a user names, so that a password is never part of a command.

use percent_encoding::percent_decode_str;
use url::{ParseError, Url};

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
        if !text.contains("://") {
            return Ok(None);
        }
        // Such a URL has no fragment: a `#` is part of a password.
        let url = Url::parse(&text.replace('#', "%23")).map_err(|error| match error {
            ParseError::InvalidPort => "its port is not a number",
            ParseError::EmptyHost => "it has no host",
            _ => "it is not a valid URL",
        })?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or("it has no host")?;
        let given = |part: &str| Some(decoded(part)).filter(|part| !part.is_empty());
        // Not `query_pairs`, which decodes a `+` as a space: the servers' own clients do not.
        let options = url.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        Ok(Some(Self {
            scheme: url.scheme().to_owned(),
            user: given(url.username()),
            password: url.password().and_then(given),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port(),
            database: given(url.path().trim_start_matches('/')),
            options: options.collect(),
        }))
    }

    /// Without the password, for messages.
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

/// With `%20` and the like decoded.
pub(crate) fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
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
        let address = Address::parse("postgres://ada:a#b+c%2@db/my%20shop?options=a+b").unwrap().unwrap();
        assert_eq!((address.password.as_deref(), address.database.as_deref()), (Some("a#b+c%2"), Some("my shop")));
        assert_eq!(address.options, [("options".to_owned(), "a+b".to_owned())]);
        assert_eq!(Address::parse("postgres:///shop").err(), Some("it has no host"));
        assert_eq!(Address::parse("postgres://h1:1,h2:2/shop").err(), Some("its port is not a number"));
        assert!(Address::parse("dumps/a.dump").unwrap().is_none());
        assert!(Address::parse("postgres://h:x/x").is_err());
        assert!(Address::parse("postgres://:1/x").is_err());
        assert_eq!(decoded("/a%20b/c%2Fd%"), "/a b/c/d%");
    }
}
