//! Which port a program of the project serves, by the text of its sources. Reads small files, and runs nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::detect::read;

/// The port of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Port {
    /// It serves none, or nothing says which.
    #[default]
    None,
    /// A free one, which it gets as `PORT` and takes.
    Free,
    /// A free one, which it gets as `PORT` and may not take.
    Offered,
    /// Always this one.
    Fixed(u16),
}

const SOURCES: &[&str] = &["js", "mjs", "cjs", "ts", "mts", "tsx", "py", "rs", "go", "java", "kt", "rb", "php"];
const MOST_FILES: usize = 60;
/// Up to this, a number is rather a length of a queue; those ports are for the system's administrator anyway.
const RESERVED: u16 = 1024;
/// Of servers that a program connects to.
const SERVERS: &[u16] =
    &[1433, 1521, 3306, 4222, 4317, 4318, 5432, 5672, 6379, 6432, 8125, 9042, 9092, 9200, 9300, 11211, 15672, 16686, 27017];

/// By the sources in these directories: a program that reads `PORT` takes any port, another one the port that it listens on.
pub(super) fn port(directories: &[PathBuf]) -> Port {
    let mut files = Vec::new();
    for directory in directories {
        sources(directory, &mut files);
    }
    let texts: Vec<String> = files.iter().filter_map(|path| read(path)).collect();
    let lines = || texts.iter().flat_map(|text| text.lines());
    if lines().any(reads_port) {
        return Port::Free;
    }
    lines().find_map(listens_on).or_else(|| lines().find_map(names_port)).map_or(Port::None, Port::Fixed)
}

/// The port that a command line gives itself: `--port 3000`, `-p 3000`, `PORT=3000`.
pub(super) fn of_command(line: &str) -> Option<u16> {
    let given = |option: &str| {
        line.match_indices(option).find_map(|(at, _)| {
            let is_whole = !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '-' | '_'));
            let text = line[at + option.len()..].trim_start_matches([' ', '=']);
            let digits = text.find(|c: char| !c.is_ascii_digit()).map_or(text, |end| &text[..end]);
            digits.parse().ok().filter(|port| is_whole && *port > 0)
        })
    };
    ["--port", "-p ", "PORT="].iter().find_map(|option| given(option))
}

fn sources(directory: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().take(1000).map(|entry| entry.path()).collect();
    entries.sort();
    let is_source = |path: &Path| {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        SOURCES.contains(&extension) && fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
    };
    files.extend(entries.into_iter().filter(|path| is_source(path)).take(MOST_FILES.saturating_sub(files.len())));
}

/// Whether the line reads the variable `PORT`, and not `DB_PORT` or a constant of that name.
fn reads_port(line: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let is_of_environment = line.to_ascii_lowercase().contains("env");
    line.match_indices("PORT").any(|(at, word)| {
        let (before, after) = (line[..at].chars().next_back(), line[at + word.len()..].chars().next());
        let is_text = matches!(before, Some('"' | '\'' | '`')) && before == after;
        !is_part(before) && !is_part(after) && (is_text || is_of_environment)
    })
}

/// `app.listen(3000)`, `ListenAndServe(":8080", …)`, `bind("127.0.0.1:8080")`
fn listens_on(line: &str) -> Option<u16> {
    let lower = line.to_ascii_lowercase();
    let words = ["listen", "bind", "socketaddr", "server("];
    words.iter().filter_map(|word| lower.find(word)).find_map(|at| number(&lower[at..]))
}

/// `port=5001`, `const PORT = 3000`, `"port": 8080`, `port: int = 8000`
fn names_port(line: &str) -> Option<u16> {
    let lower = line.to_ascii_lowercase();
    lower.match_indices("port").find_map(|(at, word)| {
        // `transport` is another word, and `httpPort` is not.
        let is_word = line[at..].starts_with("Port") || !lower[..at].ends_with(|c: char| c.is_ascii_lowercase());
        let rest = lower[at + word.len()..].trim_start_matches(['"', '\'', ' ']);
        let value: String = rest.chars().take(24).collect();
        (is_word && value.starts_with([':', '='])).then(|| number(&value)).flatten()
    })
}

