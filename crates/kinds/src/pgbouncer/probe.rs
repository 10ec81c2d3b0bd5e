//! PgBouncer: a login to a server through the pooler.

use async_trait::async_trait;
use devenv_spec::OfKind;

use super::{PgbouncerKind, spec::PgbouncerProbe};
use crate::{
    capability::Probes,
    postgres::probe::{Login, TLS_REQUEST, ask_pooler},
    probe::{ProbeContext, ProbeFailure, ProbeSuccess},
};

#[async_trait]
impl Probes for PgbouncerKind {
    async fn ask(&self, question: &OfKind, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
        let PgbouncerProbe { port, user, password, database } = question.decode()?;
        ask_pooler(&Login { port, user: &user, password: cx.reveal(&password)?, database: &database, tls: None }).await
    }

    fn port(&self, question: &OfKind) -> Option<u16> {
        question.decode().ok().map(|probe: PgbouncerProbe| probe.port)
    }

    /// It accepts no start-up packet of the length that a network fault needs.
    fn greeting(&self, padding: Option<usize>) -> Option<Vec<u8>> {
        padding.is_none().then(|| TLS_REQUEST.to_vec())
    }
}
