//! The conformance table: each row is one action of a real tool on real files, with the exact number of reloads.
//!
//! VS Code and JetBrains' editors need a screen, so their saves are made by the system calls that they document.

use super::*;

/// Longer than any pause within one action.
const LONG_QUIET: Duration = Duration::from_millis(700);
/// The same on a busy machine.
const BUSY_QUIET: Duration = Duration::from_secs(6);

struct Row {
    project: Project,
    /// The files of all changes.
    changed: Vec<String>,
}

impl Row {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(prepare: impl FnOnce(&Path)) -> Self {
        Self { project: Project::with(&["app"], None, prepare).await, changed: Vec::new() }
    }

    /// Runs a command in the project, with `arguments` split at spaces.
    fn run(&mut self, program: &str, arguments: &str) -> &mut Self {
        self.run_words(program, &arguments.split_whitespace().collect::<Vec<_>>())
    }

    fn run_words(&mut self, program: &str, words: &[&str]) -> &mut Self {
        run_in(self.project.directory.path(), program, words);
        self
    }

    /// The action causes this many reloads, and the next save causes one, whatever the action did to the watched files. A busy machine
    /// may hold the action up, and then the one change comes in parts.
    async fn is(&mut self, reloads: usize) {
        let mut seen = 0;
        loop {
            let busy = self.project.busy.is();
            let patience = if seen < reloads { DEADLINE } else { [LONG_QUIET, BUSY_QUIET][usize::from(busy)] };
            let Ok(observation) = timeout(patience, self.project.observations.recv()).await else { break };
            let Some(Observation::Changed(change)) = observation else { panic!("{observation:?}") };
            let shown = |path: &PathBuf| path.strip_prefix(self.project.directory.path()).unwrap().display().to_string();
            self.changed.extend(change.paths.iter().map(shown));
            seen += 1;
        }
        self.changed.sort();
        self.changed.dedup();
        let parts = if self.project.busy.is() && reloads > 0 { seen.min(reloads) } else { seen };
        assert_eq!(parts, reloads, "{seen} changes of {} files: {:?}", self.changed.len(), self.changed.first());
        fs::write(self.project.path("app/after.py"), "x = 1\n").unwrap();
        let mut after = self.project.one_change("a save afterwards").await;
        while self.project.busy.is() && after != ["app/after.py"] {
            // What the action did last may come as late as that.
            let saved = after.iter().any(|path| path == "app/after.py");
            self.changed.extend(after.into_iter().filter(|path| path != "app/after.py"));
            after = if saved { vec!["app/after.py".to_owned()] } else { self.project.one_change("a save afterwards").await };
        }
        assert_eq!(after, ["app/after.py"]);
        self.changed.sort();
        self.changed.dedup();
    }
}

fn run_in(directory: &Path, program: &str, words: &[&str]) {
    let output = Command::new(program)
        .args(words)
        .current_dir(directory)
        .env("HOME", directory)
        .env("TERM", "dumb")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `scripts/setup tests` installs it"));
    let output_text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output_text));
}

fn repository(root: &Path) {
    let git = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        run_in(root, "git", &[&["-c", "user.name=t", "-c", "user.email=t@example.org"][..], &words].concat());
    };
    let write = |text: &str| (0..300).for_each(|index| fs::write(root.join(format!("app/file{index}.py")), text).unwrap());
    write("x = 'main'\n");
    git("init -q -b main");
    git("add .");
    git("commit -qm one");
    git("checkout -qb other");
    write("x = 'other'\n");
    fs::create_dir(root.join("app/added")).unwrap();
    fs::write(root.join("app/added/x.py"), "x = 1\n").unwrap();
    git("rm -q app/file7.py -f");
    git("add .");
    git("commit -qm two");
}

const GIT_ROW: &str = "-c user.name=t -c user.email=t@example.org";

