//! Modules that depend on one another, or on one above them.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::Source;

/// For each top-level module of the crate, the others that it names, with a place where it does.
pub type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// The dependencies between the crate's top-level modules. Those to and from the root do not count: a root and its
/// modules know one another.
pub fn graph(source: &Source) -> Graph {
    let modules: BTreeSet<&String> = source.mentions.iter().filter_map(|mention| mention.module.first()).collect();
    let mut graph = Graph::new();
    for mention in &source.mentions {
        let (Some(from), [start, to, ..]) = (mention.module.first(), mention.path.as_slice()) else { continue };
        if start == "crate" && to != from && modules.contains(to) {
            let place = || format!("{}:{}", mention.file, mention.line);
            graph.entry(from.clone()).or_default().entry(to.clone()).or_insert_with(place);
        }
    }
    graph
}

/// The sets of modules that reach one another, each sorted.
pub fn cycles(graph: &Graph) -> Vec<Vec<String>> {
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    let reach: BTreeMap<&String, BTreeSet<&String>> = graph.keys().map(|from| (from, reachable(graph, from))).collect();
    for (from, reached) in &reach {
        let circle: Vec<String> =
            reached.iter().filter(|to| reach.get(**to).is_some_and(|back| back.contains(from))).map(|to| (*to).clone()).collect();
        if !circle.is_empty() {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

/// The dependencies on the same row or a later one, as `from -> to (place)`. Modules in no row may name all and be named
/// by all.
pub fn upward(rows: &[&[&str]], graph: &Graph) -> Vec<String> {
    let row = |module: &String| rows.iter().position(|row| row.contains(&module.as_str()));
    let arrows = graph.iter().flat_map(|(from, reached)| reached.iter().map(move |(to, place)| (from, to, place)));
    let upward = arrows.filter(|(from, to, _)| row(from).zip(row(to)).is_some_and(|(from, to)| to >= from));
    upward.map(|(from, to, place)| format!("{from} -> {to} ({place})")).collect()
}

fn reachable<'a>(graph: &'a Graph, from: &str) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&String> = graph.get(from).into_iter().flat_map(BTreeMap::keys).collect();
    while let Some(next) = waiting.pop() {
        if reached.insert(next) {
            waiting.extend(graph.get(next).into_iter().flat_map(BTreeMap::keys));
        }
    }
    reached
}
