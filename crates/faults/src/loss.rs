//! A network that loses packets.

use super::{
    Action, ExpectedEffect, FaultKind, Form, Injection, Network, Parameter, Refusal, Rule, Target, Undoing, Values, Verdict, traffic,
};

pub(super) struct Loss;

impl FaultKind for Loss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn about(&self) -> &'static str {
        "Drop random packets."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("probability", Form::Percent, "The fraction of packets to drop.").or("30%"),
            Parameter::FROM,
            Parameter::DIRECTION,
            Parameter::PERSIST,
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        let peer = traffic::peer(values, target)?;
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
        let rules = traffic::each_way(values, rule);
        Ok(Injection { action: Action::Network(Network { rules, ..Network::default() }), expected: ExpectedEffect::Effect })
    }
}
