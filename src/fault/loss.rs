//! A network that loses packets.

use super::{Action, FaultKind, Form, Injection, Network, Parameter, Refusal, Rule, RuleHook, Sign, Target, Undoing, Values, Verdict};

pub(super) struct Loss;

impl FaultKind for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn about(&self) -> &'static str {
        "Drops packets by chance."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("probability", Form::Percent, "Of packets, how many.").or("30%"),
            Parameter::new(
                "from",
                Form::Text,
                "Whose traffic: `all`, `host` (what comes by the published ports), `services`, or one service.",
            )
            .or("all"),
            Parameter::new("direction", Form::Choice(&["both", "up", "down"]), "Which way: `up` is towards the service.").or("both"),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        let peer = super::peer(values, target)?;
        let chance = values.percent("probability");
        let rule = |hook| Rule {
            hook,
            peer: peer.clone(),
            ports: Vec::new(),
            connecting: None,
            chance,
            by_connection: false,
            verdict: Verdict::Drop,
        };
        let mut rules = Vec::new();
        if !values.is("direction", "down") {
            rules.push(rule(RuleHook::Input));
        }
        if !values.is("direction", "up") {
            rules.push(rule(RuleHook::Output));
        }
        Ok(Injection { action: Action::Network(Network { rules, ..Network::default() }), sign: Sign::Effect })
    }
}
