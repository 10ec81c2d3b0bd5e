//! TCP: a connection that is accepted and stays open.

use std::time::Duration;

use tokio::{io::AsyncReadExt, time::timeout};

use super::{ProbeFailure, ProbeSuccess, connect, unreachable};

/// docker-proxy closes the connection as soon as the container refuses it, within a millisecond or two.
const KEPT: Duration = Duration::from_millis(20);

pub(super) async fn ask(port: u16) -> Result<ProbeSuccess, ProbeFailure> {
    let mut stream = connect(port).await?;
    let mut first = [0; 1];
    match timeout(KEPT, stream.read(&mut first)).await {
        Ok(Ok(0)) => Err(ProbeFailure::silent(format!("127.0.0.1:{port} accepted the connection and closed it immediately"))),
        Ok(Err(error)) => Err(unreachable(port, &error)),
        // It sends a greeting, or waits for the client to send first.
        Ok(Ok(_)) | Err(_) => Ok(ProbeSuccess::of(format!("127.0.0.1:{port} accepts connections"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_is_kept_is_a_receipt_and_one_that_is_closed_at_once_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let closes = async {
            drop(listener.accept().await.unwrap());
            listener.accept().await.unwrap()
        };
        let asks = async { (ask(port).await, ask(port).await) };
        let ((closed, kept), _held) = tokio::join!(asks, closes);
        assert!(!closed.unwrap_err().answered);
        assert_eq!(kept.unwrap().evidence, format!("127.0.0.1:{port} accepts connections"));
        drop(listener);
        assert_eq!(ask(port).await.unwrap_err().what, format!("nothing listens on 127.0.0.1:{port}"));
    }
}
