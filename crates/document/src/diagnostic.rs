//! Renders findings for the terminal: the quoted line, the marked problem, a hint.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, renderer::DecorStyle};
use devenv_api::Severity;

use crate::source::{Finding, Findings, Sources};

/// All findings, one after the other, each followed by an empty line. With escape codes, which the printer strips if they
/// are not wanted.
pub fn render(findings: &Findings, sources: &Sources) -> String {
    findings.iter().map(|finding| one(finding, sources) + "\n\n").collect()
}

fn one(finding: &Finding, sources: &Sources) -> String {
    let source = sources.get(finding.span.file);
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    // Of a value over several lines the first is enough.
    let start = finding.span.start.min(source.text.len());
    let line_end = source.text[start..].find('\n').map_or(source.text.len(), |end| start + end);
    let end = finding.span.end.clamp(start, line_end);
    let snippet = Snippet::source(source.text.as_str()).path(source.name.as_str());
    let group = level
        .primary_title(finding.message.as_str())
        .id(finding.code)
        .element(snippet.annotation(AnnotationKind::Primary.span(start..end)));
    let group = match &finding.hint {
        Some(hint) => group.element(Level::HELP.message(hint.as_str())),
        None => group,
    };
    Renderer::styled().decor_style(DecorStyle::Ascii).render(&[group])
}
