//! HTTP: a path answers with the expected status.

use std::{error::Error as _, sync::LazyLock};

use reqwest::{Client, Method, Response, redirect};

use super::{ProbeFailure, ProbeSuccess};

/// Keeps no connection: an idle one would outlive the request, and hide a server that has been replaced.
static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .pool_max_idle_per_host(0)
        .user_agent("devenv-probe")
        .build()
        .expect("these options are valid")
});

pub(super) async fn ask(port: u16, path: &str, status: u16) -> Result<ProbeSuccess, ProbeFailure> {
    expect(Method::GET, port, path, None, status).await?;
    Ok(ProbeSuccess::of(format!("GET {path} answered {status}")))
}

/// The shortest request that any HTTP server answers, made longer by `padding` bytes.
pub(crate) fn greeting(padding: Option<usize>) -> Vec<u8> {
    match padding {
        None => b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        Some(padding) => format!("GET / HTTP/1.0\r\nx-padding: {}\r\n\r\n", "x".repeat(padding)).into_bytes(),
    }
}

/// Sends one request and accepts only `status`. Returns the answer's body.
pub(crate) async fn expect(method: Method, port: u16, path: &str, json: Option<&'static str>, status: u16) -> Result<String, ProbeFailure> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut request = CLIENT.request(method.clone(), format!("http://127.0.0.1:{port}{slash}{path}"));
    if let Some(json) = json {
        request = request.header("content-type", "application/json").body(json);
    }
    let answer = request.send().await.map_err(|error| ProbeFailure::silent(words(port, &error)))?;
    let found = answer.status().as_u16();
    let body = text(answer).await;
    if found == status {
        return Ok(body);
    }
    let said = body.lines().map(str::trim).find(|line| !line.is_empty()).map(|line| format!(": {}", shorten(line)));
    Err(ProbeFailure::said(format!("{method} {slash}{path} answered {found} instead of {status}{}", said.unwrap_or_default())))
}

/// At most the first chunk of a body, because a page may never end.
async fn text(mut answer: Response) -> String {
    let first = answer.chunk().await.ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&first).into_owned()
}

fn shorten(line: &str) -> String {
    line.chars().take(200).collect()
}

fn words(port: u16, error: &reqwest::Error) -> String {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<std::io::Error>() {
            return super::unreachable(port, error).what;
        }
        source = cause.source();
    }
    if error.is_connect() {
        return format!("nothing listens on 127.0.0.1:{port}");
    }
    format!("127.0.0.1:{port} closed the connection before it answered")
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};

    use super::*;

    #[tokio::test]
    async fn only_the_asked_status_is_a_receipt() {
        let app = Router::new()
            .route("/health", get(|| async { "fine" }))
            .route("/broken", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "no database\n") }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        assert_eq!(ask(port, "/health", 200).await.unwrap().evidence, "GET /health answered 200");
        let failure = ask(port, "/broken", 200).await.unwrap_err();
        assert_eq!(failure, ProbeFailure::said("GET /broken answered 503 instead of 200: no database"));
        server.abort();
        let _ = server.await;
        assert_eq!(ask(port, "/health", 200).await.unwrap_err().what, format!("nothing listens on 127.0.0.1:{port}"));
    }
}
