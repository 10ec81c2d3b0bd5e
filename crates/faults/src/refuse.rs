//! A server that refuses connections.

use super::{
    Action, ExpectedEffect, FaultKind, Injection, Network, Parameter, Refusal, Rule, RuleHook, Target, Undoing, Values, Verdict, traffic,
};

pub(super) struct Refuse;

impl FaultKind for Refuse {
    fn name(&self) -> &'static str {
        "refuse"
    }

    fn about(&self) -> &'static str {
        "Refuse new connections with a reset. Existing ones keep working."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::FROM, Parameter::PROBABILITY, Parameter::PERSIST];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        let peer = traffic::peer(values, target)?;
        let chance = values.percent("probability").filter(|chance| *chance < 100.0);
        let rule = Rule {
            hook: RuleHook::Input,
            peer: peer.clone(),
            ports: target.ports(),
            connecting: Some(true),
            chance,
            by_connection: true,
            verdict: Verdict::Reject,
        };
        let expected = if chance.is_some() { ExpectedEffect::Effect } else { traffic::network_sign(&peer) };
        Ok(Injection { action: Action::Network(Network { rules: vec![rule], ..Network::default() }), expected })
    }
}
