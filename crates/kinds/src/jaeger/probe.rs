//! Jaeger: healthy, answering queries, and accepting spans.

use async_trait::async_trait;
use devenv_spec::OfKind;
use reqwest::Method;

use super::{JaegerKind, spec::JaegerProbe};
use crate::{
    capability::Probes,
    probe::{ProbeContext, ProbeFailure, ProbeSuccess, http},
};

#[async_trait]
impl Probes for JaegerKind {
    async fn ask(&self, question: &OfKind, _: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
        let JaegerProbe { health, query, otlp_http } = question.decode()?;
        http::expect(Method::GET, health, "/status", None, 200).await?;
        http::expect(Method::GET, query, "/api/services", None, 200).await?;
        // It contains no span, so nothing is stored; a receiver that does not run yet still refuses it.
        http::expect(Method::POST, otlp_http, "/v1/traces", Some(r#"{"resourceSpans":[]}"#), 200).await?;
        Ok(ProbeSuccess::of("healthy, answers queries, accepts spans over OTLP"))
    }

    fn port(&self, question: &OfKind) -> Option<u16> {
        question.decode().ok().map(|probe: JaegerProbe| probe.query)
    }

    fn greeting(&self, padding: Option<usize>) -> Option<Vec<u8>> {
        Some(http::greeting(padding))
    }
}
