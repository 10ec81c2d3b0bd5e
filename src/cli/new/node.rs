//! How the program of a package.json is started, and which port it takes. Reads the package's sources, and runs nothing.

use serde_json::Value;

use super::{
    libraries::libraries,
    ports::{Port, of_command},
    programs::{Place, Program, shell, words},
};

/// Take their port as an argument alone.
const WITH_ARGUMENT: &[&str] = &["vite", "astro", "ng", "react-router", "webpack-dev-server", "vite-node"];
/// Read `PORT` themselves.
const WITH_VARIABLE: &[&str] = &["next", "nuxt", "nuxi", "react-scripts", "vue-cli-service", "gatsby", "parcel", "remix-serve"];
/// Compile, and serve nothing.
const COMPILERS: &[&str] = &["tsc", "tsup", "rollup", "unbuild", "esbuild", "swc", "babel", "microbundle", "tsdown", "bunchee"];
/// Come before the program that they start.
const WRAPPERS: &[&str] = &["cross-env", "env", "dotenv", "npx", "bunx", "exec", "--"];

/// The program of a package, if it has a script that is for development.
pub(super) fn program(place: Place<'_>, text: &str) -> Option<(String, Program)> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let (name, script) = ["dev", "start"].into_iter().find_map(|name| Some((name, value["scripts"][name].as_str()?)))?;
    let tools =
        [("pnpm-lock.yaml", "pnpm"), ("pnpm-workspace.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lockb", "bun"), ("bun.lock", "bun")];
    let tool = tools.iter().find(|(lock, _)| place.has_above(lock)).map_or("npm", |(_, tool)| tool);
    let run = format!("{tool} run {name}");
    let is_assignment =
        |word: &str| word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    let mut parts = script.split_whitespace().skip_while(|word| WRAPPERS.contains(word) || is_assignment(word));
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let compiles = COMPILERS.contains(&first) || matches!((first, second), ("vite" | "webpack" | "ng" | "astro", "build"));
    let takes_argument = WITH_ARGUMENT.contains(&first) || matches!((first, second), ("webpack", "serve") | ("remix", "vite:dev"));
    // Only npm takes the arguments of a script for its own. Several commands in a line would pass them to the last one.
    let pass = if tool == "npm" { "-- " } else { "" };
    let is_one = !script.contains(['&', ';', '|']);
    let (command, port) = match of_command(script) {
        _ if compiles => (words(&run), Port::None),
        Some(port) => (words(&run), Port::Fixed(port)),
        None if takes_argument && is_one => {
            // `localhost`, where they listen otherwise, is an address of IPv6 on some machines.
            let host = if script.contains("--host") || first == "react-router" { "" } else { " --host 127.0.0.1" };
            (shell(&format!("exec {run} {pass}--port $PORT{host}")), Port::Free)
        }
        None if WITH_VARIABLE.contains(&first) => (words(&run), Port::Free),
        None => (words(&run), place.port(&[".", "src", "server", "lib"])),
    };
    // A script for development reloads what it runs; another one has to be restarted.
    let watch: &[&str] =
        if name == "dev" { &["package.json"] } else { &["package.json", "src", "lib", "index.js", "server.js", "main.js", "app.js"] };
    let own = place.name(value["name"].as_str().unwrap_or("web")).to_owned();
    let is_used = libraries("package.json", text).iter().any(|name| name == "nodemon");
    let watch = if is_used && script.contains("nodemon") { &["package.json"] } else { watch };
    Some((own, place.program("package.json", command, watch, port)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_script_is_started_with_the_port_that_its_tool_takes() {
        for (script, lock, command, port) in [
            ("vite", "", "sh -c exec npm run dev -- --port $PORT --host 127.0.0.1", Port::Free),
            ("cross-env NODE_ENV=development vite --host", "", "sh -c exec npm run dev -- --port $PORT", Port::Free),
            ("vite dev", "pnpm-lock.yaml", "sh -c exec pnpm run dev --port $PORT --host 127.0.0.1", Port::Free),
            ("astro dev", "yarn.lock", "sh -c exec yarn run dev --port $PORT --host 127.0.0.1", Port::Free),
            ("ng serve", "", "sh -c exec npm run dev -- --port $PORT --host 127.0.0.1", Port::Free),
            ("vite --port 5174", "", "npm run dev", Port::Fixed(5174)),
            ("vite build --watch", "", "npm run dev", Port::None),
            ("tsc -w", "", "npm run dev", Port::None),
            ("tsc -p 3000", "", "npm run dev", Port::None),
            ("next dev", "bun.lock", "bun run dev", Port::Free),
            ("next dev -p 3005", "", "npm run dev", Port::Fixed(3005)),
            ("node --watch server.js", "", "npm run dev", Port::Fixed(3007)),
            ("concurrently \"vite\" \"tsc -w\"", "", "npm run dev", Port::Fixed(3007)),
        ] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("server.js"), "app.listen(3007)").unwrap();
            if !lock.is_empty() {
                fs::write(directory.path().join(lock), "").unwrap();
            }
            let place = Place { root: directory.path(), member: "" };
            let text = serde_json::json!({ "scripts": { "dev": script } }).to_string();
            let (_, program) = program(place, &text).unwrap();
            assert_eq!((program.command.join(" ").as_str(), program.port), (command, port), "{script}");
        }
    }
}
