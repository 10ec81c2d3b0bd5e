//! Rules for buckets.

use devenv_document::{
    source::Findings,
    tree::{Node, shortened},
};

use super::S3Kind;
use crate::capability::{Rules, ServiceNode};

impl Rules for S3Kind {
    fn check(&self, service: &ServiceNode<'_>, _services: &[ServiceNode<'_>], findings: &mut Findings) {
        let fields = service.fields;
        for bucket in fields.get("buckets").into_iter().flat_map(Node::items) {
            let Some(name) = bucket.text() else { continue };
            let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            let inner = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'));
            if !(3..=63).contains(&name.len()) || !inner || !edge(name.chars().next()) || !edge(name.chars().last()) {
                findings
                    .error(bucket.span, "bad-name", format!("`{}` is not a valid bucket name", shortened(name)))
                    .hint("a name has 3 to 63 characters from a-z, 0-9, `-` and `.`");
            }
        }
    }
}
