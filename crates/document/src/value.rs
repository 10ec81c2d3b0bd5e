//! Meanings of values that several rules use. Text of the wrong type was reported when its shape was checked.

use crate::{source::Findings, tree::Node};

/// A finite number, if the text is one.
pub fn number(text: &str) -> Option<f64> {
    let shaped = text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    text.parse::<f64>().ok().filter(|number| shaped && number.is_finite())
}

/// A number above 0.
pub fn positive(node: &Node, field: &str, findings: &mut Findings) {
    if node.text().and_then(number).is_some_and(|number| number <= 0.0) {
        findings.error(node.span, "bad-value", format!("`{field}` must be more than 0, but is {}", node.noun()));
    }
}

/// A size or duration above 0.
pub fn not_zero(node: &Node, field: &str, findings: &mut Findings) {
    if node.text().is_some_and(|text| text.starts_with('0') && text.trim_start_matches('0').starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        findings.error(node.span, "bad-value", format!("`{field}` must be more than 0, but is {}", node.noun()));
    }
}

/// An image's name, not a sentence.
pub fn image_name(node: &Node, findings: &mut Findings) {
    if node.text().is_some_and(|name| name.is_empty() || name.contains(char::is_whitespace)) {
        findings.error(node.span, "bad-value", format!("`image` must be an image name, but is {}", node.noun()));
    }
}
