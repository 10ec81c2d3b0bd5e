//! Links of a project to files outside of it, in the place of scripts. Called where scripts are gathered.

use std::path::Path;

use super::files::known_format;
use crate::capability::{ScriptError, Scripts};

/// Whether a link of the project leads out of it, to a file that is no script by its own name: errors show lines of scripts, and a
/// project must not have those of any file shown or sent to a server.
pub(super) fn leads_to_no_script(project: &Path, file: &Path, scripts: &dyn Scripts) -> bool {
    let (Ok(project), Ok(real)) = (project.canonicalize(), file.canonicalize()) else { return false };
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    !real.starts_with(&project) && real.is_file() && known_format(scripts, &name(&real)) != known_format(scripts, &name(file))
}

pub(super) fn no_script(path: &str) -> ScriptError {
    ScriptError::of(path, "is a link to a file outside the project that is no such script")
        .hint("copy the file into the project, or name it by its own path")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use devenv_spec::OfKind;

    use super::super::files::{Checksums, gathered};

    #[test]
    fn a_link_to_a_file_outside_of_the_project_is_a_script_only_if_that_is_one_by_its_name() {
        let (project, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(project.path().join("init")).unwrap();
        fs::create_dir(project.path().join("shared")).unwrap();
        fs::write(elsewhere.path().join("shadow"), "root:*:1\n").unwrap();
        fs::write(elsewhere.path().join("02.sql"), "SELECT 1;\n").unwrap();
        let link = |to: &str, at: &str| std::os::unix::fs::symlink(elsewhere.path().join(to), project.path().join(at)).unwrap();
        link("shadow", "init/01.sql");
        link("02.sql", "shared/02.sql");
        link("shadow", "01.sql");
        let look = |path: &str| {
            gathered(
                project.path(),
                &OfKind { kind: "postgres".to_owned(), value: serde_json::Value::Null },
                &[path.to_owned()],
                false,
                &Checksums::default(),
            )
        };
        for path in ["init", "init/01.sql", "01.sql"] {
            let error = look(path).unwrap_err().to_string();
            assert!(error.ends_with("is a link to a file outside the project that is no such script"), "{error}");
        }
        assert_eq!(look("shared").unwrap().scripts.len(), 1);
    }
}
