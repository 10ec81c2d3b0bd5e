#!/usr/bin/env python3
"""SIGKILL of the daemon or of a client at random moments of operations, up to two at a time: nothing may be paused, lost or left.

    benches/operations.py [--binary PATH] [--rounds 200] [--seed 4711]

The operations are snapshot, snapshot restore, fork, backup, backup restore, import, export, reset and gc, on a PostgreSQL with two
databases and a Redis whose data carry a token that changes every round. After each kill the next command starts the next daemon if it has
to; then nothing is paused, both servers answer, their tokens are what some order of the operations leads to (finished or not, for both
databases and the cache alike), no database is left beside those in use and no part of a file, every volume of a snapshot is there and
every volume that is there is on a record, and a further operation works. Now and then a snapshot is
restored and compared. At the end, after everything was removed, nothing is left. Prints a line a round, and a summary with the seed.
Exit status: 0 all of it held, 1 something did not.
"""
import argparse, contextlib, itertools, json, os, random, signal, subprocess, sys, time

from corner import Corner, Failed, Machine, quantile, sh, until

PROFILE = """\
description: a database and a cache with data, to be killed in the middle of operations
services:
  db:
    postgres:
      version: "17"
      databases: { app: { owner: app, init: [init-scripts/postgres] }, shop: { owner: app, init: [init-scripts/postgres] } }
  cache:
    redis: { persistence: { aof: always, rdb: never }, seed: [seed-data/demo/redis] }
"""
ROWS = 150_000
FILES = {
    "profiles/operations.yaml": PROFILE,
    "init-scripts/postgres/01.sql": f"create table mark (token text);\ninsert into mark values ('fresh');\ncreate table bulk as select g as id, repeat(md5(g::text), 8) as t from generate_series(1, {ROWS}) g;\n",
    "seed-data/demo/redis/mark.redis": "SET mark fresh\n",
}
FRESH = ("fresh", "fresh", "fresh")
DATABASES = ("DB_APP_URL", "DB_SHOP_URL")
PAUSES = [(0, 0.05), (0, 0.5), (0, 2.5)]


class Model:
    """What the data may be: the tokens of the databases and of the cache, now and in every copy."""

    def __init__(self, corner):
        self.corner, self.tokens, self.snapshots, self.backups, self.instances = corner, FRESH, {}, {}, set()

    def read(self):
        variables = self.corner.environment()
        tokens = []
        for name in DATABASES:
            sql = ["psql", "-XqAt", "-c", "select token || ' ' || (select count(*) from bulk) from mark", variables[name]]
            token, rows = until("the database answers", lambda: sh(sql, timeout=10).stdout.split(), 30, 0.1)
            if int(rows) != ROWS:
                raise Failed(f"the database has {rows} rows")
            tokens.append(token)
        redis = ["redis-cli", "--no-auth-warning", "-u", variables["REDIS_URL"], "get", "mark"]
        return *tokens, until("the cache answers", lambda: sh(redis, timeout=10).stdout.strip(), 30, 0.1)

    def write(self, token):
        variables = self.corner.environment()
        for name in DATABASES:
            sh(["psql", "-Xqc", f"update mark set token = '{token}'", variables[name]], ok=0)
        sh(["redis-cli", "--no-auth-warning", "-u", variables["REDIS_URL"], "set", "mark", token], ok=0)
        self.tokens = (token, token, token)

    def after(self, tokens, operation):
        """The tokens once the operation has run on these."""
        kind, words = operation
        if kind == "restore":
            return self.snapshots[words[-1]]
        if kind == "backup restore":
            return self.backups[words[-1]]
        if kind == "import":
            return ("imported", "imported", tokens[2])
        return FRESH if kind == "reset" else tokens

    def possible(self, operations):
        """Whatever of them has run, in whatever order."""
        found = set()
        for count in range(len(operations) + 1):
            for order in itertools.permutations(operations, count):
                tokens = self.tokens
                for operation in order:
                    tokens = self.after(tokens, operation)
                found.add(tokens)
        return found


