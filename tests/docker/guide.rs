//! The first page of the guide, run as its readers would run it.

use std::fs;

use crate::corner::Corner;

/// A command of a page with the output that the page shows.
struct Step {
    command: String,
    output: Vec<String>,
}

/// The commands of the blocks below these headings.
fn steps(page: &str, headings: &[&str]) -> Vec<Step> {
    let text = fs::read_to_string(format!("{}/{page}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut found: Vec<Step> = Vec::new();
    let (mut is_wanted, mut in_block) = (false, false);
    for line in text.lines() {
        match line.strip_prefix("## ") {
            Some(heading) => is_wanted = headings.contains(&heading),
            None if line.starts_with("```") => in_block = line == "```console",
            None if !is_wanted || !in_block => {}
            None => match line.strip_prefix("$ ") {
                Some(command) => found.push(Step { command: command.to_owned(), output: Vec::new() }),
                None => found.last_mut().expect("a block begins with a command").output.push(line.to_owned()),
            },
        }
    }
    found
}

/// Times, versions and process ids are others on every machine.
fn without_numbers(text: &str) -> String {
    let mut found = String::new();
    for character in text.chars() {
        match character {
            '0'..='9' if found.ends_with('#') => {}
            '0'..='9' => found.push('#'),
            character => found.push(character),
        }
    }
    found
}

#[test]
fn the_commands_of_the_first_page_run_one_after_another_and_print_what_it_shows() {
    let corner = Corner::new();
    corner.up("default");
    let steps = steps("docs/guide/getting-started.md", &["Use the environment", "Stop the environment"]);
    assert!(steps.len() >= 9, "{}", steps.len());
    // One shell, as the variables that `eval` sets are for the commands after it.
    let script: String =
        steps.iter().enumerate().map(|(number, step)| format!("echo '@@ {number}'\n{} || echo '@@ failed'\n", step.command)).collect();
    let ended = corner.shell(&script).expect(0);
    let printed: Vec<&str> = ended.stdout.split("@@ ").skip(1).collect();
    for (step, printed) in steps.iter().zip(&printed) {
        let lines: Vec<String> = printed.lines().map(without_numbers).collect();
        for line in &step.output {
            assert!(lines.contains(&without_numbers(line)), "{}\nshown: {line}\nprinted: {printed}\n{}", step.command, ended.stderr);
        }
    }
    assert!(!ended.stdout.contains("@@ failed"), "{}\n{}", ended.stdout, ended.stderr);
    assert_eq!(printed.len(), steps.len(), "{}", ended.stdout);
}
