//! A login over AMQP that opens the virtual host, like the application's.
//!
//! The server accepts connections only after it has read its definitions and recovered its queues.

use async_trait::async_trait;
use devenv_spec::OfKind;

use super::{
    RabbitmqKind,
    amqp::{AmqpError, HEADER, login},
    spec::RabbitmqProbe,
};
use crate::{
    capability::Probes,
    probe::{ProbeContext, ProbeFailure, ProbeSuccess, connect, io_words},
};

#[async_trait]
impl Probes for RabbitmqKind {
    async fn ask(&self, question: &OfKind, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
        let RabbitmqProbe { port, user, password, vhost } = question.decode()?;
        let stream = connect(port).await?;
        match login(stream, &user, &cx.reveal(&password)?, &vhost).await {
            Ok(version) => Ok(ProbeSuccess::of(format!("logged in as {user} to {vhost}, version {version}"))),
            Err(AmqpError::Io(error)) => Err(ProbeFailure::silent(io_words(&format_args!("127.0.0.1:{port}"), &error))),
            Err(error) => Err(ProbeFailure::said(error.to_string())),
        }
    }

    fn port(&self, question: &OfKind) -> Option<u16> {
        question.decode().ok().map(|probe: RabbitmqProbe| probe.port)
    }

    /// The server answers a protocol's header at once, whatever follows, so a longer one would not delay its answer.
    fn greeting(&self, padding: Option<usize>) -> Option<Vec<u8>> {
        padding.is_none().then(|| HEADER.to_vec())
    }
}
