//! Every command of the command line, once, through the daemon.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::world::{World, until};

/// The exit code and the command, in this order. Commands for databases only are refused with a clear message.
const LINES: &[(i32, &str)] = &[
    (0, "validate profiles/shop.yaml"),
    (0, "profiles"),
    (0, "config shop"),
    (0, "completions bash"),
    (0, "daemon start"),
    (0, "daemon status"),
    (0, "fetch shop"),
    (0, "plan shop"),
    (0, "up shop"),
    (0, "wait"),
    (0, "status"),
    (0, "list"),
    (0, "why db"),
    (0, "events"),
    (0, "logs"),
    (0, "env"),
    (0, "secrets list"),
    (1, "secrets set NOTHING"),
    (0, "list --subnets"),
    (0, "exec db -- echo hello"),
    (0, "run -- true"),
    (0, "stop db"),
    (0, "start db"),
    (0, "restart cache"),
    (1, "sleep"),
    (0, "wake"),
    (1, "init"),
    (1, "seed"),
    (0, "ledger"),
    (0, "snapshot save one"),
    (0, "snapshot list"),
    (0, "snapshot restore one"),
    (0, "snapshot remove one"),
    (0, "reset"),
    (0, "undo"),
    (1, "move ../nowhere"),
    (0, "fork copy"),
    (2, "move --from-compose"),
    (1, "backup"),
    (0, "backup list"),
    (1, "import db dump.sql"),
    (1, "export db copy.sql"),
    (0, "chaos faults"),
    (0, "chaos inject pause db --for 1m"),
    (0, "chaos status"),
    (0, "chaos heal"),
    (2, "load nothing.yaml"),
    (0, "test shop -- true"),
    (125, "lease -- true"),
    (2, "bundle show nothing"),
    (0, "images save images.tar shop"),
    (0, "images load images.tar"),
    (3, "doctor"),
    (0, "build"),
    (0, "new --stdout"),
    (0, "render compose"),
    (0, "trust"),
    (1, "open nothing"),
    (125, "psql nothing"),
    (125, "redis nothing"),
    (0, "operations"),
    (2, "top"),
    (0, "openapi"),
    (0, "mcp"),
    (0, "hook bash"),
    (0, "hook bash --changes"),
    (0, "man"),
    (0, "help testing"),
    (0, "gc"),
    (0, "down --all --volumes"),
];

#[test]
fn every_command_runs_through_the_daemon() {
    let world = World::new();
    world.write("dump.sql", "");
    let daemon = world.start();
    let mut wrong = Vec::new();
    for (code, line) in LINES {
        let mut command = daemon.command(line);
        if *line == "doctor" {
            command.env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.code() != Some(*code) {
            wrong.push(format!(
                "{line} exits {:?} instead of {code}\n{}{}",
                output.status.code(),
                text(&output.stdout),
                text(&output.stderr)
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let listed: BTreeSet<String> = LINES.iter().filter_map(|(_, line)| line.split(' ').next()).map(str::to_owned).collect();
    // `dev` and `ui` end only by a signal; they have tests of their own.
    let missing: Vec<String> = commands().into_iter().filter(|name| !listed.contains(name) && name != "dev" && name != "ui").collect();
    assert!(missing.is_empty(), "{missing:?} do not run in this test");
}

#[test]
fn dev_brings_the_environment_up_and_leaves_it_up_after_ctrl_c() {
    let world = World::new();
    let daemon = world.start();
    let mut dev = daemon.spawn("dev shop");
    until("ready", || daemon.json("status")["phase"] == "ready");
    assert!(!dev.is_over());
    dev.signal(Signal::INT);
    assert_eq!(dev.ended().code, Some(130));
    assert_eq!(daemon.json("status")["phase"], "ready");
}

#[test]
fn a_warm_test_runs_though_nothing_in_its_environment_can_be_leased() {
    let world = World::new();
    let daemon = world.start();
    daemon.expect(0, "test shop --warm -- touch ran");
    assert!(world.project().join("ran").exists());
    daemon.expect(0, "test shop --shards 2 -- true");
    daemon.expect(125, "lease --instance warm-shop -- true");
}

/// The names in `devenv --help`.
fn commands() -> BTreeSet<String> {
    let help = World::new().start().expect(0, "--help").stdout;
    let lines = help.split("Options:").next().unwrap().lines();
    let lines = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect::<BTreeSet<_>>();
    assert!(names.contains("up") && names.len() > 30, "{names:?}");
    names
}

#[test]
fn the_hook_sets_variables_while_the_environment_is_up_and_takes_them_back() {
    let world = World::new();
    let daemon = world.start();
    assert_eq!(daemon.expect(0, "hook bash --changes").stdout, "", "nothing is up");
    world.write("profiles/greeting.yaml", "extends: [shop]\nvariables: { GREETING: \"it's\" }\n");
    daemon.expect(0, "up greeting");
    // On a machine that does something else nothing may come in time, and the next prompt asks again.
    until("the variables are set", || daemon.expect(0, "hook bash --changes").stdout.contains("export DEVENV_HOOK="));
    // In a shell as at its prompt: the second time changes nothing, and after `down` all is as before.
    let script = "before=$(env | sort | grep -v '^_='); \
        for prompt in {1..99}; do [ -n \"$DEVENV_HOOK\" ] || eval \"$(devenv hook bash --changes)\"; done; \
        again=$(devenv hook bash --changes); devenv down >/dev/null; \
        for prompt in {1..99}; do [ -z \"$DEVENV_HOOK\" ] || eval \"$(devenv hook bash --changes)\"; done; \
        after=$(env | sort | grep -v '^_='); \
        [ -z \"$again\" ] || { echo \"again: $again\"; exit 1; }; [ \"$before\" = \"$after\" ] || { echo \"$before\"; echo now; echo \"$after\"; exit 1; }";
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_devenv")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut command = daemon.command("status");
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", script]).current_dir(command.get_current_dir().unwrap()).env("PATH", path);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let ended = shell.output().unwrap();
    assert!(ended.status.success(), "{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(command.output().unwrap().status.success());
}

#[test]
fn the_services_of_an_environment_complete_at_the_prompt() {
    let world = World::new();
    let daemon = world.start();
    let complete = |line: &str| {
        let mut command = daemon.command(&format!("-- devenv {line}"));
        let index = line.split_whitespace().count();
        command.env("DEVENV_COMPLETE", "bash").env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_INDEX", index.to_string());
        String::from_utf8(command.output().unwrap().stdout).unwrap().lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    // On a machine that does something else nothing may come in time, and who types presses the key again.
    let completes = |line: &str, word: &str| until(&format!("`{line}` becomes `{word}`"), || complete(line).contains(word));
    completes("up sh", "shop");
    daemon.expect(0, "up shop");
    daemon.expect(0, "snapshot save first");
    completes("why d", "db");
    completes("why c", "cache");
    completes("snapshot restore f", "first");
    completes("chaos inject paus", "pause");
    daemon.expect(0, "down --all --volumes");
}

#[test]
fn what_new_writes_is_valid_and_planned() {
    let world = World::new();
    world.write("Procfile", "release: test -n \"$PATH\"\nweb: exec sleep 600\n");
    let daemon = world.start();
    let written = daemon.expect(0, "new made").stderr;
    assert!(written.contains("profiles/made.yaml") && written.contains("from Procfile"), "{written}");
    daemon.expect(0, "validate profiles/made.yaml");
    let steps = daemon.json("plan made")["steps"].as_array().unwrap().len();
    assert_eq!(steps, 2);
    daemon.expect(1, "new made");
    daemon.expect(0, "new made --force");
}
