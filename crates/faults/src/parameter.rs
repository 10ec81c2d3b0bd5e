//! Parameters of faults: names, types, defaults.

use super::Value;
use devenv_spec::{Period, Size};

/// A parameter of a fault.
pub struct Parameter {
    pub name: &'static str,
    pub form: Form,
    /// In its textual form. A parameter without a default that is not given is absent.
    pub default: Option<&'static str>,
    pub about: &'static str,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `80ms`
    Duration,
    /// `64MiB`
    Size,
    /// `64KiB/s`
    Rate,
    /// `30%`
    Percent,
    /// `2`
    Count,
    /// `0.5`
    Number,
    Boolean,
    Text,
    Choice(&'static [&'static str]),
}

/// Parameters that several faults share.
impl Parameter {
    pub const FROM: Self =
        Self::new("from", Form::Text, "Which traffic: `all`, `host` (through the published ports), `services`, or one service.").or("all");
    pub const DIRECTION: Self =
        Self::new("direction", Form::Choice(&["both", "up", "down"]), "Which direction: `up` is towards the service.").or("both");
    pub const CONNECTIONS: Self = Self::new(
        "connections",
        Form::Choice(&["new", "all"]),
        "`all` resets existing connections so that clients reconnect and feel the fault, `new` leaves them alone.",
    )
    .or("all");
    pub const PROBABILITY: Self =
        Self::new("probability", Form::Percent, "The fraction of connections to affect, chosen by the seed and the connection's number.")
            .or("100%");
    pub const PERSIST: Self =
        Self::new("persist", Form::Boolean, "Inject the fault again after each restart of the service, until its time is up.").or("false");
}

impl Parameter {
    pub const fn new(name: &'static str, form: Form, about: &'static str) -> Self {
        Self { name, form, default: None, about }
    }

    pub const fn or(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }
}

impl Form {
    pub fn words(self) -> String {
        match self {
            Self::Duration => "a duration such as `80ms`".to_owned(),
            Self::Size => "a size such as `64MiB`".to_owned(),
            Self::Rate => "a rate such as `64KiB/s`".to_owned(),
            Self::Percent => "a percentage such as `30%`".to_owned(),
            Self::Count => "a whole number".to_owned(),
            Self::Number => "a number such as `0.5`".to_owned(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Choice(choices) => choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", "),
        }
    }

    /// `None` if the text does not have this form.
    pub fn parse(self, text: &str) -> Option<Value> {
        Some(match self {
            Self::Duration => Value::Duration(text.parse::<Period>().ok()?.duration()),
            Self::Size => Value::Size(text.parse::<Size>().ok()?.bytes()),
            Self::Rate => Value::Rate(text.strip_suffix("/s")?.parse::<Size>().ok()?.bytes()),
            Self::Percent => {
                let number: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
                (0.0..=100.0).contains(&number).then_some(Value::Percent(number))?
            }
            Self::Count => Value::Count(text.parse().ok()?),
            Self::Number => Value::Number(text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)?),
            Self::Boolean => Value::Boolean(text.parse().ok()?),
            Self::Text => Value::Text(text.to_owned()),
            Self::Choice(choices) => Value::Text(choices.contains(&text).then(|| text.to_owned())?),
        })
    }
}
