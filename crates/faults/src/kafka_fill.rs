//! A log that grows.

use super::{Action, FaultKind, Form, Injection, Kafka, Parameter, Refusal, Sign, Target, Undoing, Values};

pub(super) struct KafkaFill;

impl FaultKind for KafkaFill {
    fn name(&self) -> &'static str {
        "kafka-fill"
    }

    fn about(&self) -> &'static str {
        "Fill a new topic with data, and remove the topic at the end."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("bytes", Form::Size, "The amount of data.").or("64MiB"),
            Parameter::new("topic", Form::Text, "The name of the topic.").or("devenv-fill"),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), &["kafka", "redpanda"])?;
        let topic = values.text("topic").unwrap_or("devenv-fill").to_owned();
        Ok(Injection { action: Action::Kafka(Kafka::Fill { topic, bytes: values.bytes("bytes").unwrap_or(0) }), sign: Sign::Effect })
    }
}
