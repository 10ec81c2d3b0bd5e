#!/usr/bin/env python3
"""Figures of data: first and second `up` with scripts, reset, snapshots, seeding, private clones, against what a user would
pick instead (plain docker with initdb.d, down -v and up, psql \\copy). Prints one JSON document; text goes to stderr.

    benches/data.py BINARY [--rounds N] [--rows ROWS] [--megabytes N,...] [--only NAME,...]

Each round is a new state directory and project; the machine's load average stands beside the figures, for on a busy machine
they say little."""
import argparse, json, os, shutil, subprocess, sys, tempfile, threading, time

IMAGE = "postgres:17"
PROFILE = """services:
  db:
    postgres:
      version: "17"
      databases: { app: { owner: app } }
      init: [init-scripts/postgres]
      seed: [seed-data/bench/postgres]
"""
TABLES = "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL, body text NOT NULL);\n"


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(*command, env=None, check=True, cwd=None, data=None):
    done = subprocess.run(command, env=env, cwd=cwd, input=data, capture_output=True, text=True)
    if check and done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def timed(work):
    began = time.monotonic()
    work()
    return round((time.monotonic() - began) * 1000)


def summary(times):
    ordered = sorted(times)
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))]
    return {"n": len(ordered), "min_ms": ordered[0], "p50_ms": at(0.5), "p95_ms": at(0.95), "max_ms": ordered[-1]}


