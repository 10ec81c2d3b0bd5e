//! Texts that nobody means well by: every one is refused or taken soon, without a panic.

use std::fs;

use proptest::prelude::*;

use super::tests::{Project, fixtures};

#[test]
fn hostile_texts_end_quickly() {
    let deep = "[".repeat(200_000);
    let nested: String = (0..200).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    let aliases = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(50_000), vec!["*a"; 2000].join(","));
    let wide = format!("variables:\n{}", (0..30_000).map(|n| format!("  V{n}: x\n")).collect::<String>());
    let doubling: String =
        "variables:\n  V0: xxxxxxxx\n".to_owned() + &(1..64).map(|n| format!("  V{n}: ${{V{0}}}${{V{0}}}\n", n - 1)).collect::<String>();
    let many = format!("variables:\n  A: {}\n", "y".repeat(100_000)) + &(0..5_000).map(|n| format!("  B{n}: ${{A}}\n")).collect::<String>();
    let comments = "#\n".repeat(100_000);
    let large = " ".repeat(2 << 20);
    for (name, text) in [
        ("deep", deep),
        ("nested", nested),
        ("aliases", aliases),
        ("wide", wide),
        ("doubling", doubling),
        ("many", many),
        ("comments", comments),
        ("large", large),
        ("recursive", "a: &a [*a]\nservices: {}\n".to_owned()),
        ("merge", "a: &a {<<: *a}\nservices: {}\n".to_owned()),
        ("self", "variables: { A: \"${A}\", B: \"${C}\", C: \"${B}\" }\nservices: {}\n".to_owned()),
    ] {
        let project = Project::new(&[("profiles/x.yaml", &text)]);
        let began = std::time::Instant::now();
        assert!(project.load("x").is_err(), "{name}");
        assert!(began.elapsed().as_secs() < 10, "{name} took {:?}", began.elapsed());
    }
    let project = Project::new(&[("profiles/x.yaml", "env_file: [.env]\nservices: {}\n")]);
    let text: String = "A0=xxxxxxxx\n".to_owned() + &(1..64).map(|n| format!("A{n}=$A{0}$A{0}\n", n - 1)).collect::<String>();
    project.write(".env", text.as_bytes());
    assert!(project.load("x").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_neither_panic_nor_hang(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        super::check_bytes(&bytes);
    }

    #[test]
    fn texts_made_of_yaml_neither_panic_nor_hang(pieces in proptest::collection::vec(prop::sample::select(PIECES), 0..60)) {
        super::check_bytes(pieces.concat().as_bytes());
    }

    #[test]
    fn a_good_profile_with_a_slip_neither_panics_nor_hangs(at in 0usize..2000, cut in 0usize..12, piece in prop::sample::select(PIECES)) {
        let fixture = fixtures("good").pop().unwrap();
        let mut bytes = fs::read(fixture).unwrap();
        let at = at % bytes.len();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, piece.bytes());
        super::check_bytes(&bytes);
    }
}

const PIECES: &[&str] = &[
    "services:", "\n  ", "\n    ", "\n", " ", "db:", "postgres:", "redis: ", "{", "}", "[", "]", ",", ": ", "- ", "&a ", "*a", "<<: ", "!t ", "\"", "'", "|",
    ">", "\t", "${A}", "${", "$$", "#", "---\n", "...\n", "version", "17", "null", "~", "true", "variables: ", "extends: ", "é", "\u{feff}", "depends_on: ",
    "? ", "%YAML 1.2\n", "\r\n", "container: ", "process: ", "image: ", "ports: ", "probe: ",
];
