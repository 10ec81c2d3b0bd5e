//! The rules on the real sources, and each rule on a planted violation.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cycles::{cycles, graph, upward},
    homes::away_from_home,
    rules::{
        BUILT_ON, ROOMS, RULES, Rule, TEXTS_THAT_ARE_NO_KIND, kinds_that_name_others, outsiders_that_name_kinds,
        outsiders_that_write_kinds, violations,
    },
    source::{Source, read},
};

/// Remaining circles, each with its reason: none.
const KNOWN_CYCLES: &[(&str, &[&str])] = &[];

type Files = BTreeMap<String, String>;

fn root() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).canonicalize().unwrap()
}

fn collect(directory: &Path, base: &Path, files: &mut Files) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, base, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(base).unwrap().to_str().unwrap().to_owned();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Every package of the workspace, by its name.
fn packages() -> BTreeMap<String, (Files, Source)> {
    let mut directories = vec![("devenv".to_owned(), root())];
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        directories.push((format!("devenv-{}", path.file_name().unwrap().to_str().unwrap()), path));
    }
    let read_package = |directory: &Path| {
        let mut files = Files::new();
        let sources = directory.join("src");
        collect(&sources, &sources, &mut files);
        let source = read(&files).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        (files, source)
    };
    directories.into_iter().map(|(name, directory)| (name, read_package(&directory))).collect()
}

/// The kinds' folders: what has fields.
fn kinds(files: &Files) -> Vec<String> {
    files.keys().filter_map(|file| file.strip_suffix("/fields.rs")).map(str::to_owned).collect()
}

#[test]
fn no_file_names_what_a_rule_forbids() {
    let packages = packages();
    let kinds = kinds(&packages["devenv-kinds"].0);
    assert!(kinds.len() > 10 && packages["devenv"].1.files.len() > 50, "the sources were not found");
    let mut broken = kinds_that_name_others(&kinds, &packages["devenv-kinds"].1);
    for (name, (_, source)) in &packages {
        broken.extend(violations(name, source));
        if name != "devenv-kinds" {
            broken.extend(outsiders_that_name_kinds(name, &kinds, source));
            broken.extend(outsiders_that_write_kinds(name, &kinds, source));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_production_file_is_read() {
    for (name, (files, source)) in packages() {
        let read: BTreeSet<&String> = source.files.iter().collect();
        let is_test =
            |file: &str| ["tests", "testing", "fake", "conformance", "hostile", "reference"].iter().any(|word| file.contains(word));
        let missed: Vec<&String> = files.keys().filter(|file| !read.contains(file) && !is_test(file)).collect();
        assert!(missed.is_empty() || missed == ["main.rs"], "{name}: {missed:?}");
    }
}

#[test]
fn no_circle_exists_but_those_that_are_known() {
    for (name, (_, source)) in packages() {
        let graph = graph(&source);
        for circle in cycles(&graph) {
            let known =
                KNOWN_CYCLES.iter().any(|(package, known)| *package == name && circle.iter().all(|one| known.contains(&one.as_str())));
            let mut arrows = Vec::new();
            for (from, to) in circle.iter().flat_map(|from| circle.iter().map(move |to| (from, to))) {
                arrows.extend(graph[from].get(to).map(|place| format!("{from} -> {to} ({place})")));
            }
            assert!(known, "{name}: {circle:?} need one another:\n{}", arrows.join("\n"));
        }
    }
}

#[test]
fn no_room_of_the_root_crate_names_one_above_it() {
    let (_, source) = &packages()["devenv"];
    let graph = graph(source);
    let modules = graph.keys().filter(|module| !["cli", "main", "lib"].contains(&module.as_str()));
    let unplaced: Vec<&String> = modules.filter(|module| !ROOMS.iter().any(|row| row.contains(&module.as_str()))).collect();
    assert!(unplaced.is_empty(), "{unplaced:?} have no place in `ROOMS`");
    assert_eq!(upward(ROOMS, &graph), Vec::<String>::new());
}

/// The lists of exceptions, for a test that each entry is still needed.
struct Exceptions<'a> {
    cycles: &'a [(&'a str, &'a [&'a str])],
    rooms: &'a [&'a [&'a str]],
    built_on: &'a [(&'a str, &'a str)],
    texts: &'a [(&'a str, &'a str, &'a str)],
}

