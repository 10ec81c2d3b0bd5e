//! Rules for the fraction of traces.

use devenv_document::{source::Findings, value::number};

use super::JaegerKind;
use crate::capability::{Rules, ServiceNode};

impl Rules for JaegerKind {
    fn check(&self, service: &ServiceNode<'_>, _services: &[ServiceNode<'_>], findings: &mut Findings) {
        let fields = service.fields;
        if let Some(sampling) = fields.get("sampling") {
            let share = sampling.text().and_then(number);
            if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                findings.error(sampling.span, "bad-value", format!("`sampling` must be from 0.0 to 1.0, but is {}", sampling.noun()));
            }
        }
    }
}
