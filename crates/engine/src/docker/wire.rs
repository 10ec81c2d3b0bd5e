//! Plain HTTP requests to the endpoint, for what is read and streamed: answers are decoded by our own structures, which name
//! only the fields that we use, so that a new field in an engine cannot break them.
//!
//! It is a second client beside bollard's, over the same `hyper`. This is necessary: bollard 0.21 offers no request that
//! returns a plain body (its `process_*` functions are private), and its enums are closed, so one unknown state
//! fails a whole answer. bollard remains for requests that change something: their answers are small and its
//! types save us the structures. `reqwest` adds no package: the client of our own API uses it too.

use std::{
    io,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, TryStreamExt};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Response, StatusCode, header};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    io::StreamReader,
};

use super::{
    endpoint::Endpoint,
    error::{from_wire, gone, refusal},
};
use crate::EngineError;

/// The time limit of an answer that is not a stream, and of the beginning of a stream. Engines are slow under load, but not
/// that slow.
const ANSWER: Duration = Duration::from_mins(1);
/// The same for an answer that comes only after the engine has read or written a whole archive.
pub(super) const ARCHIVE: Duration = Duration::from_mins(30);
/// The largest answer that is read as a whole, in bytes.
const LARGEST: usize = 64 << 20;
/// The largest error message, in bytes.
const LARGEST_REFUSAL: usize = 1 << 20;
const CONNECT: Duration = Duration::from_secs(5);
/// The longest line of a stream, in bytes. A longer one is not the engine's protocol.
const LONGEST_LINE: usize = 8 << 20;

#[derive(Clone)]
pub(super) struct Wire {
    client: reqwest::Client,
    base: Arc<str>,
    endpoint: Arc<Endpoint>,
}

/// One request.
pub(super) struct Call<'a> {
    /// Follows "the engine refused to" in messages.
    pub(super) action: &'a str,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: Vec<(&'a str, String)>,
    /// The time limit for the beginning of the answer; `None` if the engine may be silent until something happens.
    limit: Option<Duration>,
}

impl<'a> Call<'a> {
    pub(super) fn get(action: &'a str, path: impl Into<String>) -> Self {
        Self { action, method: Method::GET, path: path.into(), query: Vec::new(), limit: Some(ANSWER) }
    }

    pub(super) fn post(action: &'a str, path: impl Into<String>) -> Self {
        Self { method: Method::POST, ..Self::get(action, path) }
    }

    pub(super) fn delete(action: &'a str, path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(action, path) }
    }

    pub(super) fn within(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The engine is silent until something happens: the caller has a limit of its own, or waits indefinitely.
    pub(super) fn without_limit(self) -> Self {
        Self { limit: None, ..self }
    }

    pub(super) fn with(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }
}

#[derive(Deserialize)]
struct Failure {
    message: String,
}

impl Wire {
    /// Without a version in its paths, until one is negotiated.
    /// An engine on another machine is reached by the `socket` of its bridge.
    pub(super) fn new(endpoint: &Endpoint, socket: Option<&Path>) -> Result<Self, EngineError> {
        // A proxy in the environment must never see requests to the engine.
        let builder = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT);
        let local = || "http://engine".to_owned();
        let (builder, base) = match (endpoint, socket) {
            (Endpoint::Unix(path), _) => (builder.unix_socket(path.as_path()), local()),
            (Endpoint::Tcp(address), _) => (builder, format!("http://{address}")),
            (Endpoint::Remote(_), Some(socket)) => (builder.unix_socket(socket), local()),
            (Endpoint::Remote(_), None) => return Err(gone(endpoint, "there is no bridge to it".to_owned())),
        };
        let client = builder.build().map_err(|error| gone(endpoint, error.to_string()))?;
        Ok(Self { client, base: base.into(), endpoint: Arc::new(endpoint.clone()) })
    }

    pub(super) fn versioned(&self, prefix: &str) -> Self {
        Self { base: format!("{}{prefix}", self.base).into(), ..self.clone() }
    }

    /// Returns one JSON document.
    pub(super) async fn read<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T, EngineError> {
        let action = call.action.to_owned();
        let response = self.open(call).await?;
        let body = self.body(response, &action).await?;
        serde_json::from_slice(&body).map_err(|error| EngineError::Protocol { action, message: error.to_string() })
    }