/// The entries that the sources do not need any more.
fn stale(exceptions: &Exceptions<'_>) -> Vec<String> {
    let packages = packages();
    let source = |package: &str| packages.get(package).map(|(_, source)| source);
    let kinds = kinds(&packages["devenv-kinds"].0);
    let mut stale = Vec::new();
    for (package, modules) in exceptions.cycles {
        let mut wanted: Vec<String> = modules.iter().map(ToString::to_string).collect();
        wanted.sort();
        let found = source(package).map(|source| cycles(&graph(source))).unwrap_or_default();
        if !found.contains(&wanted) {
            stale.push(format!("KNOWN_CYCLES: {package}: {modules:?} is no circle; the circles are {found:?}"));
        }
    }
    let modules: BTreeSet<&str> =
        packages["devenv"].1.mentions.iter().filter_map(|mention| mention.module.first()).map(String::as_str).collect();
    let gone = exceptions.rooms.iter().copied().flatten().filter(|room| !modules.contains(**room));
    stale.extend(gone.map(|room| format!("ROOMS: there is no module `{room}`")));
    for (own, other) in exceptions.built_on {
        let names = |path: &[String]| matches!(path, [start, named, ..] if start == "crate" && named == other);
        let mentions = &packages["devenv-kinds"].1.mentions;
        if !mentions.iter().any(|mention| mention.module.first().is_some_and(|module| module == own) && names(&mention.path)) {
            stale.push(format!("BUILT_ON: `{own}` does not name `{other}`"));
        }
    }
    for (package, part, _) in exceptions.texts {
        let is_needed = |source: &Source| source.texts.iter().any(|text| text.file.starts_with(part) && kinds.contains(&text.text));
        if !source(package).is_some_and(is_needed) {
            stale.push(format!("TEXTS_THAT_ARE_NO_KIND: {package}: no text in `{part}` is that of a kind's name"));
        }
    }
    stale
}

#[test]
fn every_exception_is_still_needed() {
    let exceptions = Exceptions { cycles: KNOWN_CYCLES, rooms: ROOMS, built_on: BUILT_ON, texts: TEXTS_THAT_ARE_NO_KIND };
    let stale = stale(&exceptions);
    assert!(stale.is_empty(), "delete these entries:\n{}", stale.join("\n"));
}

#[test]
fn a_planted_exception_that_nothing_needs_is_reported() {
    let planted = Exceptions {
        cycles: &[("devenv-files", &["one", "other"]), ("devenv-gone", &["one", "other"])],
        rooms: &[&["net", "cellar"]],
        built_on: &[("redpanda", "kafka"), ("kafka", "postgres")],
        texts: &[("devenv-files", "", "why"), ("devenv-spec", "no-such-file.rs", "why")],
    };
    let stale = stale(&planted);
    assert_eq!(stale.len(), 6, "{stale:#?}");
    assert!(stale.iter().all(|entry| !entry.contains("`net`") && !entry.contains("redpanda")), "{stale:#?}");
}

#[test]
fn methods_are_in_the_room_of_their_type() {
    let (files, _) = &packages()["devenv"];
    assert_eq!(away_from_home(files).unwrap(), Vec::<String>::new());
}

#[test]
fn a_planted_method_away_from_home_is_reported() {
    let files = [
        ("net/mod.rs", "pub struct Registry; struct Same; impl Registry {} impl Same {}"),
        ("net/deep.rs", "impl super::Registry {} mod within { impl crate::net::Registry {} }"),
        (
            "server.rs",
            "struct Same; impl Same {} impl Display for Registry {} impl Foreign {} mod inner { impl crate::net::Registry { fn f() {} } }",
        ),
        ("daemon.rs", "#[cfg(test)] mod tests { impl Registry {} }"),
    ];
    let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    assert_eq!(away_from_home(&files).unwrap(), ["server.rs: impl Registry"]);
}

#[test]
fn a_planted_arrow_that_leads_upward_is_reported() {
    let files = [
        ("lib.rs", "mod net; mod reconcile; mod server;"),
        ("net.rs", "fn f() { crate::server::serve() }"),
        ("reconcile.rs", "use crate::net::forward;"),
        ("server.rs", "use crate::{net::forward, reconcile::Handle};"),
    ];
    let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    assert_eq!(upward(ROOMS, &graph(&read(&files).unwrap())), ["net -> server (net.rs:1)"]);
}

