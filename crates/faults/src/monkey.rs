//! Random faults, one after another.

use super::{Action, ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};

pub(super) struct Monkey;

impl FaultKind for Monkey {
    fn name(&self) -> &'static str {
        "monkey"
    }

    fn about(&self) -> &'static str {
        "Inject one random fault after another, chosen by the seed."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("faults", Form::Text, "The faults to choose from, separated by commas.")
                .or("kill,pause,partition,latency,refuse"),
            Parameter::new("services", Form::Text, "The services to choose from, separated by commas. Default: only this service."),
            Parameter::new("every", Form::Duration, "The time from one fault to the next.").or("5s"),
            Parameter::new("lasting", Form::Duration, "How long each fault lasts.").or("2s"),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        let faults = listed("faults", values.text("faults").unwrap_or_default())?;
        if let Some(unknown) = faults.iter().find(|name| **name == "monkey" || !target.faults.contains(name)) {
            return Err(Refusal::new(format!("`monkey` cannot inject `{unknown}`")).hint("run `devenv chaos faults` to list them"));
        }
        let services = match values.text("services") {
            None => vec![target.spec.name.clone()],
            Some(names) => {
                let named = listed("services", names)?;
                if let Some(unknown) = named.iter().find(|name| !target.services.iter().any(|service| service.as_str() == **name)) {
                    return Err(Refusal::new(format!("unknown service `{unknown}`")));
                }
                target.services.iter().filter(|service| named.contains(&service.as_str())).cloned().collect()
            }
        };
        let faults = faults.into_iter().map(str::to_owned).collect();
        let (every, lasting) = (values.duration("every").unwrap_or_default(), values.duration("lasting").unwrap_or_default());
        Ok(Injection { action: Action::Monkey { faults, services, every, lasting }, expected: ExpectedEffect::Effect })
    }
}

/// The names in a list with commas; at least one.
fn listed<'a>(parameter: &str, text: &'a str) -> Result<Vec<&'a str>, Refusal> {
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        return Err(Refusal::new(format!("`{parameter}` names nothing")).hint("give names with commas between: `kill,pause`"));
    }
    Ok(names)
}
