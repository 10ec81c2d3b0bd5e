//! Who may use the page: the browser that opened the address of `devenv ui`, and nobody else.
//!
//! The address contains a token that is good once. It is exchanged for a cookie, and every other request needs that cookie. A page of another
//! origin cannot use it: the cookie is `SameSite=Strict`, and a request whose `Host`, `Origin` or `Sec-Fetch-Site` is foreign is refused, which
//! also refuses names that are rebound to 127.0.0.1 and pages on other ports of this machine. Nothing here is logged.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use subtle::ConstantTimeEq;

use super::{Page, assets};

/// Scripts and styles only from files, connections only to this origin, and no frame around the page. The document has one script of its own,
/// which is named by its digest.
const POLICY: &str = "default-src 'none'; script-src 'self' DIGEST; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// Of random secrets.
const BYTES: usize = 32;

pub(super) struct Session {
    address: SocketAddr,
    /// `None` once it was used.
    token: Mutex<Option<String>>,
    cookie: String,
}

/// What a request gets.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Enter,
    /// The first use of the token: a cookie, and an address without the token.
    Exchange,
    Refuse,
}

impl Session {
    /// Continues the session of an earlier daemon, if there is one.
    pub(super) fn new(address: SocketAddr, earlier: Option<String>) -> Self {
        let is_ours = |secret: &String| secret.len() == 2 * BYTES && secret.bytes().all(|byte| byte.is_ascii_hexdigit());
        Self { address, token: Mutex::new(Some(secret())), cookie: earlier.filter(is_ours).unwrap_or_else(secret) }
    }

    /// The address that opens the page, once.
    pub(super) fn url(&self) -> String {
        let token = self.token.lock().expect("no code panics while it holds this lock").clone().unwrap_or_default();
        let shown = match self.address.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        format!("http://{}/?token={token}", SocketAddr::new(shown, self.address.port()))
    }

    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }

    fn admit(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Admission {
        if !self.is_own(headers) {
            return Admission::Refuse;
        }
        if method == Method::GET
            && uri.path() == "/"
            && let Some(token) = uri.query().and_then(|query| query.strip_prefix("token="))
        {
            return if self.take_token(token) { Admission::Exchange } else { Admission::Refuse };
        }
        if !self.has_cookie(headers) {
            return Admission::Refuse;
        }
        let is_json = |value: &str| value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        match *method {
            Method::GET | Method::HEAD => Admission::Enter,
            Method::POST if text(headers, &header::CONTENT_TYPE).is_some_and(is_json) => Admission::Enter,
            _ => Admission::Refuse,
        }
    }

    /// Whether it was sent to this page, and by this page or by nobody's.
    fn is_own(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(Ok(host)), None) = (hosts.next().map(HeaderValue::to_str), hosts.next()) else { return false };
        if !self.is_own_host(host) {
            return false;
        }
        let origin_is_own = match headers.get(header::ORIGIN) {
            None => true,
            Some(origin) => origin.to_str().is_ok_and(|origin| origin.eq_ignore_ascii_case(&format!("http://{host}"))),
        };
        let site_is_own = match headers.get("sec-fetch-site") {
            None => true,
            Some(site) => site == "same-origin" || site == "none",
        };
        origin_is_own && site_is_own
    }

    /// A name is never an address of the page but for `localhost`: others can be rebound to this machine.
    fn is_own_host(&self, host: &str) -> bool {
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !name.is_empty() && (!name.contains(':') || name.ends_with(']')) => (name, port.parse().ok()),
            _ => (host, Some(80)),
        };
        if port != Some(self.address.port()) {
            return false;
        }
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        match name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback() || ip == self.address.ip() || self.address.ip().is_unspecified(),
            Err(_) => false,
        }
    }

    fn take_token(&self, offered: &str) -> bool {
        let mut token = self.token.lock().expect("no code panics while it holds this lock");
        let is_it = token.as_deref().is_some_and(|token| same(token, offered));
        if is_it {
            *token = None;
        }
        is_it
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let name = self.cookie_name();
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        cookies.filter_map(|cookie| cookie.trim().split_once('=')).any(|(of, value)| of == name && same(value, &self.cookie))
    }

    /// Browsers send the cookies of a host to all of its ports.
    fn cookie_name(&self) -> String {
        format!("devenv-ui-{}", self.address.port())
    }

    fn set_cookie(&self) -> String {
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name(), self.cookie)
    }
}