#[test]
fn crates_do_not_depend_on_the_supervisor_nor_pure_ones_on_effects() {
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        let normal = manifest.split("[dependencies]").nth(1).unwrap_or_default().split("\n[").next().unwrap();
        let depends_on = |name: &str| normal.lines().any(|line| line.split([' ', '.', '=']).next() == Some(name));
        assert!(!depends_on("devenv"), "{} depends on devenv", path.display());
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name == "engine" || !depends_on("bollard"), "{name} depends on bollard");
        if ["api", "compose", "document", "files", "spec", "shipped"].contains(&name) {
            assert!(!normal.contains("devenv-engine") && !normal.contains("devenv-kinds"), "{name} depends on what is above it");
        }
        for effect in ["tokio", "reqwest", "hyper", "redis", "devenv-engine", "devenv-processes", "devenv-secrets"] {
            assert!(
                !["compose", "document", "spec", "faults", "profile", "shipped"].contains(&name) || !depends_on(effect),
                "{name} depends on {effect}"
            );
        }
    }
}

/// A crate with one file at this path, and the modules that lead to it.
fn crate_with(file: &str, text: &str) -> Files {
    let mut files = Files::new();
    let names: Vec<&str> = file.strip_suffix(".rs").unwrap().split('/').filter(|name| *name != "mod").collect();
    if file == "lib.rs" {
        files.insert(file.to_owned(), text.to_owned());
        return files;
    }
    files.insert("lib.rs".to_owned(), format!("mod {};", names[0]));
    for (index, pair) in names.windows(2).enumerate() {
        files.insert(format!("{}/mod.rs", names[..=index].join("/")), format!("mod {};", pair[1]));
    }
    files.insert(file.to_owned(), text.to_owned());
    files
}

fn reported(rule: &Rule, text: &str) -> bool {
    let mut files = crate_with(rule.example, text);
    if rule.package == "devenv"
        && let Some(root) = files.get_mut("lib.rs")
    {
        root.push_str("use devenv_kinds as kinds;");
    }
    let source = read(&files).unwrap();
    violations(rule.package, &source).iter().any(|found| found.ends_with(rule.text))
}

#[test]
fn a_planted_violation_of_every_rule_is_reported() {
    for rule in RULES {
        assert!((rule.about)(rule.example), "{}", rule.text);
        assert!(
            !reported(rule, "use std::collections::{BTreeMap, btree_map::{self, Entry}}; fn f() { std::mem::drop(1); }"),
            "{}",
            rule.text
        );
        for path in rule.never.iter().copied().flatten() {
            let first = path.split("::").next().unwrap();
            let rest = path.split_once("::").map_or("thing", |(_, rest)| rest);
            let last = rest.rsplit("::").next().unwrap();
            // `{other, a::{self, b::{c}}}`, as deep as the path is.
            let nested = rest.rsplit("::").fold(String::new(), |inner, segment| match inner.as_str() {
                "" => format!("{segment}::{{self, deep::{{Deeper}}}}"),
                _ => format!("{segment}::{{other, {inner}}}"),
            });
            for text in [
                format!("use {path};"),
                format!("use {{std::mem, {first}::{{other, {nested}}}}};"),
                format!("use {path} as innocent; fn f() {{ innocent::call() }}"),
                format!("fn f() -> {path}::Thing {{ todo!() }}"),
                format!("fn f() {{ {path}::call() }}"),
                format!("fn f() {{ vec![1, {path}::call(2)]; }}"),
                format!("fn f() {{ let closure = |x: &{path}::Type| x; }}"),
                format!("mod within {{ use {path}::{{self as other}}; }}"),
                format!("impl super::Thing for u8 {{ fn f() {{ {path}::call() }} }}"),
            ] {
                assert!(reported(rule, &text), "{}: `{text}`", rule.text);
            }
            assert!(!reported(rule, &format!("#[cfg(test)] mod tests {{ use {path}; }}")), "tests may: {}", rule.text);
            assert!(!reported(rule, &format!("#[cfg(test)] fn f() {{ {last}::call() }}")), "tests may: {}", rule.text);
        }
        for method in rule.calls {
            assert!(
                reported(rule, &format!("fn f(path: &Path) {{ if path.parent().unwrap().{method}() {{ }} }}")),
                "{}: {method}",
                rule.text
            );
        }
    }
}

