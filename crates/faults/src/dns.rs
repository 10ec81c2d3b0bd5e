//! Name resolution that fails.

use super::{
    Action, ExpectedEffect, FaultKind, Injection, Network, Parameter, Peer, Refusal, Rule, RuleHook, Target, Undoing, Values, Verdict,
};

pub(super) struct Dns;

impl FaultKind for Dns {
    fn name(&self) -> &'static str {
        "dns"
    }

    fn about(&self) -> &'static str {
        "Drop the service's DNS queries."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        &[Parameter::PERSIST]
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        // The engine's own resolver answers within the namespace, on whatever port the engine redirects to.
        let rule = Rule {
            hook: RuleHook::Output,
            peer: Peer::Resolver,
            ports: Vec::new(),
            connecting: None,
            chance: None,
            by_connection: false,
            verdict: Verdict::Drop,
        };
        Ok(Injection { action: Action::Network(Network { rules: vec![rule], ..Network::default() }), expected: ExpectedEffect::NoNames })
    }
}
