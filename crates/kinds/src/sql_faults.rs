//! Faults of servers with SQL sessions: parameters and effects, common to all such kinds.
//!
//! A kind lists a [`SqlFault`] of each sort among its faults; its `faults` folder carries out the [`Action`].

use std::time::Duration;

use devenv_faults::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};
use devenv_spec::OfKind;
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use crate::capability::{Effect, FaultSite};

/// The action, as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    Terminate { database: Option<String>, every: Option<Duration> },
    Exhaust { leave: u64 },
    Lock { database: Option<String>, table: Option<String> },
    ReadOnly,
}

enum Sort {
    Terminate,
    Exhaust,
    Lock { parameters: &'static [Parameter] },
    ReadOnly,
}

/// One fault of one kind of server.
pub(crate) struct SqlFault {
    name: &'static str,
    /// The kind's name.
    kind: &'static str,
    about: &'static str,
    sort: Sort,
}

impl SqlFault {
    pub(crate) const fn terminate(name: &'static str, kind: &'static str) -> Self {
        let about = "Terminate the sessions of all clients, repeatedly with `every`.";
        Self { name, kind, about, sort: Sort::Terminate }
    }

    pub(crate) const fn exhaust(name: &'static str, kind: &'static str) -> Self {
        let about = "Open all connections that the server allows to ordinary clients, except for `leave`.";
        Self { name, kind, about, sort: Sort::Exhaust }
    }

    /// `parameters` are `database` and `table`, with the defaults that the kind has for them.
    pub(crate) const fn lock(name: &'static str, kind: &'static str, about: &'static str, parameters: &'static [Parameter]) -> Self {
        Self { name, kind, about, sort: Sort::Lock { parameters } }
    }

    pub(crate) const fn read_only(name: &'static str, kind: &'static str, about: &'static str) -> Self {
        Self { name, kind, about, sort: Sort::ReadOnly }
    }
}

impl FaultKind for SqlFault {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn undone_by(&self) -> Undoing {
        match self.sort {
            Sort::Terminate => Undoing::Nothing,
            Sort::Exhaust | Sort::Lock { .. } => Undoing::Kernel,
            Sort::ReadOnly => Undoing::Lease,
        }
    }

    fn parameters(&self) -> &'static [Parameter] {
        const TERMINATE: &[Parameter] = &[
            Parameter::new("database", Form::Text, "Only sessions of this database."),
            Parameter::new("every", Form::Duration, "Terminate again after this time, as long as the fault lasts."),
        ];
        const EXHAUST: &[Parameter] = &[Parameter::new("leave", Form::Count, "The number of connections to leave free.").or("0")];
        match self.sort {
            Sort::Terminate => TERMINATE,
            Sort::Exhaust => EXHAUST,
            Sort::Lock { parameters } => parameters,
            Sort::ReadOnly => &[],
        }
    }

    fn lasts(&self, values: &Values) -> bool {
        matches!(self.sort, Sort::Terminate) && values.duration("every").is_some()
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name, self.kind)?;
        let text = |name| values.text(name).map(str::to_owned);
        let action = match self.sort {
            Sort::Terminate => Action::Terminate { database: text("database"), every: values.duration("every") },
            Sort::Exhaust => Action::Exhaust { leave: values.count("leave").unwrap_or(0) },
            Sort::Lock { .. } => Action::Lock { database: text("database"), table: text("table") },
            Sort::ReadOnly => Action::ReadOnly,
        };
        let action = devenv_faults::Action::OfKind(OfKind::new(self.kind, &action));
        Ok(Injection { action, expected: ExpectedEffect::Effect })
    }
}

/// Terminates sessions once, which is the effect, and then at the interval `every` as long as the fault lasts.
pub(crate) async fn terminate<T>(
    every: Option<Duration>,
    site: &mut dyn FaultSite,
    terminate_once: impl Fn() -> T + Send + 'static,
) -> Result<Effect, String>
where
    T: Future<Output = Result<Effect, String>> + Send,
{
    let effect = terminate_once().await;
    if let Some(every) = every {
        site.hold(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                // A server that does not answer has no sessions to end.
                let _ = terminate_once().await;
            }
        })));
    }
    effect
}
