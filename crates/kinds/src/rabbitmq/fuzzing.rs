//! The doors for `fuzz/`, which alone builds with this: files of messages.

use super::scripts::{Message, published};
use crate::script::{Script, lines::lines};

/// A file of messages, up to what is sent.
pub fn messages(script: &Script) {
    let _ = lines(script, |_, line| {
        if let Ok(message) = serde_json::from_str::<Message>(line) {
            let _ = published(&message, "/");
        }
        Ok(())
    });
}
