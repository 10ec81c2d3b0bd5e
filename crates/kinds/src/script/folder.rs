//! PURE: which files of a directory are applied, and in which order.
//!
//! Scripts are ordered by name, byte by byte, in every locale. Folders of migration tools are recognised by the names of their
//! files: up migrations are applied in the tool's order, and down migrations never. Other files are an error that names all
//! of them at once, before anything is applied; a directory in a directory is skipped with a note.

use std::cmp::Ordering;

use super::ScriptError;

/// What is in a directory, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    /// Its entries, if it is a directory and not a script itself.
    pub(super) inside: Option<Vec<Entry>>,
}

/// The files to apply, as paths below the directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) files: Vec<Listed>,
    /// Notes for the user.
    pub(super) notices: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    /// Applied again when it changes, as in its tool.
    pub(super) repeatable: bool,
}

/// Files that editors, version control and migration tools leave beside scripts.
pub(super) fn is_passed_over(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let ending = lower.rsplit_once('.').map_or("", |(_, ending)| ending);
    ["md", "swp", "bak", "orig", "rej"].contains(&ending)
        || ["migration_lock.toml", "atlas.sum", "metadata.toml", "thumbs.db", "desktop.ini"].contains(&lower.as_str())
        || name.starts_with('.')
        || name.ends_with('~')
        || name.starts_with('#')
}

/// `is_script` recognises the files of the service's kind by name. `path` is the directory as users write it.
pub(super) fn list(path: &str, entries: Vec<Entry>, is_script: &dyn Fn(&str) -> bool) -> Result<Listing, ScriptError> {
    let mut entries: Vec<Entry> = entries.into_iter().filter(|entry| !is_passed_over(&entry.name)).collect();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    if is_script("x.sql")
        && let Some(listing) = of_tool(path, &entries, is_script)?
    {
        return Ok(listing);
    }
    let mut listing = Listing::default();
    let mut strange = Vec::new();
    for entry in &entries {
        match &entry.inside {
            None if is_script(&entry.name) => listing.files.push(once(entry.name.clone())),
            None => strange.push(entry.name.as_str()),
            Some(inside) => {
                let scripts = scripts_in(inside, is_script);
                if scripts > 0 {
                    listing.notices.push(format!(
                        "`{path}/{}/` is passed over with {scripts} script{} in it: list it in the profile if they are to be applied",
                        entry.name,
                        if scripts == 1 { "" } else { "s" }
                    ));
                }
            }
        }
    }
    if strange.is_empty() { Ok(listing) } else { Err(not_scripts(path, &strange)) }
}

fn once(name: String) -> Listed {
    Listed { name, repeatable: false }
}

fn scripts_in(entries: &[Entry], is_script: &dyn Fn(&str) -> bool) -> usize {
    let entries = entries.iter().filter(|entry| !is_passed_over(&entry.name));
    entries
        .map(|entry| entry.inside.as_ref().map_or_else(|| usize::from(is_script(&entry.name)), |inside| scripts_in(inside, is_script)))
        .sum()
}

fn not_scripts(path: &str, names: &[&str]) -> ScriptError {
    let shown: Vec<String> = names.iter().take(10).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > 10 { format!(" and {} more", names.len() - 10) } else { String::new() };
    let (verb, noun) = if names.len() == 1 { ("is", "a script") } else { ("are", "scripts") };
    let error = ScriptError::of(path, format!("{}{more} {verb} not {noun} for this kind of service", shown.join(", ")));
    let ending = |ending: &str| names.iter().any(|name| name.to_ascii_lowercase().ends_with(ending));
    if [".py", ".rb", ".ts", ".js", ".mjs", ".cjs", ".go", ".php", ".exs", ".java", ".kt", ".cs", ".xml", ".mako"]
        .iter()
        .any(|found| ending(found))
        || names.contains(&"sqitch.plan")
    {
        return error.hint(TOOL);
    }
    error.hint("move them elsewhere; hidden files, `*.md`, `*.bak`, `*.orig` and `*~` may stay")
}

const TOOL: &str = "these are migrations that their tool has to run: make it a service of its own whose command is the tool (such as `alembic upgrade head`), and let the others wait with `depends_on: { NAME: completed }`";