/// The first number that is a port on its own, and not a part of an address, of a time or of another number.
fn number(text: &str) -> Option<u16> {
    let characters: Vec<char> = text.chars().collect();
    let digit = |at: usize| characters.get(at).is_some_and(char::is_ascii_digit);
    (1..characters.len()).filter(|at| digit(*at) && matches!(characters[at - 1], ':' | '(' | '=' | ' ' | '"' | '\'')).find_map(|from| {
        let digits: String = characters[from..].iter().take_while(|c| c.is_ascii_digit()).collect();
        let next = characters.get(from + digits.len());
        let ends = !next.is_some_and(|c| matches!(c, '.' | '_') || c.is_ascii_alphabetic());
        digits.parse::<u16>().ok().filter(|port| ends && *port > RESERVED && !SERVERS.contains(port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_reads_port_takes_any_port() {
        for line in [
            "process.env.PORT || 3000",
            "os.Getenv(\"PORT\")",
            "const { PORT = 3000 } = process.env",
            "ENV.fetch('PORT')",
            "env::var(\"PORT\")",
        ] {
            assert!(reads_port(line), "{line}");
        }
        for line in ["process.env.DB_PORT", "env.REPORT", "env PORTS", "const PORT = 3000", "os.environ['port']", "\"PORTAL\""] {
            assert!(!reads_port(line), "{line}");
        }
    }

    #[test]
    fn a_program_that_does_not_read_port_listens_on_its_own() {
        for (line, port) in [
            ("app.listen(3000, () => {})", Some(3000)),
            ("log.Fatal(http.ListenAndServe(\":8080\", nil))", Some(8080)),
            ("TcpListener::bind(\"127.0.0.1:7000\")", Some(7000)),
            ("TcpListener::bind((\"0.0.0.0\", 7001))", Some(7001)),
            ("let address = SocketAddr::from(([127, 0, 0, 1], 7002));", Some(7002)),
            ("HTTPServer((\"\", 8001), Handler)", Some(8001)),
            ("app.run(debug=True, port=5001) # listen", Some(5001)),
            ("const PORT = 4000;", Some(4000)),
            ("const httpPort: number = 4001", Some(4001)),
            ("    port: int = 8002", Some(8002)),
            ("Bun.serve({ port: 4002, fetch })", Some(4002)),
            ("server.listen(port)", None),
            ("server.listen(port, 511)", None),
            ("socket.listen(1024)", None),
            ("// listens for 3 things", None),
            ("import bind from 'x'", None),
            ("listen(123456)", None),
            ("new Pool({ host: 'localhost', port: 5432 })", None),
            ("const transport = 5000", None),
            ("setTimeout(report, 5000)", None),
            ("port = parse(5000.5)", None),
        ] {
            assert_eq!(listens_on(line).or_else(|| names_port(line)), port, "{line}");
        }
    }

    #[test]
    fn a_command_line_says_its_port_in_several_ways() {
        for (line, port) in [
            ("vite --port 3000", Some(3000)),
            ("vite --port=3001 --host", Some(3001)),
            ("next dev -p 3002", Some(3002)),
            ("PORT=3003 node server.js", Some(3003)),
            ("cross-env DB_PORT=5432 node x", None),
            ("tsc -p tsconfig.json", None),
            ("serve -p $PORT", None),
            ("x --support 3000", None),
            ("x --transport-port 3000", None),
        ] {
            assert_eq!(of_command(line), port, "{line}");
        }
    }

    #[test]
    fn sources_of_a_directory_are_looked_at_and_links_are_not() {
        let project = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let at = |text: &str| vec![project.path().join(text)];
        fs::write(outside.path().join("a.js"), "listen(3009)").unwrap();
        std::os::unix::fs::symlink(outside.path().join("a.js"), project.path().join("a.js")).unwrap();
        fs::write(project.path().join("notes.md"), "listen(3008)").unwrap();
        assert_eq!(port(&at("")), Port::None);
        fs::write(project.path().join("b.js"), "const port = 3001;\n").unwrap();
        fs::write(project.path().join("c.js"), "app.listen(3002)\n").unwrap();
        assert_eq!(port(&at("")), Port::Fixed(3002));
        fs::write(project.path().join("d.js"), "process.env.PORT\n").unwrap();
        assert_eq!(port(&at("")), Port::Free);
        assert_eq!(port(&at("missing")), Port::None);
    }
}