class Place:
    """A private state directory and project."""

    def __init__(self, binary, seed):
        self.root = tempfile.mkdtemp(prefix="devenv-bench-")
        self.project = os.path.join(self.root, "project")
        self.binary = binary
        files = {"profiles/bench.yaml": PROFILE, "init-scripts/postgres/01-tables.sql": TABLES, **seed}
        for path, text in files.items():
            full = os.path.join(self.project, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w") as file:
                file.write(text)
        self.env = {**os.environ, "DEVENV_STATE_DIR": f"{self.root}/state", "DEVENV_RUNTIME_DIR": f"{self.root}/run"}

    def devenv(self, *words, **more):
        return run(self.binary, "-q", *words, env=self.env, cwd=self.project, **more)

    def url(self):
        return json.loads(self.devenv("env", "--format", "json"))["DATABASE_URL"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for words in (["down", "--all", "--volumes"], ["gc", "--all"], ["daemon", "stop"]):
            self.devenv(*words, check=False)
        shutil.rmtree(self.root, ignore_errors=True)


def psql(url, sql):
    return run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", url, "-c", sql).strip()


def csv(rows):
    return "id,name,body\n" + "".join(f"{i},item {i},{'x' * 40}\n" for i in range(rows))


def large(megabytes):
    # About 400 bytes a row with its index.
    return f"INSERT INTO item SELECT g, 'item ' || g, repeat(md5(g::text), 10) FROM generate_series(1, {megabytes * 2500}) g;\n"


def docker_initdb(project, name, seed):
    """What Compose does: the same scripts in initdb.d, ready when a login over TCP works."""
    directory = os.path.join(project, "initdb")
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    with open(f"{directory}/01.sql", "w") as file:
        file.write(TABLES)
    for number, (path, text) in enumerate(sorted(seed.items()), 2):
        target = f"{directory}/{number:02}-{os.path.basename(path)}"
        with open(target, "w") as file:
            file.write(text)
        if target.endswith(".csv"):
            with open(f"{directory}/{number:02}-load.sql", "w") as file:
                file.write(f"\\copy item FROM '/docker-entrypoint-initdb.d/{os.path.basename(target)}' CSV HEADER\n")
    for entry in os.scandir(directory):
        os.chmod(entry.path, 0o644)
    os.chmod(directory, 0o755)
    run("docker", "volume", "create", name)
    run("docker", "run", "-d", "--name", name, "-v", f"{name}:/var/lib/postgresql/data", "-v", f"{directory}:/docker-entrypoint-initdb.d:ro",
        "-e", "POSTGRES_PASSWORD=bench", "-p", "127.0.0.1::5432", IMAGE)
    port = run("docker", "port", name, "5432").strip().rsplit(":", 1)[1]
    url = f"postgres://postgres:bench@127.0.0.1:{port}/postgres"
    deadline = time.monotonic() + 300
    while subprocess.run(["psql", "-X", "-q", url, "-c", "select 1 from item limit 1"], capture_output=True).returncode != 0:
        if time.monotonic() > deadline:
            raise SystemExit(f"{name} is not ready: " + run("docker", "logs", "--tail", "20", name))
        time.sleep(0.05)
    return url


def docker_away(name):
    run("docker", "rm", "-f", "-v", name, check=False)
    run("docker", "volume", "rm", "-f", name, check=False)


def up(binary, options):
    """First `up` with a CSV of rows, a second one of a new instance with the same files, and plain docker."""
    seed = {"seed-data/bench/postgres/item.csv": csv(options.rows)}
    first, second, plain = [], [], []
    for number in range(options.rounds):
        with Place(binary, seed) as place:
            place.devenv("daemon", "start")
            first.append(timed(lambda: place.devenv("up", "bench")))
            time.sleep(2)
            second.append(timed(lambda: place.devenv("--instance", "second", "up", "bench")))
            name = f"devenv-bench-{os.getpid()}-{number}"
            try:
                plain.append(timed(lambda: docker_initdb(place.project, name, seed)))
            finally:
                docker_away(name)
    return {"rows": options.rows, "first_up": summary(first), "same_files_again_up": summary(second), "plain_docker_initdb": summary(plain)}


def reset(binary, options):
    """Back to the state after seeding, about 100 MB: devenv reset, and remove-and-start-again."""
    seed = {"seed-data/bench/postgres/item.sql": large(100)}
    ours, plain = [], []
    with Place(binary, seed) as place:
        place.devenv("up", "bench")
        size = int(psql(place.url(), "select pg_database_size(current_database())")) // 1_000_000
        for _ in range(options.rounds):
            # People take a moment between two resets; a spare copy is made meanwhile.
            time.sleep(3)
            psql(place.url(), "delete from item where id % 2 = 0")
            ours.append(timed(lambda: place.devenv("reset", "db")))
            assert psql(place.url(), "select count(*) from item") == "250000"
        name = f"devenv-bench-{os.getpid()}"
        try:
            docker_initdb(place.project, name, seed)
            for _ in range(max(1, options.rounds // 3)):
                plain.append(timed(lambda: (docker_away(name), docker_initdb(place.project, name, seed))))
        finally:
            docker_away(name)
    return {"megabytes": size, "devenv_reset": summary(ours), "plain_docker_down_and_up": summary(plain)}


def snapshot(binary, options):
    """Snapshots of a paused database, saved and restored by checksum, by its size in megabytes."""
    return {megabytes: snapshot_of(binary, options, int(megabytes)) for megabytes in options.megabytes.split(",")}


def snapshot_of(binary, options, megabytes):
    seed = {"seed-data/bench/postgres/item.sql": large(megabytes)}
    save, restore = [], []
    with Place(binary, seed) as place:
        place.devenv("up", "bench")
        for number in range(options.rounds):
            save.append(timed(lambda: place.devenv("snapshot", "save", f"s{number}")))
            restore.append(timed(lambda: place.devenv("snapshot", "restore", f"s{number}")))
            place.devenv("snapshot", "remove", f"s{number}")
    return {"save": summary(save), "restore": summary(restore)}


def seeding(binary, options):
    """Rows a second of a CSV: the ledger's own time, and psql's \\copy of the same file into the same server."""
    rows = options.rows * 10
    seed = {"seed-data/bench/postgres/item.csv": csv(rows)}
    with Place(binary, seed) as place:
        place.devenv("up", "bench")
        entries = json.loads(place.devenv("ledger", "--json"))["entries"]
        ours = next(entry["duration_ms"] for entry in entries if entry["path"].endswith("item.csv"))
        psql(place.url(), "create table other (like item including all)")
        file = os.path.join(place.project, "seed-data/bench/postgres/item.csv")
        plain = timed(lambda: psql(place.url(), f"\\copy other from '{file}' csv header"))
    return {"rows": rows, "devenv_rows_per_second": round(rows / ours * 1000), "psql_copy_rows_per_second": round(rows / plain * 1000)}


def clone(binary, options):
    """A database of one's own from a seeded one, as `lease` makes it: CREATE DATABASE … TEMPLATE."""
    seed = {"seed-data/bench/postgres/item.csv": csv(1000)}
    times = {}
    with Place(binary, seed) as place:
        place.devenv("up", "bench")
        for strategy in ("wal_log", "file_copy"):
            script = "".join(f"\\timing on\nCREATE DATABASE clone_{strategy}_{n} TEMPLATE app STRATEGY {strategy};\n\\timing off\n" for n in range(40))
            out = place.devenv("exec", "db", "--", "psql", "-X", "-U", "postgres", "-c", "select 1", check=False) and subprocess.run(
                [binary, "-q", "exec", "db", "--", "psql", "-X", "-U", "postgres"], env=place.env, cwd=place.project, input=script, capture_output=True, text=True).stdout
            found = [float(line.split()[1]) for line in out.splitlines() if line.startswith("Time:")]
            times[strategy] = summary([round(one, 1) for one in found])
    return times


def reset_under_load(binary, options):
    """Clients that go on while the database is reset 50 times: after each reset has returned, no request may fail."""
    seed = {"seed-data/bench/postgres/item.csv": csv(5000)}
    failures, answered, resetting, stop = [], [0], threading.Event(), threading.Event()
    with Place(binary, seed) as place:
        place.devenv("up", "bench")
        url = place.url()

        def client():
            while not stop.is_set():
                before = resetting.is_set()
                done = subprocess.run(["psql", "-X", "-q", "-A", "-t", url, "-c", "insert into item select coalesce(max(id), 0) + 1 + (random() * 1e6)::int, 'x', 'y' from item; select count(*) from item"], capture_output=True, text=True)
                if done.returncode == 0:
                    answered[0] += 1
                elif not before and not resetting.is_set() and "duplicate key" not in done.stderr:
                    failures.append(done.stderr.strip())

        clients = [threading.Thread(target=client) for _ in range(4)]
        for one in clients:
            one.start()
        times = []
        for _ in range(options.resets):
            resetting.set()
            times.append(timed(lambda: place.devenv("reset", "db")))
            resetting.clear()
            time.sleep(0.5)
        stop.set()
        for one in clients:
            one.join()
    return {"resets": options.resets, "requests_answered": answered[0], "failed_after_reset_returned": len(failures), "failures": failures[:5], "reset": summary(times)}


ALL = {"up": up, "reset": reset, "snapshot": snapshot, "seeding": seeding, "clone": clone, "reset_under_load": reset_under_load}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--resets", type=int, default=50)
    parser.add_argument("--megabytes", default="100,1000")
    parser.add_argument("--only", default=",".join(ALL))
    options = parser.parse_args()
    found = {"processors": os.cpu_count(), "load_before": os.getloadavg()[0]}
    for name in options.only.split(","):
        say(f"{name} …")
        found[name] = ALL[name](os.path.abspath(options.binary), options)
        say(f"{name}: {json.dumps(found[name])}")
    found["load_after"] = os.getloadavg()[0]
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