async fn vim(options: &str) -> Row {
    let mut row = Row::new().await;
    let set = format!("set {options}");
    row.run_words("vim", &["-u", "NONE", "-i", "NONE", "-N", "-es", "-c", &set, "-c", "%s/one/two/", "-c", "wq", "app/server.py"]);
    assert_eq!(fs::read_to_string(row.project.path("app/server.py")).unwrap(), "print('two')\n");
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn vim_saves_by_rename_with_a_swap_file() {
    let mut row = vim("writebackup backupcopy=no swapfile").await;
    row.is(1).await;
    assert_eq!(row.changed, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn vim_saves_in_place_and_keeps_a_backup() {
    let mut row = vim("backup backupcopy=yes").await;
    row.is(1).await;
    assert_eq!(row.changed, ["app/server.py"]);
}

async fn emacs(settings: &str) -> Row {
    let mut row = Row::new().await;
    let edit = format!(
        "(progn {settings} (setq backup-enable-predicate (lambda (_) t)) (find-file \"app/server.py\") (goto-char (point-max)) (insert \"# two\\n\") (do-auto-save) (save-buffer))"
    );
    row.run_words("emacs", &["--batch", "-Q", "--eval", &edit]);
    assert!(fs::read_to_string(row.project.path("app/server.py")).unwrap().ends_with("# two\n"));
    assert!(row.project.path("app/server.py~").exists(), "it made a backup");
    row
}

#[tokio::test(flavor = "multi_thread")]
async fn emacs_saves_after_a_backup_by_rename() {
    let mut row = emacs("(setq backup-by-copying nil)").await;
    row.is(1).await;
    assert_eq!(row.changed, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn emacs_saves_after_a_backup_by_copying() {
    let mut row = emacs("(setq backup-by-copying t)").await;
    row.is(1).await;
    assert_eq!(row.changed, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn vs_code_truncates_and_writes() {
    let mut row = Row::new().await;
    let mut file = File::create(row.project.path("app/server.py")).unwrap();
    sleep(20);
    file.write_all(b"print('two')\n").unwrap();
    file.sync_data().unwrap();
    drop(file);
    row.is(1).await;
    assert_eq!(row.changed, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn jetbrains_writes_another_file_and_renames_both() {
    let mut row = Row::new().await;
    let path = row.project.path("app/server.py");
    let (new, old) = (path.with_extension("py___jb_tmp___"), path.with_extension("py___jb_old___"));
    fs::write(&new, "print('two')\n").unwrap();
    fs::rename(&path, &old).unwrap();
    fs::rename(&new, &path).unwrap();
    fs::remove_file(old).unwrap();
    row.is(1).await;
    assert_eq!(row.changed, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sed_edits_in_place() {
    let mut row = Row::new().await;
    row.run("sed", "-i s/one/two/ app/server.py").is(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn git_checks_out_a_branch() {
    let mut row = Row::with(repository).await;
    row.run("git", "checkout -q main").is(1).await;
    assert_eq!(row.changed.len(), 301, "300 files, one of them new, and one gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn git_stashes() {
    let mut row = Row::with(|root| {
        repository(root);
        for index in 0..50 {
            fs::write(root.join(format!("app/file{}.py", index + 10)), "edited\n").unwrap();
        }
    })
    .await;
    row.run("git", &format!("{GIT_ROW} stash -q")).is(1).await;
    assert_eq!(row.changed.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn git_brings_a_stash_back() {
    let mut row = Row::with(|root| {
        repository(root);
        for index in 0..50 {
            fs::write(root.join(format!("app/file{}.py", index + 10)), "edited\n").unwrap();
        }
        run_in(root, "git", &format!("{GIT_ROW} stash -q").split_whitespace().collect::<Vec<_>>());
    })
    .await;
    row.run("git", &format!("{GIT_ROW} stash pop -q")).is(1).await;
    assert_eq!(row.changed.len(), 50);
}

/// A copy of `app` with other contents, beside it.
fn staged(root: &Path) {
    fs::create_dir_all(root.join("staged/more")).unwrap();
    for name in ["server.py", "other.py", "more/x.py"] {
        fs::write(root.join("staged").join(name), format!("# {name}, staged\n")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_copies_a_tree() {
    let mut row = Row::with(staged).await;
    row.run("rsync", "-a staged/ app/").is(1).await;
    assert_eq!(row.changed, ["app/more/x.py", "app/other.py", "app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_copies_slowly_and_in_place() {
    let mut row = Row::with(|root| {
        staged(root);
        fs::write(root.join("staged/server.py"), "x".repeat(200_000)).unwrap();
    })
    .await;
    row.run("rsync", "-a --inplace --bwlimit=400 staged/server.py app/").is(1).await;
    assert_eq!(row.changed, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_finds_nothing_to_copy() {
    let mut row = Row::with(|root| {
        staged(root);
        run_in(root, "rsync", &["-a", "staged/", "app/"]);
    })
    .await;
    row.run("rsync", "-a --checksum --times staged/ app/").is(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_moved_in() {
    let mut row = Row::with(staged).await;
    row.run("mv", "staged app/in").is(1).await;
    assert_eq!(row.changed.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_moved_within() {
    let mut row = Row::new().await;
    row.run("mv", "app/deep app/shallow").is(1).await;
    assert_eq!(row.changed, ["app/deep/deeper/module.py", "app/shallow/deeper/module.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_moved_out() {
    let mut row = Row::new().await;
    row.run("mv", "app/deep out").is(1).await;
    assert_eq!(row.changed, ["app/deep/deeper/module.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_saved_in_a_linked_directory() {
    let mut row = Row::with(|root| {
        staged(root);
        run_in(root, "ln", &["-s", "../staged", "app/linked"]);
    })
    .await;
    row.run("sed", "-i s/staged/edited/ staged/more/x.py").is(1).await;
    assert_eq!(row.changed, ["app/linked/more/x.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_made_in_a_new_directory() {
    let mut row = Row::with(staged).await;
    row.run_words("sh", &["-c", "mkdir -p app/new/below && cp staged/other.py app/new/below"]).is(1).await;
    assert_eq!(row.changed, ["app/new/below/other.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_are_copied() {
    let mut row = Row::with(|root| {
        for index in 0..10_000 {
            let directory = root.join(format!("many/{}", index / 100));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(format!("{index}.py")), index.to_string()).unwrap();
        }
    })
    .await;
    row.run("cp", "-r many app/many").is(1).await;
    assert_eq!(row.changed.len(), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_files_are_removed() {
    let mut row = Row::with(|root| {
        for index in 0..10_000 {
            let directory = root.join(format!("app/many/{}", index / 100));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(format!("{index}.py")), index.to_string()).unwrap();
        }
    })
    .await;
    row.run("rm", "-r app/many").is(1).await;
    assert_eq!(row.changed.len(), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_touched() {
    Row::new().await.run("touch", "app/server.py").is(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_made_executable() {
    Row::new().await.run("chmod", "+x app/server.py").is(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_are_copied_over() {
    let mut row = Row::with(|root| {
        fs::copy(root.join("app/server.py"), root.join("same")).unwrap();
    })
    .await;
    row.run("cp", "same app/server.py").is(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_bytes_are_moved_over() {
    let mut row = Row::with(|root| {
        fs::copy(root.join("app/server.py"), root.join("same")).unwrap();
    })
    .await;
    row.run("mv", "same app/server.py").is(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_deleted_and_made_again() {
    let mut row = Row::with(staged).await;
    row.run("rm", "app/server.py").run("cp", "staged/server.py app/server.py").is(1).await;
    assert_eq!(row.changed, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_leads_nowhere_is_made() {
    let mut row = Row::new().await;
    row.run("ln", "-s nowhere app/broken").is(1).await;
    assert_eq!(row.changed, ["app/broken"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_paths_are_written() {
    let mut row = Row::with(|root| {
        staged(root);
        fs::create_dir_all(root.join("app/build")).unwrap();
    })
    .await;
    row.run("cp", "staged/server.py app/server.log")
        .run("cp", "staged/server.py app/server.ignored")
        .run("cp", "-r staged app/build/staged")
        .run("rsync", "-a staged/ app/deep/build/")
        .is(0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_a_file_is_no_change() {
    let mut row = Row::new().await;
    row.run("cat", "app/server.py").run("cp", "app/server.py elsewhere").run("grep", "-r one app").is(0).await;
}