/// Comes before every handler and every file.
pub(super) async fn guard(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    let session = &page.session;
    let mut response = match session.admit(request.method(), request.uri(), request.headers()) {
        Admission::Enter => next.run(request).await,
        Admission::Exchange => {
            (StatusCode::SEE_OTHER, [(header::SET_COOKIE, session.set_cookie()), (header::LOCATION, "/".to_owned())]).into_response()
        }
        Admission::Refuse => {
            (StatusCode::FORBIDDEN, "This address is not valid (any more). Run `devenv ui` for a new one.\n").into_response()
        }
    };
    let always = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in always {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let policy = POLICY.replace("DIGEST", &assets::digest_of_script());
    // A digest has no characters that a header cannot have.
    response.headers_mut().extend(HeaderValue::from_str(&policy).map(|policy| (header::CONTENT_SECURITY_POLICY, policy)));
    if !response.headers().contains_key(header::CACHE_CONTROL) {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn same(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

fn secret() -> String {
    hex::encode(rand::random::<[u8; BYTES]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new("127.0.0.1:7000".parse().unwrap(), None)
    }

    fn asked(session: &Session, method: Method, path: &str, headers: &[(&'static str, &str)]) -> Admission {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        session.admit(&method, &path.parse().unwrap(), &map)
    }

    #[test]
    fn a_token_is_good_once_and_only_at_the_pages_own_address() {
        let session = session();
        let url = session.url();
        let path = url.strip_prefix("http://127.0.0.1:7000").unwrap();
        let own = ("host", "127.0.0.1:7000");
        assert_eq!(asked(&session, Method::GET, path, &[("host", "evil.example.com:7000")]), Admission::Refuse);
        assert_eq!(asked(&session, Method::GET, path, &[own, ("sec-fetch-site", "cross-site")]), Admission::Refuse);
        assert_eq!(asked(&session, Method::GET, "/?token=", &[own]), Admission::Refuse);
        assert_eq!(asked(&session, Method::GET, path, &[own]), Admission::Exchange);
        assert_eq!(asked(&session, Method::GET, path, &[own]), Admission::Refuse);
    }

    #[test]
    fn only_the_browser_with_the_cookie_gets_in_and_only_for_this_page() {
        let session = session();
        let cookie = format!("other=1; devenv-ui-7000={}", session.cookie());
        let (own, cookie) = (("host", "127.0.0.1:7000"), ("cookie", cookie.as_str()));
        let get = |headers: &[(&'static str, &str)]| asked(&session, Method::GET, "/", headers);
        assert_eq!(get(&[own, cookie]), Admission::Enter);
        assert_eq!(get(&[("host", "localhost:7000"), cookie]), Admission::Enter);
        assert_eq!(get(&[("host", "[::1]:7000"), cookie, ("origin", "http://[::1]:7000")]), Admission::Enter);
        assert_eq!(get(&[own, cookie, ("sec-fetch-site", "none"), ("origin", "http://127.0.0.1:7000")]), Admission::Enter);
        let refused: [&[(&'static str, &str)]; 12] = [
            &[own],
            &[cookie],
            &[own, ("cookie", "devenv-ui-7000=0000")],
            &[own, ("cookie", "devenv-ui-7000=")],
            &[("host", "evil.example.com"), cookie],
            &[("host", "evil.example.com:7000"), cookie],
            &[("host", "127.0.0.1"), cookie],
            &[("host", "127.0.0.1:7001"), cookie],
            &[("host", "10.0.0.1:7000"), cookie],
            &[own, ("host", "evil.example.com"), cookie],
            &[own, cookie, ("origin", "http://127.0.0.1:7001")],
            &[own, cookie, ("sec-fetch-site", "same-site")],
        ];
        for headers in refused {
            assert_eq!(get(headers), Admission::Refuse, "{headers:?}");
        }
    }

    #[test]
    fn writes_are_json_by_post() {
        let session = session();
        let cookie = format!("devenv-ui-7000={}", session.cookie());
        let known = [("host", "127.0.0.1:7000"), ("cookie", cookie.as_str())];
        let with = |method: Method, kind: Option<&'static str>| {
            let headers: Vec<_> = known.into_iter().chain(kind.map(|kind| ("content-type", kind))).collect();
            asked(&session, method, "/api/live", &headers)
        };
        assert_eq!(with(Method::POST, Some("application/json")), Admission::Enter);
        assert_eq!(with(Method::POST, Some("application/json; charset=utf-8")), Admission::Enter);
        for (method, kind) in
            [(Method::POST, None), (Method::POST, Some("text/plain")), (Method::PUT, Some("application/json")), (Method::OPTIONS, None)]
        {
            assert_eq!(with(method.clone(), kind), Admission::Refuse, "{method} {kind:?}");
        }
    }

    #[test]
    fn the_session_of_an_earlier_daemon_goes_on() {
        let first = session();
        let next = Session::new("127.0.0.1:7000".parse().unwrap(), Some(first.cookie().to_owned()));
        assert_eq!(first.cookie(), next.cookie());
        let forged = Session::new("127.0.0.1:7000".parse().unwrap(), Some("x; Path=/".to_owned()));
        assert_ne!(forged.cookie(), "x; Path=/");
    }
}
