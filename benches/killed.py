#!/usr/bin/env python3
"""Test runs and leases whose client, command or daemon is killed at a random moment: afterwards nothing may be left.

    benches/killed.py [--binary PATH] [--rounds 200] [--seed 4711]

One environment is up throughout, on which leases are held; each round is a `test`, a `test --shards`, a `test --warm`, a `lease` with a
command or one that is held, and SIGKILL for the client, its command, the daemon, or several of them. After each round only what belongs to
environments that stay may be left; at the end, after `down --all --volumes`, `gc --all` and `daemon stop`, nothing at all:
containers, networks, volumes, processes, listening ports, temporary files, firewall rules, private databases and users.
Exit status: 0 the difference is empty, 1 it is not.
"""
import argparse, contextlib, json, os, random, signal, subprocess, sys, time
from pathlib import Path

from corner import Corner, Failed, Machine, quantile, sh, until

PROFILE = """\
services:
  db:
    postgres: { databases: { app: { owner: app } } }
  cache:
    redis: { databases: 64 }
"""
# A command that leaves a process of its own session behind.
COMMAND = "echo $$ > {marker}; psql -XqAt -c 'create table mine ()' \"$DATABASE_URL\" || exit 9; setsid sleep 86398 & sleep {seconds}"
STAYING = {"default", "warm-ci"}


class Run:
    def __init__(self, corner, dice, number):
        self.corner = corner
        self.marker = corner.root / f"marker-{number}"
        script = COMMAND.format(marker=self.marker, seconds=dice.choice([0, 0.3, 3]))
        kinds = {
            "test": ["test", "ci", "--", "sh", "-c", script],
            "test --shards 2": ["test", "ci", "--shards", "2", "--", "sh", "-c", script],
            "test --warm": ["test", "ci", "--warm", "--", "sh", "-c", script],
            "lease": ["lease", "--", "sh", "-c", script],
            "lease, held": ["lease", "--json"],
        }
        # Whole environments take longest: one round in three is one.
        self.kind = dice.choices(list(kinds), weights=[2, 1, 2, 3, 2])[0]
        self.victims = dice.choice([["client"], ["client"], ["command"], ["daemon"], ["client", "daemon"], ["client", "command", "daemon"]])
        self.wait_for_command = dice.random() < 0.6
        self.after = dice.choice([dice.uniform(0, 0.1), dice.uniform(0, 3)])
        stdin = subprocess.PIPE if self.kind == "lease, held" else subprocess.DEVNULL
        self.client = subprocess.Popen(
            corner.command(*kinds[self.kind]), env=corner.variables, cwd=corner.project, stdin=stdin, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )

    def told(self):
        moment = "of its command" if self.wait_for_command else "of its start"
        return f"{self.kind}: {', '.join(self.victims)} killed {self.after:.2f} s after the begin {moment}"

    def strike(self):
        if self.wait_for_command and self.kind != "lease, held":
            end = time.monotonic() + 90
            while not self.marker.exists() and self.client.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
        time.sleep(self.after)
        pids = {
            "client": lambda: self.client.pid,
            "command": lambda: int(self.marker.read_text()) if self.marker.exists() else None,
            "daemon": self.corner.daemon,
        }
        # All are looked up first: a client that is gone takes its command along.
        for pid in [pids[victim]() for victim in self.victims]:
            with contextlib.suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGKILL)
        if self.client.stdin:
            self.client.stdin.close()
        try:
            self.client.wait(120)
        except subprocess.TimeoutExpired:
            self.client.kill()
            self.client.wait()
            raise Failed(f"{self.told()}: the client still ran after two minutes")


def strangers(corner):
    """What the engine has of environments that are not to stay, and processes of commands."""
    owner = corner.owner()
    found = []
    for kind, command in (("container", ["ps", "-a"]), ("network", ["network", "ls"]), ("volume", ["volume", "ls"])):
        listed = sh(["docker", *command, "--filter", f"label=dev.devenv.owner={owner}", "--format", '{{.Label "dev.devenv.instance"}}'], ok=0)
        found += [f"{kind} of {instance}" for instance in listed.stdout.split() if instance not in STAYING]
    return found + [f"process {pid} {words}" for pid, words in corner.processes() if "sleep 86398" in words]


