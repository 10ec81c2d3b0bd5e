//! `devenv man`: the manual pages, generated from the command line's definition.

use std::path::PathBuf;

use super::{
    Outcome, args,
    exit::ExitStatus,
    failure::{Failure, internal},
    printer::Printer,
    session::Session,
};

/// Write the manual pages.
///
/// With `--output`, writes a page for each command into a directory; without it, prints the page `devenv(1)`.
///
/// Example: devenv man --output ~/.local/share/man/man1
///
/// Example: devenv man | man -l -
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The directory to write the pages to, made if it is missing.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let mut command = args::plain();
    command.build();
    let Some(directory) = &arguments.output else {
        Printer::raw_output(&rendered(command)?)?;
        return Ok(ExitStatus::SUCCESS);
    };
    let failed = |error| internal(&format!("cannot write manual pages to {}", directory.display()), error);
    std::fs::create_dir_all(directory).map_err(failed)?;
    let mut pages = Vec::new();
    collect(&command, "devenv", &mut pages);
    let count = pages.len();
    for (name, page) in pages {
        devenv_files::write_result(&directory.join(format!("{name}.1")), &rendered(page)?).map_err(failed)?;
    }
    session.printer.say(format_args!("wrote {count} pages to {}", directory.display()));
    Ok(ExitStatus::SUCCESS)
}

/// A command and those below it, by the names of their pages: `devenv-chaos-run`.
fn collect(command: &clap::Command, name: &str, pages: &mut Vec<(String, clap::Command)>) {
    pages.push((name.to_owned(), command.clone()));
    for subcommand in command.get_subcommands() {
        collect(subcommand, &format!("{name}-{}", subcommand.get_name()), pages);
    }
}

fn rendered(command: clap::Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(format!("devenv {}", env!("CARGO_PKG_VERSION")))
        .manual("devenv")
        .render(&mut page)
        .map_err(|error| internal("cannot write a manual page", error))?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_options() {
        let mut command = args::plain();
        command.build();
        let mut pages = Vec::new();
        collect(&command, "devenv", &mut pages);
        let text = |name: &str| {
            let (_, page) = pages.iter().find(|(known, _)| known == name).unwrap_or_else(|| panic!("no page {name}"));
            String::from_utf8(rendered(page.clone()).unwrap()).unwrap()
        };
        assert!(text("devenv").contains("devenv\\-up(1)"), "{}", text("devenv"));
        assert!(text("devenv-chaos-run").contains("\\-\\-dry\\-run"));
        assert!(pages.len() > 60, "{}", pages.len());
    }
}
