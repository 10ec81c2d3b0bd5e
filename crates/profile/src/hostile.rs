//! Malicious texts: each is refused or accepted soon, without a panic.

use std::{fs, time::Duration};

use proptest::prelude::*;

use super::tests::{Project, fixtures};

#[test]
fn hostile_texts_end_quickly() {
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let aliases = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(50_000), vec!["*a"; 2000].join(","));
    let doubling = many(64, &|n| format!("  V{}: ${{V{n}}}${{V{n}}}\n", n + 1));
    let dependencies = many(10_000, &|n| format!("      x{n}: ready\n"));
    let services = many(3_000, &|n| format!("  s{n}: {{ redis: {{}}, depends_on: {{ t{n}: ready }} }}\n"));
    for (name, text) in [
        ("deep", "[".repeat(200_000)),
        ("nested", many(200, &|depth: usize| format!("{}a:\n", " ".repeat(depth)))),
        ("aliases", aliases),
        ("wide", format!("variables:\n{}", many(30_000, &|n| format!("  V{n}: x\n")))),
        ("doubling", format!("variables:\n  V0: xxxxxxxx\n{doubling}")),
        ("many", format!("variables:\n  A: {}\n{}", "y".repeat(100_000), many(5_000, &|n| format!("  B{n}: ${{A}}\n")))),
        ("unset", format!("variables:\n{}", many(30_000, &|n| format!("  B{n}: ${{C{n}}}\n")))),
        ("unset on one line", format!("variables: {{{}}}\n", many(30_000, &|n| format!("B{n}: \"${{C{n}}}\",")))),
        ("unknown fields", format!("services:\n  db:\n    postgres:\n{}", many(30_000, &|n| format!("      f{n}: 1\n")))),
        ("wrong types", format!("services:\n  db:\n    postgres:\n      extensions: [{}]\n", "[],".repeat(100_000))),
        (
            "the same",
            format!("services:\n  db:\n    postgres:\n      extensions: [{}]\n      verson: 1\n", many(80_000, &|n| format!("e{n},"))),
        ),
        ("unknown dependencies", format!("services:\n  db:\n    redis: {{}}\n    depends_on:\n{dependencies}")),
        ("lonely services", format!("services:\n{services}")),
        ("duplicates", format!("variables:\n{}", "  A: 1\n".repeat(100_000))),
        ("comments", "#\n".repeat(100_000)),
        ("large", " ".repeat(2 << 20)),
        ("recursive", "a: &a [*a]\nservices: {}\n".to_owned()),
        ("merge", "a: &a {<<: *a}\nservices: {}\n".to_owned()),
        ("self", "variables: { A: \"${A}\", B: \"${C}\", C: \"${B}\" }\nservices: {}\n".to_owned()),
    ] {
        let project = Project::new(&[("profiles/x.yaml", &text)]);
        is_refused_soon(&project, name);
    }
    for (name, text) in [
        ("doubling", format!("A0=xxxxxxxx\n{}", many(40_000, &|n| format!("A{}=$A{n}$A{n}\n", n + 1)))),
        ("unset", many(60_000, &|n| format!("A{n}=$B{n}\n"))),
        ("wrong", "B B\n".repeat(200_000)),
        ("unclosed", "A='\n".repeat(200_001)),
        ("quotes", "A='x' y\n".repeat(100_000)),
    ] {
        let project = Project::new(&[("profiles/x.yaml", "env_file: [.env]\nservices: {}\n"), (".env", &text)]);
        is_refused_soon(&project, name);
    }
}

/// The work grows with the number of services, not with its square. Measured in processor time: tests run in parallel.
#[test]
fn a_profile_of_thousands_of_services_is_loaded_and_compiled_quickly() {
    let many = |count: usize, line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let lines = many(16_000, &|n| format!(" s{n}: {{process: {{command: [a]}}, depends_on: {{s{}: started}}}}\n", n / 2));
    let lines = lines.replacen(", depends_on: {s0: started}", "", 1);
    let flow = many(16_000, &|n| format!("s{n}: {{process: {{command: [a]}}}}, "));
    for (name, text) in [("a service on each line", format!("services:\n{lines}")), ("all on one line", format!("services: {{{flow}}}\n"))]
    {
        let project = Project::new(&[("profiles/x.yaml", &text)]);
        let began = spent();
        let loaded = project.load("x").unwrap_or_else(|error| panic!("{name}: {:?}", error.problems().first()));
        assert_eq!(crate::compile::draft(&loaded.profile).services.len(), 16_000, "{name}");
        let took = spent().checked_sub(began).unwrap();
        assert!(took < LONGEST, "{name} took {took:?}");
    }
}

fn is_refused_soon(project: &Project, name: &str) {
    let before = spent();
    assert!(project.load("x").is_err(), "{name}");
    let took = spent().checked_sub(before).unwrap();
    assert!(took < LONGEST, "{name} took {took:?}");
}

/// The processor time of this thread, in which nothing else that the machine does counts.
fn spent() -> Duration {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // For the program and for the kernel, in hundredths of a second.
    let hundredths: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * hundredths)
}

/// Generous, because tests run unoptimised and in parallel; unbounded work takes minutes.
const LONGEST: Duration = Duration::from_secs(15);

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
    fn a_good_profile_with_a_typing_error_neither_panics_nor_hangs(at in 0usize..2000, cut in 0usize..12, piece in prop::sample::select(PIECES)) {
        let fixture = fixtures("good").pop().unwrap();
        let mut bytes = fs::read(fixture).unwrap();
        let at = at % bytes.len();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, piece.bytes());
        super::check_bytes(&bytes);
    }
}

const PIECES: &[&str] = &[
    "services:",
    "\n  ",
    "\n    ",
    "\n",
    " ",
    "db:",
    "postgres:",
    "redis: ",
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "!t ",
    "\"",
    "'",
    "|",
    ">",
    "\t",
    "${A}",
    "${",
    "$$",
    "#",
    "---\n",
    "...\n",
    "version",
    "17",
    "null",
    "~",
    "true",
    "variables: ",
    "extends: ",
    "é",
    "\u{feff}",
    "depends_on: ",
    "? ",
    "%YAML 1.2\n",
    "\r\n",
    "container: ",
    "process: ",
    "image: ",
    "ports: ",
    "probe: ",
];
