//! The doors for `fuzz/`, which alone builds with this: files of records and topics, and answers of a broker.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    scripts::{RECORDS, TOPICS, read},
    wire::Connection,
};
use crate::script::Script;

/// A file of records, or one of topics.
pub fn seed(script: &Script) {
    for format in [RECORDS, TOPICS] {
        let _ = read(&Script { format, ..script.clone() }, &mut |_, _| Ok(()));
    }
}

/// One question to a broker, which answers with any bytes.
pub async fn question<S: AsyncRead + AsyncWrite + Unpin>(which: u8, stream: S) {
    let mut broker = Connection::new(stream);
    let topics = [("orders".to_owned(), 2)];
    match which % 10 {
        0 => drop(broker.metadata(None).await),
        1 => drop(broker.find_coordinator("group").await),
        2 => drop(broker.commit_start("group", &topics).await),
        3 => drop(broker.create_topics(&[]).await),
        4 => drop(broker.topic_settings(&[("orders", vec!["retention.ms"])]).await),
        5 => drop(broker.alter_topic("orders", &[("retention.ms", "1")]).await),
        6 => drop(broker.ends(&topics).await),
        7 => drop(broker.committed("group").await),
        8 => drop(broker.groups().await),
        _ => drop(broker.delete_topics(&["orders".to_owned()]).await),
    }
}