    /// `None` if there is no such object.
    pub(super) async fn find<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<Option<T>, EngineError> {
        match self.read(call).await {
            Ok(found) => Ok(Some(found)),
            Err(EngineError::NotFound { .. } | EngineError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the body of a streaming response, after its head has arrived.
    pub(super) async fn open(&self, call: Call<'_>) -> Result<Response, EngineError> {
        self.send(self.request(&call)?, &call).await
    }

    /// Reads the rest of an answer that is not a stream.
    pub(super) async fn body(&self, response: Response, action: &str) -> Result<Bytes, EngineError> {
        let read = self.read_up_to(LARGEST, response, action);
        tokio::time::timeout(ANSWER, read).await.map_err(|_| self.silent(action, ANSWER))?
    }

    async fn read_up_to(&self, limit: usize, mut response: Response, action: &str) -> Result<Bytes, EngineError> {
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| from_wire(&self.endpoint, action, error))? {
            if body.len() + chunk.len() > limit {
                return Err(EngineError::TooLarge { action: action.to_owned(), limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    fn silent(&self, action: &str, limit: Duration) -> EngineError {
        gone(&self.endpoint, format!("it did not {action} within {} s", limit.as_secs()))
    }

    pub(super) async fn open_with(&self, call: Call<'_>, body: reqwest::Body, kind: &'static str) -> Result<Response, EngineError> {
        self.send(self.request(&call)?.header(header::CONTENT_TYPE, kind).body(body), &call).await
    }

    /// Upgrades the connection to a stream in both directions.
    pub(super) async fn upgrade(&self, call: Call<'_>, body: String) -> Result<Upgraded, EngineError> {
        let request = self.request(&call)?.header(header::CONTENT_TYPE, "application/json").body(body);
        self.take_over(request, call, "tcp").await
    }

    /// The same for another protocol that the engine supports on the connection.
    pub(super) async fn upgrade_to(&self, call: Call<'_>, protocol: &str, headers: &[(&str, &str)]) -> Result<Upgraded, EngineError> {
        let request = headers.iter().fold(self.request(&call)?, |request, (name, value)| request.header(*name, *value));
        self.take_over(request, call, protocol).await
    }

    async fn take_over(&self, request: reqwest::RequestBuilder, call: Call<'_>, protocol: &str) -> Result<Upgraded, EngineError> {
        let breaks = breaks(&self.endpoint);
        let request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, protocol);
        let response = self.send(request, &call).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let message = format!("the engine opened no stream, status {}", response.status());
            return Err(EngineError::Protocol { action: call.action.to_owned(), message });
        }
        let stream = response.upgrade().await.map_err(|error| from_wire(&self.endpoint, call.action, error))?;
        Ok(Upgraded { stream, endpoint: self.endpoint.clone(), breaks })
    }

    fn request(&self, call: &Call<'_>) -> Result<reqwest::RequestBuilder, EngineError> {
        let mut url = reqwest::Url::parse(&format!("{}{}", self.base, call.path))
            .map_err(|error| EngineError::Protocol { action: call.action.to_owned(), message: error.to_string() })?;
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.query);
        }
        Ok(self.client.request(call.method.clone(), url))
    }

    async fn send(&self, request: reqwest::RequestBuilder, call: &Call<'_>) -> Result<Response, EngineError> {
        let action = call.action;
        let answer = match call.limit {
            Some(limit) => tokio::time::timeout(limit, request.send()).await.map_err(|_| self.silent(action, limit))?,
            None => request.send().await,
        };
        let response = answer.map_err(|error| from_wire(&self.endpoint, action, error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let read = tokio::time::timeout(ANSWER, self.read_up_to(LARGEST_REFUSAL, response, action)).await;
        let text = read.ok().and_then(Result::ok).map_or_else(String::new, |text| String::from_utf8_lossy(&text).into_owned());
        let message = serde_json::from_str::<Failure>(&text).map_or(text, |failure| failure.message);
        Err(refusal(action, status.as_u16(), &message))
    }

    /// Lines of JSON, each decoded; ends with an error if the connection breaks.
    pub(super) fn documents<T: DeserializeOwned>(
        &self,
        response: Response,
        action: &'static str,
    ) -> impl Stream<Item = Result<T, EngineError>> + use<T> {
        let endpoint = Arc::clone(&self.endpoint);
        FramedRead::new(reader(response), LinesCodec::new_with_max_length(LONGEST_LINE))
            .map_err(move |error| gone(&endpoint, format!("the stream was interrupted: {error}")))
            .try_filter(|line| std::future::ready(!line.trim().is_empty()))
            .map(move |line| {
                serde_json::from_str(&line?)
                    .map_err(|error| EngineError::Protocol { action: action.to_owned(), message: error.to_string() })
            })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

/// A connection that has become a stream in both directions. If the link to another machine breaks, the end of the stream is an
/// error: what has arrived may be a part of the whole.
pub(super) struct Upgraded {
    stream: reqwest::Upgraded,
    endpoint: Arc<Endpoint>,
    /// How often the link had broken before.
    breaks: u64,
}

fn breaks(endpoint: &Endpoint) -> u64 {
    match endpoint {
        Endpoint::Remote(remote) => remote.breaks(),
        Endpoint::Unix(_) | Endpoint::Tcp(_) => 0,
    }
}

impl AsyncRead for Upgraded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buffer.filled().len(), buffer.remaining());
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let ended = matches!(read, Poll::Ready(Ok(()))) && room > 0 && buffer.filled().len() == before;
        if ended && breaks(&self.endpoint) != self.breaks {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "the link to the engine's machine broke")));
        }
        read
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body as bytes.
pub(super) fn reader(response: Response) -> impl tokio::io::AsyncRead + Send + Unpin {
    StreamReader::new(response.bytes_stream().map_err(io::Error::other).boxed())
}

/// A name as one or more segments of a path. Image names contain `/` and `:`, which are kept; the rest is escaped.
pub(super) fn segment(name: &str) -> String {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'/').remove(b':').remove(b'@');
    utf8_percent_encode(name, ESCAPED).to_string()
}

/// The `filters` parameter.
pub(super) fn filters(filters: &[(&str, &[&str])]) -> String {
    let map: serde_json::Map<String, serde_json::Value> =
        filters.iter().map(|(name, values)| ((*name).to_owned(), serde_json::json!(values))).collect();
    serde_json::Value::Object(map).to_string()
}
