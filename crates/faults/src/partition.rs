//! A network partition.

use super::{Action, FaultKind, Form, Injection, Network, Parameter, Refusal, Rule, Target, Undoing, Values, Verdict, traffic};

pub(super) struct Partition;

impl FaultKind for Partition {
    fn name(&self) -> &'static str {
        "partition"
    }

    fn about(&self) -> &'static str {
        "Cut the service off: from everything, from the host, from the other services, or from one service."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::FROM,
            Parameter::new("style", Form::Choice(&["drop", "reject"]), "`drop` drops packets silently, `reject` resets connections.")
                .or("drop"),
            Parameter::DIRECTION,
            Parameter::PERSIST,
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.container(self.name())?;
        let peer = traffic::peer(values, target)?;
        let verdict = if values.is("style", "reject") { Verdict::Reject } else { Verdict::Drop };
        let rule =
            |hook| Rule { hook, peer: peer.clone(), ports: Vec::new(), connecting: None, chance: None, by_connection: false, verdict };
        let rules = traffic::each_way(values, rule);
        let expected = traffic::network_sign(&peer);
        Ok(Injection { action: Action::Network(Network { rules, ..Network::default() }), expected })
    }
}
