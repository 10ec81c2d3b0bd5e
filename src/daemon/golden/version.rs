//! Which PostgreSQL wrote the data, and which one is to read it.

use crate::{reconcile::Evidence, spec::ServiceSpec};

/// PostgreSQL refuses the data of another major version, and says little: this says what to do, and starts nothing.
pub(super) fn version_fits(spec: &ServiceSpec, found: &str) -> Result<(), Evidence> {
    let Some(wanted) = spec.container().and_then(|container| major_of(container.image.name())) else { return Ok(()) };
    if found == wanted {
        return Ok(());
    }
    let service = &spec.name;
    let cause = format!(
        "the data of `{service}` was written by PostgreSQL {found}, and the profile wants PostgreSQL {wanted}, which cannot read it; nothing was started on it"
    );
    let fix = format!(
        "set `version: \"{found}\"` and: `devenv up`, `devenv export {service} {service}.dump`, `devenv down --volumes`; \
         then `version: \"{wanted}\"`, `devenv up` and `devenv import {service} {service}.dump`. Without the data: `devenv reset {service}` (`devenv undo` brings it back)"
    );
    Err(Evidence { diagnosis: Some((cause.clone(), fix)), ..Evidence::of(cause) })
}

/// From `postgres:17`, `pgvector/pgvector:pg17`, `postgis/postgis:16-3.4`; nothing if the tag does not say it.
fn major_of(image: &str) -> Option<&str> {
    let tag = image.rsplit_once(':')?.1;
    let tag = tag.strip_prefix("pg").unwrap_or(tag);
    let end = tag.find(|c: char| !c.is_ascii_digit()).unwrap_or(tag.len());
    (1..=2).contains(&end).then(|| &tag[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_the_tags_that_images_of_postgresql_have() {
        for (image, major) in [
            ("postgres:17", Some("17")),
            ("pgvector/pgvector:pg16", Some("16")),
            ("postgis/postgis:16-3.4", Some("16")),
            ("localhost:5000/postgres:15.4-alpine", Some("15")),
            ("timescale/timescaledb:latest-pg16", None),
            ("postgres", None),
            ("mine:20240101", None),
        ] {
            assert_eq!(major_of(image), major, "{image}");
        }
    }
}