/// The listing of a folder that a migration tool keeps.
fn of_tool(path: &str, entries: &[Entry], is_script: &dyn Fn(&str) -> bool) -> Result<Option<Listing>, ScriptError> {
    let has = |name: &str| entries.iter().any(|entry| entry.name == name);
    if has("sqitch.plan") || has("env.py") || has("alembic.ini") {
        let name = ["sqitch.plan", "env.py", "alembic.ini"].into_iter().find(|name| has(name)).unwrap_or_default();
        return Err(not_scripts(path, &[name]).hint(TOOL));
    }
    if entries.iter().any(|entry| version(&entry.name).is_some()) {
        return flyway(path, entries).map(Some);
    }
    for (up, down) in [("migration.sql", None), ("up.sql", Some("down.sql"))] {
        if entries.iter().any(|entry| entry.inside.iter().flatten().any(|inside| inside.name == up)) {
            return directories(path, entries, up, down).map(Some);
        }
    }
    pairs(path, entries, is_script)
}

/// Prisma and Diesel: one directory for each step.
fn directories(path: &str, entries: &[Entry], up: &str, down: Option<&str>) -> Result<Listing, ScriptError> {
    let mut listing = Listing::default();
    let mut strange = Vec::new();
    for entry in entries {
        match &entry.inside {
            Some(inside) if inside.iter().any(|file| file.name == up) => listing.files.push(once(format!("{}/{up}", entry.name))),
            _ => strange.push(entry.name.as_str()),
        }
    }
    if strange.is_empty() {
        if let Some(down) = down {
            listing.notices.push(format!("`{path}`: only `{up}` of each step is applied, never `{down}`"));
        }
        return Ok(listing);
    }
    Err(ScriptError::of(path, format!("`{}` holds no `{up}`, as the other steps do", strange.join("`, `")))
        .hint("move it elsewhere, or list the files to apply one by one"))
}

/// How tools name the two files of a step. With a dot, one of the two is enough to recognise them.
const PAIRS: [(&str, &str); 5] =
    [(".up.sql", ".down.sql"), (".do.sql", ".undo.sql"), ("-up.sql", "-down.sql"), ("_up.sql", "_down.sql"), (".up.pgsql", ".down.pgsql")];

fn pairs(path: &str, entries: &[Entry], is_script: &dyn Fn(&str) -> bool) -> Result<Option<Listing>, ScriptError> {
    let files: Vec<&str> = entries.iter().filter(|entry| entry.inside.is_none()).map(|entry| entry.name.as_str()).collect();
    let is_pair = |(up, down): (&str, &str)| {
        files.iter().any(|name| {
            name.strip_suffix(down).is_some_and(|stem| up.starts_with('.') || files.contains(&format!("{stem}{up}").as_str()))
                || up == ".up.sql" && name.ends_with(up)
        })
    };
    let Some((up, down)) = PAIRS.into_iter().find(|pair| is_pair(*pair)) else { return Ok(None) };
    let (downs, rest): (Vec<&str>, Vec<&str>) = files.iter().partition(|name| name.ends_with(down));
    let strange: Vec<&str> = rest.iter().copied().filter(|name| !is_script(name)).collect();
    if !strange.is_empty() {
        return Err(not_scripts(path, &strange));
    }
    if rest.is_empty() {
        return Err(ScriptError::of(path, format!("it holds only ways down (`*{down}`), which are never applied"))
            .hint(format!("list the directory of the `*{up}` files")));
    }
    let mut names = rest;
    names.sort_by(|a, b| by_number(a, b));
    let mut listing = Listing { files: names.into_iter().map(|name| once(name.to_owned())).collect(), notices: Vec::new() };
    if !downs.is_empty() {
        listing.notices.push(format!("`{path}`: only `*{up}` are applied, by number; {} `*{down}` are not", downs.len()));
    }
    Ok(Some(listing))
}

/// 2 before 10; equal numbers by name.
fn by_number(a: &str, b: &str) -> Ordering {
    let number = |name: &str| {
        let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u128>().ok()
    };
    number(a).cmp(&number(b)).then_with(|| a.cmp(b))
}

/// The parts of a Flyway file name.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    kind: char,
    numbers: Vec<u64>,
}

/// `V1_2__name.sql`, `V1.2__name.sql`, `U1__name.sql`, `B1__name.sql`, `R__name.sql`.
fn version(name: &str) -> Option<Version> {
    let (head, _) = name.strip_suffix(".sql")?.split_once("__")?;
    let kind = head.chars().next().filter(|kind| "VUBR".contains(*kind))?;
    let numbers = &head[1..];
    if kind == 'R' {
        return numbers.is_empty().then(|| Version { kind, numbers: Vec::new() });
    }
    let mut numbers = numbers.split(['.', '_']).map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
    while numbers.last() == Some(&0) && numbers.len() > 1 {
        numbers.pop();
    }
    Some(Version { kind, numbers })
}