def private(corner, instance):
    """Databases and users of leases, as the servers have them; pools of copies made ahead are nobody's lease."""
    variables = json.loads(corner.run("env", "--format", "json", "--instance", instance).stdout)
    users = sh(["redis-cli", "--no-auth-warning", "-u", variables["REDIS_URL"], "acl", "users"], ok=0).stdout.split()
    tables = sh(["psql", "-XqAt", "-c", "select datname from pg_database where datname like 'devenv_lease_%' and not datallowconn", variables["DATABASE_URL"]], ok=0)
    return [user for user in users if user.startswith("devenv_lease_")] + tables.stdout.split()


def addresses(corner, seen):
    """Notes the subnets, bridges and ports that environments have had."""
    for record in (corner.root / "state" / "environments").glob("*/environment.json"):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads(record.read_text())
            seen["ports"].update(host for ports in record["ports"].values() for host in ports.values())
    for network in sh(["docker", "network", "ls", "-q", "--filter", f"label=dev.devenv.owner={corner.owner()}"]).stdout.split():
        seen["bridges"].add(f"br-{network[:12]}")


def leftovers(corner, seen):
    found = [f"{kind} {name}" for kind, name in corner.objects()]
    found += [f"process {pid} {words}" for pid, words in corner.processes()]
    rules = sh("iptables-save; ip6tables-save; nft list ruleset").stdout
    links = sh("ip -o link").stdout
    for bridge in seen["bridges"]:
        found += [f"firewall rule: {line}" for line in rules.splitlines() if bridge in line]
        found += [f"interface {bridge}"] if bridge in links else []
    own = corner.owner()
    for line in sh("ps -eo args").stdout.splitlines():
        if "docker-proxy" in line and any(f"-host-port {port} " in line for port in seen["ports"]):
            container = [ip for ip in line.split() if ip.count(".") == 3 and not ip.startswith("127.")]
            # Another owner may have been given the port meanwhile.
            holders = sh(["docker", "ps", "-q", "--filter", f"label=dev.devenv.owner={own}"]).stdout.split()
            found += [f"port held by {line} {container}"] if holders else []
    found += [f"temporary file {path}" for path in (corner.root / "tmp").iterdir()]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=4711)
    options = parser.parse_args()
    machine, bad, kinds, settled, known = Machine(), 0, {}, [], set()
    with Corner(options.binary, {"profiles/ci.yaml": PROFILE}) as corner:
        (corner.root / "tmp").mkdir()
        corner.variables["TMPDIR"] = str(corner.root / "tmp")
        corner.run("up", "ci")
        seen = {"ports": set(), "bridges": set()}
        for number in range(1, options.rounds + 1):
            dice = random.Random(options.seed * 1000 + number)
            run = Run(corner, dice, number)
            try:
                run.strike()
                addresses(corner, seen)
                # The next command starts the next daemon, if this one is dead.
                corner.run("status")
                began = time.monotonic()
                until("nothing is left", lambda: not set(strangers(corner)) - known, 60, 0.1)
                settled.append(time.monotonic() - began)
                kinds[run.kind] = kinds.get(run.kind, 0) + 1
                print(f"round {number:3} ok    {run.told()}; nothing left after {settled[-1]:.1f} s", flush=True)
            except Exception as error:
                bad += 1
                print(f"round {number:3} FAIL  {run.told()}: {type(error).__name__}: {error}; {set(strangers(corner)) - known}", flush=True)
                # Told once.
                known.update(strangers(corner))
        instances = {status["instance"] for status in corner.json("list") if status["phase"] == "ready"} & STAYING
        for instance in instances:
            try:
                until(f"no lease is left in {instance}", lambda: not private(corner, instance), 60, 0.5)
            except Failed as error:
                bad += 1
                print(f"FAIL  {error}: {private(corner, instance)}")
        for words in (["down", "--all", "--volumes"], ["gc", "--all"], ["daemon", "stop"]):
            corner.run(*words)
        end = time.monotonic() + 5
        while (left := leftovers(corner, seen)) and time.monotonic() < end:
            time.sleep(0.1)
        bad += len(left)
        print("\n".join(f"left: {item}" for item in left) or "left: nothing")
    print(f"{options.rounds} rounds, seed {options.seed}, {kinds}: {bad} failed; gone after p50 {quantile(settled, 0.5):.1f} s, "
          f"p95 {quantile(settled, 0.95):.1f} s ({machine.describe()})")
    sys.exit(1 if bad or not options.rounds else 0)


if __name__ == "__main__":
    main()
