//! The outcomes of records that were passed to the client: the first one that the broker refused, with its error.

use std::sync::{Arc, Mutex};

use rdkafka::{
    ClientContext,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{DeliveryResult, ProducerContext},
};

use crate::script::{Script, ScriptError};

/// Keeps the first record that the broker refused.
#[derive(Clone, Default)]
pub(super) struct Deliveries {
    refused: Arc<Mutex<Option<(Place, KafkaError)>>>,
}

/// Where a record is: its line, or its number in a file without lines of its own. 0 is the ledger's row.
pub(super) type Place = usize;

impl Deliveries {
    /// The first that was refused, and why.
    pub(super) fn refused(&self) -> Option<(Place, KafkaError)> {
        self.refused.lock().expect("no code panics while it holds this lock").take()
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Place;

    fn delivery(&self, delivered: &DeliveryResult<'_>, place: Place) {
        if let Err((error, _)) = delivered
            // Records that were aborted with their transaction are not the cause.
            && !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight))
        {
            let mut refused = self.refused.lock().expect("no code panics while it holds this lock");
            refused.get_or_insert_with(|| (place, error.clone()));
        }
    }
}

/// An error of the broker or the client at the record that it is about.
pub(super) fn refused(script: &Script, place: Place, error: &KafkaError, has_lines: bool) -> ScriptError {
    let code = error.rdkafka_error_code();
    let message = match code {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => "the record is larger than its topic allows".to_owned(),
        Some(RDKafkaErrorCode::UnknownPartition) => "the topic has no such partition".to_owned(),
        Some(code) => code.to_string(),
        None => error.to_string(),
    };
    let found = if !has_lines && place > 0 {
        ScriptError::of(&script.path, format!("record {place}: {message}"))
    } else {
        ScriptError::of(&script.path, message).at(u64::try_from(place).ok().filter(|line| *line > 0))
    };
    match code {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            found.hint("set `max.message.bytes` in the topic's `settings`, and `message.max.bytes` in those of the service")
        }
        _ => found,
    }
}