#[test]
fn names_are_followed_through_imports_aliases_and_relative_paths() {
    let rule = RULES.iter().find(|rule| rule.example == "reconcile/actor.rs").unwrap();
    // `crate::kinds` is `devenv_kinds`, as the planted root says.
    for text in [
        "use crate::{store::Record, kinds::{self, Kind}};",
        "use super::super::kinds::Kind;",
        "use crate::kinds as innocent;",
        "fn f() { crate::kinds::find(1); }",
        "fn f() { super::super::kinds::find(1); }",
    ] {
        assert!(reported(rule, text), "{text}");
    }
    let rule = RULES.iter().find(|rule| rule.example == "merge.rs").unwrap();
    for text in [
        "use std::fs; fn f() { fs::read(1); }",
        "use std::time; fn f() { time::Instant::now(); }",
        "use std::time::{Duration, Instant}; fn f() -> Instant { Instant::now() }",
        "fn f() { println!(\"{:?}\", std::time::Instant::now()); }",
    ] {
        assert!(reported(rule, text), "{text}");
    }
    assert!(!reported(rule, "use std::time::{Duration, Instant}; fn f(now: Instant) {}"), "time that is given is no clock");
}

#[test]
fn a_planted_kind_that_names_another_is_reported() {
    let kinds = ["postgres".to_owned(), "redis".to_owned(), "redpanda".to_owned(), "kafka".to_owned()];
    let planted = |folder: &str, text: &str| {
        let mut files = crate_with(&format!("{folder}/probe.rs"), text);
        // As the kinds' crate declares them: by a macro.
        files.insert("lib.rs".to_owned(), format!("kinds! {{ \"{folder}\" {folder} Kind, }}"));
        kinds_that_name_others(&kinds, &read(&files).unwrap())
    };
    assert_eq!(planted("postgres", "use crate::{probe::Receipt, redis::{self, probe}};").len(), 2);
    assert_eq!(planted("postgres", "fn f() { super::super::redis::probe::ask() }").len(), 1);
    assert_eq!(planted("postgres", "use crate::postgres::spec; use super::fields;"), Vec::<String>::new());
    assert_eq!(planted("redpanda", "use crate::kafka::topics;"), Vec::<String>::new());
}

#[test]
fn a_planted_outsider_that_names_a_kind_is_reported() {
    let kinds = ["postgres".to_owned(), "redis".to_owned()];
    let planted = |text: &str| {
        let mut files = crate_with("daemon/mod.rs", text);
        files.insert("lib.rs".to_owned(), "mod daemon; use devenv_kinds as kinds;".to_owned());
        outsiders_that_name_kinds("devenv", &kinds, &read(&files).unwrap())
    };
    assert_eq!(planted("use crate::kinds::{find, postgres::spec::{Provision}};").len(), 1);
    assert_eq!(planted("fn f() { devenv_kinds::redis::ask() }").len(), 1);
    assert_eq!(planted("use crate::kinds::{self, capability::Probe}; fn f() { kinds::find(1); }"), Vec::<String>::new());
}

#[test]
fn a_planted_outsider_that_writes_a_kinds_name_is_reported() {
    let kinds = ["postgres".to_owned(), "redis".to_owned()];
    let planted = |text: &str| {
        let files = crate_with("daemon/exec.rs", text);
        outsiders_that_write_kinds("devenv", &kinds, &read(&files).unwrap())
    };
    assert_eq!(planted("fn f(kind: &str) -> bool { kind == \"redis\" }").len(), 1);
    assert_eq!(planted("fn f(kind: &str) -> bool { matches!(kind, \"postgres\" | \"redis\") }").len(), 2);
    assert_eq!(planted("/// redis\nfn f() { call(\"a redis\") }"), Vec::<String>::new());
    assert_eq!(planted("#[cfg(test)] mod tests { fn f() { call(\"redis\") } }"), Vec::<String>::new());
}

#[test]
fn a_planted_circle_is_found_through_re_exports_and_nested_imports() {
    let circles = |a: &str, b: &str| {
        let root = "mod a; mod b; mod c; pub use b::{inner::Thing, Other as Renamed};";
        let files = [("lib.rs", root), ("a.rs", a), ("b.rs", b), ("c.rs", "use crate::a::A;")];
        let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
        cycles(&graph(&read(&files).unwrap()))
    };
    let circle = vec![vec!["a".to_owned(), "b".to_owned()]];
    assert_eq!(circles("use crate::{b::{self, deep::{Deeper}}};", "use super::a::A;"), circle);
    assert_eq!(circles("use crate::Thing;", "fn f() { crate::a::call() }"), circle);
    assert_eq!(circles("fn f(x: super::Renamed) {}", "use crate::{a}; fn f() { a::call() }"), circle);
    assert_eq!(circles("use crate::Thing;", "#[cfg(test)] mod tests { use crate::a; }"), Vec::<Vec<String>>::new());
}