class Round:
    def __init__(self, corner, model, dice, number):
        self.corner, self.model, self.dice, self.number = corner, model, dice, number
        kinds = ["snapshot", "fork", "backup", "reset", "import", "export", "gc"] + ["restore"] * bool(model.snapshots) + ["backup restore"] * bool(model.backups)
        self.operations = [(kind, self.words(kind, place)) for place, kind in enumerate(dice.sample(kinds, dice.choice([1, 2, 2])))]
        self.victims = dice.choice([["daemon"], ["daemon"], ["client"], ["clients"], ["daemon", "client"]])
        self.after = dice.uniform(*dice.choice(PAUSES))

    def words(self, kind, place):
        return {
            "snapshot": ["snapshot", "save", f"s{self.number}-{place}"],
            "restore": ["snapshot", "restore", self.dice.choice(sorted(self.model.snapshots) or [""])],
            "fork": ["fork", f"f{self.number}-{place}"],
            "backup": ["backup"],
            "backup restore": ["backup", "restore", self.dice.choice(sorted(self.model.backups) or [""])],
            "import": ["import", "db", "dumps"],
            "export": ["export", "db", "exported"],
            "reset": ["reset"],
            "gc": ["gc"],
        }[kind]

    def described(self):
        kinds = " and ".join(kind for kind, _ in self.operations)
        return f"{kinds}; {' and '.join(self.victims)} killed after {self.after * 1000:.0f} ms"

    def strike(self):
        daemon = self.corner.daemon()
        clients = [self.corner.start(*words) for _, words in self.operations]
        time.sleep(self.after)
        pids = {"daemon": [daemon], "client": [clients[0].pid], "clients": [client.pid for client in clients]}
        for pid in {pid for victim in self.victims for pid in pids[victim]}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for client in clients:
            try:
                client.wait(180)
            except subprocess.TimeoutExpired:
                client.kill()
                client.wait()
                raise Failed(f"a client still runs after three minutes: {self.operations}") from None

    def check(self):
        corner, model = self.corner, self.model
        began = time.monotonic()
        # Starts the next daemon where this one was killed.
        until("no operation is in progress", lambda: not in_progress(corner), 120, 0.1)
        until("the environment is ready", lambda: corner.json("status")["phase"] == "ready", 60, 0.1)
        settled = time.monotonic() - began
        no_pause(corner)
        before = {name for name, tokens in model.snapshots.items()}
        tokens = model.read()
        possible = model.possible(self.operations)
        if tokens not in possible:
            raise Failed(f"the tokens are {tokens}, and may be {sorted(possible)}")
        self.note(tokens, before, possible)
        nothing_strange(corner)
        nothing_half_made(corner)
        return settled

    def note(self, tokens, before, possible):
        """Takes what there is now into the model."""
        corner, model = self.corner, self.model
        listed = {snapshot["name"] for snapshot in corner.json("snapshot", "list")["snapshots"]}
        if lost := before - listed:
            raise Failed(f"snapshots are lost: {lost}")
        volumes = set(volumes_of(corner))
        for record in records(corner):
            for name, snapshot in record.get("snapshots", {}).items():
                if gone := set(snapshot["volumes"].values()) - volumes:
                    raise Failed(f"volumes of the snapshot {name} are gone: {gone}")
        for name in listed - before:
            # It was taken before or after the other operation: which of them is seen when it is restored.
            model.snapshots[name] = None if len(possible) > 1 else model.tokens
        for name in [name for name, kept in model.snapshots.items() if kept is None]:
            corner.run("snapshot", "restore", name)
            model.snapshots[name] = model.read()
            if model.snapshots[name] not in possible:
                raise Failed(f"the snapshot {name} holds {model.snapshots[name]}, and may hold {sorted(possible)}")
            tokens = model.snapshots[name]
        backups = [backup["id"] for backup in corner.json("backup", "list")["backups"] if not backup.get("partial")]
        if model.backups and not backups:
            raise Failed("the backup is lost")
        if new := set(backups) - set(model.backups):
            for name in new:
                corner.run("backup", "restore", name)
                model.backups[name] = tokens = model.read()
                if tokens not in possible:
                    raise Failed(f"the backup {name} holds {tokens}, and may hold {sorted(possible)}")
        model.backups = {name: model.backups[name] for name in backups}
        model.tokens = tokens


def in_progress(corner):
    return [operation for operation in corner.json("operations")["operations"] if operation["state"] in ("waiting", "running")]


def no_pause(corner):
    paused = sh(["docker", "ps", "-q", "--filter", "status=paused", "--filter", f"label=dev.devenv.owner={corner.owner()}"], ok=0).stdout.split()
    if paused:
        raise Failed(f"paused: {paused}")


def volumes_of(corner):
    return sh(["docker", "volume", "ls", "-q", "--filter", f"label=dev.devenv.owner={corner.owner()}"], ok=0).stdout.split()


def records(corner):
    for path in (corner.root / "state" / "environments").glob("*/environment.json"):
        with contextlib.suppress(OSError, ValueError):
            yield json.loads(path.read_text())


