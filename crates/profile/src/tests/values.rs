//! Where the values of a profile come from: layers, variables, and how `explain` shows them.

use super::*;

#[test]
fn precedence_is_process_environment_then_env_file_then_profile() {
    let text = "env_file: [.env]\nvariables: { A: profile, B: profile, C: profile, D: \"${A}-${B}-${C}\" }\nservices:\n  db:\n    postgres: { settings: { search_path: \"${A} ${B} ${C}\" } }\n";
    let project = Project::new(&[("profiles/x.yaml", text), (".env", "A=file\nB=file\n")]).with("A", "process");
    let loaded = project.load("x").ok().unwrap();
    let variables: Vec<String> = loaded.profile.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(variables, ["A=process", "B=file", "C=profile", "D=process-file-profile"]);
    let explanation = loaded.origins.explain("services.db.postgres.settings.search_path").unwrap();
    assert_eq!(explanation.value, Some("process file profile".into()));
}

#[test]
fn text_is_what_is_written_and_explicit_keys_win_over_merged_ones() {
    let text = "x-common: &common { NAME: base, ONE: one }\nx-more: &more\n  ONE: more\n  TWO: two\nvariables:\n  <<: [*common, *more]\n  NAME: own\n  \
                COUNTRY: NO\n  MODE: 0755\n  TIME: 12:30:45\n  VERSION: 1.20\n  HEX: 0x1F\n  DATE: 2026-01-02\n  COMMIT: 1234e10\n  UNDER: 1_000\n  \
                SWITCH: on\nservices:\n  db:\n    x-owner: { team: data }\n    postgres: { x-why: tests }\n  x-kept: { redis: {} }\n";
    let project = Project::new(&[("profiles/x.yaml", text)]);
    let loaded = project.load("x").ok().unwrap();
    let variables: Vec<String> = loaded.profile.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        variables.join(" "),
        "NAME=own COUNTRY=NO MODE=0755 TIME=12:30:45 VERSION=1.20 HEX=0x1F DATE=2026-01-02 COMMIT=1234e10 UNDER=1_000 SWITCH=on ONE=one TWO=two"
    );
    let effective = loaded.origins.effective_yaml();
    // A name that the user gives is no field.
    assert!(effective.contains("x-kept") && !effective.contains("x-owner") && !effective.contains("x-common"), "{effective}");
}

#[test]
fn explain_prints_every_layer_that_touched_a_value() {
    let project = Project::new(&[
        ("profiles/base.yaml", "services:\n  db:\n    postgres: { version: 16, settings: { a.b: 1 } }\n"),
        ("profiles/team.yaml", "services:\n  db:\n    postgres:\n      version: ${MAJOR}\n"),
        ("profiles/x.yaml", "extends: [base, team]\nservices:\n  db:\n    optional: true\n"),
    ])
    .with("MAJOR", "18");
    let loaded = project.load("x").ok().unwrap();
    let explain = |key: &str| match loaded.origins.explain(key) {
        Ok(explanation) => explanation.to_string().replace(&format!("{}/", project.path().display()), ""),
        Err(unknown) => format!("{unknown} {:?}", unknown.hint),
    };
    let keys = [
        "services.db.postgres.version",
        "services.db.optional",
        "services.db.postgres.settings.a.b",
        "services.db.postgres.tls",
        "services.db.postgres.tsl",
        "services.dv",
        "services.db.redis",
    ];
    let text: String = keys.iter().map(|key| explain(key) + "\n").collect();
    insta::assert_snapshot!(text, @r#"
    services.db.postgres.version = 18
      profiles/base.yaml:3:26: 16 (replaced)
      profiles/team.yaml:4:16: 18, written as ${MAJOR}, MAJOR from the environment

    services.db.optional = true
      profiles/x.yaml:4:15: true

    services.db.postgres.settings.a.b = 1
      profiles/base.yaml:3:47: 1

    services.db.postgres.tls = false (the default)

    the profile has no key `services.db.postgres.tsl` Some("did you mean `tls`?")
    the profile has no key `services.dv` Some("did you mean `db`?")
    the profile has no key `services.db.redis` None
    "#);
    insta::assert_snapshot!(loaded.origins.effective_yaml(), @r"
    services:
      db:
        postgres:
          version: '18'
          settings:
            a.b: '1'
        optional: true
    ");
}

#[test]
fn a_profile_reached_twice_counts_once_at_its_first_place() {
    let project = Project::new(&[
        ("profiles/a.yaml", "services: { db: { postgres: { version: 14 } } }\n"),
        ("profiles/b.yaml", "extends: [a]\nservices: { db: { postgres: { version: 15 } } }\n"),
        ("profiles/c.yaml", "extends: [a]\nservices: { db: { optional: true } }\n"),
        ("profiles/d.yaml", "extends: [b, c]\n"),
    ]);
    let loaded = project.load("d").ok().unwrap();
    assert_eq!(loaded.origins.explain("services.db.postgres.version").unwrap().value, Some("15".into()));
}

#[test]
fn an_unset_variable_matters_only_where_it_counts() {
    let project = Project::new(&[
        ("profiles/base.yaml", "services: { db: { postgres: { version: \"${NOT_SET}\" } } }\n"),
        ("profiles/x.yaml", "extends: [base]\nservices: { db: { postgres: { version: 15 } } }\n"),
    ]);
    assert_eq!(project.problems_of("x"), Vec::<String>::new());
    assert_eq!(project.problems_of("base").len(), 1);
}

/// Every key that a profile can have gets an explanation.
#[test]
fn every_key_of_a_full_profile_can_be_explained() {
    for fixture in fixtures("good") {
        let project = project_of(&fixture);
        let loaded = project.load("fixture").ok().unwrap();
        let mut keys = Vec::new();
        all_keys("", &loaded.origins.effective(), &mut keys);
        for key in keys {
            let explanation = loaded.origins.explain(&key).unwrap_or_else(|error| panic!("{error}"));
            assert!(!explanation.layers.is_empty() && explanation.layers.iter().any(|touch| touch.counts), "{key}: {explanation:?}");
        }
    }
}

fn all_keys(path: &str, value: &serde_json::Value, keys: &mut Vec<String>) {
    for (name, inner) in value.as_object().into_iter().flatten() {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        keys.push(key.clone());
        all_keys(&key, inner, keys);
    }
}