fn flyway(path: &str, entries: &[Entry]) -> Result<Listing, ScriptError> {
    let mut found: Vec<(Version, String)> = Vec::new();
    let mut strange = Vec::new();
    let mut waiting: Vec<(String, &Entry)> = entries.iter().map(|entry| (entry.name.clone(), entry)).collect();
    while let Some((name, entry)) = waiting.pop() {
        match &entry.inside {
            Some(inside) => waiting
                .extend(inside.iter().filter(|entry| !is_passed_over(&entry.name)).map(|entry| (format!("{name}/{}", entry.name), entry))),
            None => match version(&entry.name) {
                Some(version) => found.push((version, name)),
                None if entry.name.ends_with(".sql.conf") => {}
                None => strange.push(name),
            },
        }
    }
    strange.sort();
    if !strange.is_empty() {
        return Err(ScriptError::of(
            path,
            format!("`{}` is neither a versioned (`V1__x.sql`) nor a repeatable (`R__x.sql`) migration", strange.join("`, `")),
        )
        .hint(TOOL));
    }
    let base = found.iter().filter(|(version, _)| version.kind == 'B').map(|(version, _)| version.numbers.clone()).max();
    let undone = found.iter().filter(|(version, _)| version.kind == 'U').count();
    found.retain(|(version, _)| match version.kind {
        'B' => Some(&version.numbers) == base.as_ref(),
        'V' => base.as_ref().is_none_or(|base| version.numbers > *base),
        'R' => true,
        _ => false,
    });
    let file = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    found.sort_by(|(a, one), (b, other)| {
        (a.kind == 'R').cmp(&(b.kind == 'R')).then_with(|| a.numbers.cmp(&b.numbers)).then_with(|| file(one).cmp(&file(other)))
    });
    if let Some(pair) = found.windows(2).find(|pair| pair[0].0.kind != 'R' && pair[0].0.numbers == pair[1].0.numbers) {
        return Err(ScriptError::of(path, format!("`{}` and `{}` have the same version", pair[0].1, pair[1].1)));
    }
    let mut notices = Vec::new();
    if undone > 0 {
        notices.push(format!("`{path}`: {undone} undo migrations (`U*`) are not applied"));
    }
    Ok(Listing { files: found.into_iter().map(|(version, name)| Listed { name, repeatable: version.kind == 'R' }).collect(), notices })
}