def nothing_strange(corner):
    """After `gc` the engine has only what a record names."""
    corner.run("gc")

    def strangers():
        state = corner.root / "state"
        known = "".join(path.read_text() for path in [*state.glob("environments/*/environment.json"), *state.glob("golden/**/*.json")])
        found = [f"volume {name}" for name in volumes_of(corner) if name not in known and not name.endswith("-spare")]
        format = '{{.Names}} {{.Label "dev.devenv.role"}}'
        listed = sh(["docker", "ps", "-a", "--filter", f"label=dev.devenv.owner={corner.owner()}", "--format", format], ok=0).stdout
        found += [f"helper {line}" for line in listed.splitlines() if line.endswith("helper")]
        return found

    end = time.monotonic() + 15
    while found := strangers():
        if time.monotonic() > end:
            raise Failed(f"left: {found}")
        time.sleep(0.5)
        corner.run("gc")


def nothing_half_made(corner):
    """No database beside those in use, and no file that was not finished."""
    sql = ["psql", "-XqAt", "-c", "select datname from pg_database where datname ~ ' (restored|former) '", corner.environment()[DATABASES[0]]]
    found = [f"database {name}" for name in sh(sql, ok=0, timeout=10).stdout.splitlines()]
    found += [str(path) for path in corner.root.rglob("*.part")] + [str(path) for path in corner.root.rglob("incoming-*")]
    found += [str(path) for path in corner.root.glob("state/environments/*/backups/*") if not (path / "manifest.json").exists()]
    if found:
        raise Failed(f"half made: {found}")


def next_command(corner, model, number):
    """A further operation works."""
    name = f"probe-{number}"
    corner.run("snapshot", "save", name)
    corner.run("snapshot", "remove", name)
    for status in corner.json("list"):
        if status["instance"] != "default":
            corner.run("down", "--volumes", "--instance", status["instance"])
    # Snapshots take space: a few are kept.
    for name in sorted(model.snapshots)[:-3]:
        corner.run("snapshot", "remove", name)
        del model.snapshots[name]
    if number % 5 == 0:
        corner.run("gc", "--all")
    if model.read() != model.tokens:
        raise Failed(f"the tokens have become {model.read()}, and were {model.tokens}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=4711)
    options = parser.parse_args()
    machine, bad, kinds, settled = Machine(), 0, {}, []
    with Corner(options.binary, FILES) as corner:
        corner.run("up", "operations")
        model = Model(corner)
        model.write("imported")
        for name in ("dumps", "exported"):
            (corner.project / name).mkdir()
        corner.run("export", "db", "dumps")
        for number in range(1, options.rounds + 1):
            described = "its preparation"
            # Each round has its own dice, so that one can be run again by its seed.
            try:
                model.write(f"round-{number}")
                current = Round(corner, model, random.Random(options.seed * 1000 + number), number)
                described = current.described()
                current.strike()
                settled.append(current.check())
                next_command(corner, model, number)
                for kind, _ in current.operations:
                    kinds[kind] = kinds.get(kind, 0) + 1
                print(f"round {number:3} ok    {described}; settled after {settled[-1]:.1f} s", flush=True)
            except Exception as error:
                bad += 1
                print(f"round {number:3} FAIL  {described}: {type(error).__name__}: {error}", flush=True)
                with contextlib.suppress(Failed, subprocess.TimeoutExpired):
                    corner.run("up", "operations")
                    model.snapshots = {name: tokens for name, tokens in model.snapshots.items() if tokens}
                    model.tokens = model.read()
        corner.run("down", "--all", "--volumes")
        for status in corner.json("list"):
            for snapshot in corner.json("snapshot", "list", "--instance", status["instance"])["snapshots"]:
                corner.run("snapshot", "remove", snapshot["name"], "--instance", status["instance"])
        corner.run("gc", "--all")
        corner.run("daemon", "stop")
        left = [f"{kind} {name}" for kind, name in corner.objects()] + [f"process {pid} {words}" for pid, words in corner.processes()]
        bad += len(left)
        print("\n".join(f"left: {item}" for item in left) or "left: nothing")
    waited = f"settled after p50 {quantile(settled, 0.5):.1f} s, p95 {quantile(settled, 0.95):.1f} s" if settled else "no round held"
    print(f"{options.rounds} rounds, seed {options.seed}, {dict(sorted(kinds.items()))}: {bad} failed; {waited} ({machine.describe()})")
    sys.exit(1 if bad or not options.rounds else 0)


if __name__ == "__main__":
    main()
