//! What several targets share: a script in memory, and a peer that answers with given bytes.

#![cfg(feature = "kinds")]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use devenv_api::LedgerMode;
use devenv_kinds::script::{Script, ScriptFormat, files::Content};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Calls with a script of this name that holds the bytes.
pub fn with_script(name: &str, bytes: &[u8], call: impl FnOnce(&Script)) {
    // SAFETY: the script ends with this function, and nothing that is called keeps a script's content.
    let content = Content::Shipped(unsafe { std::mem::transmute::<&[u8], &'static [u8]>(bytes) });
    call(&Script {
        path: name.to_owned(),
        content,
        format: ScriptFormat("fuzz"),
        mode: LedgerMode::Once,
        checksum: String::new(),
        seed: false,
        size: bytes.len() as u64,
        only_up: false,
    });
}

/// The first byte, and the rest.
pub fn split_first(bytes: &[u8]) -> (u8, &[u8]) {
    bytes.split_first().map_or((0, bytes), |(first, rest)| (*first, rest))
}

/// A peer that takes everything and answers with these bytes, then hangs up.
pub struct Peer(io::Cursor<Vec<u8>>);

impl Peer {
    pub fn new(answer: Vec<u8>) -> Self {
        Self(io::Cursor::new(answer))
    }
}

impl AsyncRead for Peer {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, content: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(content.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A runtime for one target: one thread, with time.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}
