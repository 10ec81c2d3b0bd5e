//! Jaeger: healthy, answering queries, and taking spans.

use reqwest::Method;

use super::{ProbeFailure, Receipt, http::expect};

pub(super) async fn ask(health: u16, query: u16, otlp_http: u16) -> Result<Receipt, ProbeFailure> {
    expect(Method::GET, health, "/status", None, 200).await?;
    expect(Method::GET, query, "/api/services", None, 200).await?;
    // No span in it, so nothing is stored; a receiver that is not there yet refuses it all the same.
    expect(Method::POST, otlp_http, "/v1/traces", Some(r#"{"resourceSpans":[]}"#), 200).await?;
    Ok(Receipt::of("healthy, answers queries, takes spans over OTLP"))
}
