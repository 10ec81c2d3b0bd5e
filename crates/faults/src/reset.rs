//! Connections that are reset.

use super::{
    Action, ExpectedEffect, FaultKind, Injection, Network, Parameter, Refusal, Rule, RuleHook, Target, Undoing, Values, Verdict, traffic,
};

pub(super) struct Reset;

impl FaultKind for Reset {
    fn name(&self) -> &'static str {
        "reset"
    }

    fn about(&self) -> &'static str {
        "Reset existing connections at their next packet, as long as the fault lasts. New connections work until they send data."
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
        let rule = |hook| Rule {
            hook,
            peer: peer.clone(),
            ports: target.ports(),
            connecting: Some(false),
            chance,
            by_connection: true,
            verdict: Verdict::Reject,
        };
        let expected = if chance.is_some() { ExpectedEffect::Effect } else { traffic::network_sign(&peer) };
        let rules = vec![rule(RuleHook::Input), rule(RuleHook::Output)];
        Ok(Injection { action: Action::Network(Network { rules, ..Network::default() }), expected })
    }
}