/// A note on the order, for an error in a script that may lack what a later one creates.
pub(super) fn remark_on_order(failed: &str, all: &[&str]) -> Option<String> {
    let split = |path: &str| path.rsplit_once('/').map(|(folder, name)| (folder.to_owned(), name.to_owned()));
    let (folder, name) = split(failed)?;
    let number = |name: &str| name.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u128>().ok();
    let own = number(&name)?;
    all.iter().filter_map(|path| split(path)).find(|(other, later)| *other == folder && *later > name && number(later).is_some_and(|number| number < own)).map(
        |(_, later)| {
            format!("scripts go in the order of their names, so `{name}` is applied before `{later}`: write numbers with as many digits (`02_…`, `10_…`)")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names; those with a slash are in directories.
    fn entries(names: &[&str]) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        for name in names {
            match name.split_once('/') {
                None => all.push(Entry { name: (*name).to_owned(), inside: None }),
                Some((directory, rest)) => {
                    let found = all.iter_mut().find(|entry| entry.name == directory);
                    let more = entries(&[rest]);
                    match found {
                        Some(entry) => entry.inside.as_mut().unwrap().extend(more),
                        None => all.push(Entry { name: directory.to_owned(), inside: Some(more) }),
                    }
                }
            }
        }
        all
    }

    fn listed(names: &[&str]) -> Result<Listing, ScriptError> {
        list("db", entries(names), &|name| {
            let name = name.to_ascii_lowercase();
            name.trim_end_matches(".gz").ends_with(".sql") || name.ends_with(".csv") || name.ends_with(".sh")
        })
    }

    #[test]
    fn the_ways_up_of_every_tool_go_in_its_order_and_no_way_down_ever() {
        for (tool, names, wanted) in [
            ("names", &["10_view.sql", "2_item.sql", "1.csv", "Z.sql", "a.sql"][..], "1.csv 10_view.sql 2_item.sql Z.sql a.sql"),
            (
                "golang-migrate",
                &["10_n.down.sql", "10_n.up.sql", "2_s.up.sql", "2_s.down.sql", "1_m.up.sql"],
                "1_m.up.sql 2_s.up.sql 10_n.up.sql",
            ),
            ("golang-migrate, forward only", &["2_s.up.sql", "10_n.up.sql"], "2_s.up.sql 10_n.up.sql"),
            ("postgrator", &["002.do.sql", "001.do.sql", "001.undo.sql"], "001.do.sql 002.do.sql"),
            ("db-migrate", &["1-a-up.sql", "1-a-down.sql"], "1-a-up.sql"),
            ("underscores", &["1_a_up.sql", "1_a_down.sql"], "1_a_up.sql"),
            ("no pair", &["move_up.sql", "shut_down.sql"], "move_up.sql shut_down.sql"),
            (
                "Flyway",
                &["R__report.sql", "V10__seed.sql", "V1__unit.sql", "V2__item.sql", "U10__seed.sql", "V1.1__x.sql"],
                "V1__unit.sql V1.1__x.sql V2__item.sql V10__seed.sql R__report.sql",
            ),
            (
                "Flyway in folders",
                &["a/V2__b.sql", "V1__a.sql", "V1__a.sql.conf", "b/R__z.sql", "R__y.sql"],
                "V1__a.sql a/V2__b.sql R__y.sql b/R__z.sql",
            ),
            ("Flyway with a baseline", &["V1__a.sql", "B2__b.sql", "V2__b.sql", "V3__c.sql"], "B2__b.sql V3__c.sql"),
            (
                "Prisma",
                &["migration_lock.toml", "20240102_b/migration.sql", "20240101_a/migration.sql"],
                "20240101_a/migration.sql 20240102_b/migration.sql",
            ),
            (
                "Diesel",
                &["2024-02/up.sql", "2024-02/down.sql", "2024-01/up.sql", "2024-01/metadata.toml", ".keep"],
                "2024-01/up.sql 2024-02/up.sql",
            ),
            ("Drizzle", &["0001_b.sql", "0000_a.sql", "meta/_journal.json"], "0000_a.sql 0001_b.sql"),
            ("rubbish", &["1.sql", "README.md", ".x", "2.sql~", "2.sql.bak", "3.sql.orig"], "1.sql"),
        ] {
            let listing = listed(names).unwrap_or_else(|error| panic!("{tool}: {error}"));
            let shown: Vec<&str> = listing.files.iter().map(|file| file.name.as_str()).collect();
            assert_eq!(shown.join(" "), wanted, "{tool}");
            assert!(listing.files.iter().all(|file| file.repeatable == file.name.rsplit('/').next().unwrap().starts_with("R__")), "{tool}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_applied_is_named_at_once_with_a_hint() {
        for (names, message, hint) in [
            (
                &["1.sql", "LICENSE", "diagram.png", "old.sql.disabled"][..],
                "`LICENSE`, `diagram.png`, `old.sql.disabled` are not scripts",
                "move them",
            ),
            (&["env.py", "script.py.mako", "versions/1_a.py"], "`env.py` is not a script", "alembic upgrade head"),
            (&["0001_initial.py"], "`0001_initial.py` is not a script", "service of its own"),
            (&["sqitch.plan", "deploy/a.sql", "revert/a.sql"], "`sqitch.plan` is not", "service of its own"),
            (&["1_a.down.sql", "2_b.down.sql"], "only ways down", "*.up.sql"),
            (&["a/up.sql", "b/down.sql"], "`b` holds no `up.sql`", "move it"),
            (&["V1__a.sql", "afterMigrate.sql"], "`afterMigrate.sql` is neither", "service of its own"),
            (&["V1__a.sql", "V1.0__b.sql"], "have the same version", ""),
        ] {
            let error = listed(names).unwrap_err();
            assert!(
                error.to_string().contains(message) && error.hint.as_deref().unwrap_or_default().contains(hint),
                "{error} {:?}",
                error.hint
            );
        }
    }

    #[test]
    fn a_skipped_directory_with_scripts_is_reported() {
        let listing = listed(&["1.sql", "archive/99-drop.sql", "archive/deep/98.sql", "images/a.png"]).unwrap();
        assert_eq!(listing.files.len(), 1);
        assert_eq!(
            listing.notices,
            ["`db/archive/` is passed over with 2 scripts in it: list it in the profile if they are to be applied"]
        );
        assert!(remark_on_order("db/10_view.sql", &["db/10_view.sql", "db/2_item.sql"]).is_some());
        assert_eq!(remark_on_order("db/02_item.sql", &["db/02_item.sql", "db/10_view.sql"]), None);
    }
}
