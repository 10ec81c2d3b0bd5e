#!/usr/bin/env python3
"""The same SQL scripts by `psql -f` and by devenv, each into a fresh database: the dumps must be equal.

    benches/psql_differential.py [--binary PATH] [--count 200] [--seed 1] [--scripts DIRECTORY [--keep DIRECTORY]]

Without --scripts, `--count` scripts are generated (see psql_scripts.py). With it, the scripts are the `.sql` files of a directory, such
as PostgreSQL's own regression scripts (src/test/regress/sql in its source); what a script expects to fail, or needs from another
script, is removed from it first: the statements that psql reports as failed, until it reports none. A script whose effect differs between
two runs of psql (times, random numbers) is left out, and so is one that psql itself refuses.

devenv may refuse a script with a reason; it must never apply one to another effect. Prints what was refused and what differs.
Exit status: 0 no dump differs, 1 one does.
"""
import argparse, concurrent.futures, re, sys, time
from pathlib import Path

from corner import Corner, Failed, sh
from psql_scripts import generate

PASSES = 25
# Databases that one `up` adds: their scripts have to be applied within the service's time to become ready.
BATCH = 25
FAILED = re.compile(r"psql:[^:\n]*:(\d+): (?:ERROR|error)[^\n]*")
STATEMENT = re.compile(r"psql:[^:\n]*:(\d+): STATEMENT:  (.*?)(?=\npsql:|\Z)", re.S)
# Differs between equal databases: comments, random tokens of pg_dump, settings of the session.
NOISE = re.compile(r"^(\\(un)?restrict |--|SET |SELECT pg_catalog.set_config|$)|SCHEMA public")


class Server:
    """The PostgreSQL of the corner, reached inside its container with psql."""

    def __init__(self, corner):
        self.container = corner.json("status")["services"][0]["container"]

    def run(self, *command, user="postgres", **kw):
        return sh(["docker", "exec", "-u", user, "-e", "PGPASSWORD=reference", self.container, *command], timeout=300, **kw)

    def administer(self, *statements):
        commands = [part for statement in statements for part in ("-c", statement)]
        self.run("psql", "-Xq", "-h", "/var/run/postgresql", "-U", "postgres", "-d", "postgres", *commands, ok=0)

    def fresh(self, name):
        self.administer(f'drop database if exists "{name}"', f"create database \"{name}\" owner reference encoding 'UTF8'")

    def psql(self, name, path, *options):
        """Standard error of `psql -f`, and whether it ended well."""
        self.fresh(name)
        done = self.run("psql", "-X", "-q", "-o", "/dev/null", *options, "-h", "127.0.0.1", "-U", "reference", "-d", name, "-f", path)
        return done.stderr, done.returncode == 0

    def dump(self, name):
        done = self.run("pg_dump", "-h", "/var/run/postgresql", "-U", "postgres", "--no-owner", "--no-privileges", "-N", "devenv", name, ok=0)
        return [line for line in done.stdout.splitlines() if not NOISE.search(line)]


def without_failures(text, stderr):
    """The script without the statements that psql reported as failed, and without the data that came with them."""
    lines = text.split("\n")
    gone = {int(match.group(1)) for match in FAILED.finditer(stderr)}
    for match in STATEMENT.finditer(stderr):
        last = int(match.group(1))
        gone.update(range(last - match.group(2).rstrip("\n").count("\n"), last + 1))
        if re.search(r"from\s+stdin", match.group(2), re.I):
            end = next((number for number in range(last, len(lines)) if lines[number] == "\\."), None)
            if end is not None:
                gone.update(range(last, end + 2))
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in gone)


def reduce(server, name, data):
    """What psql applies of a script without an error, or nothing."""
    text = data.decode("utf-8", "surrogateescape")
    for _ in range(PASSES):
        path = put(server, name, text.encode("utf-8", "surrogateescape"))
        stderr, _ = server.psql(f"r_{name}", path, "-b")
        if not FAILED.search(stderr):
            return text.encode("utf-8", "surrogateescape")
        shorter = without_failures(text, stderr)
        if shorter == text:
            return None
        text = shorter
    return None


def put(server, name, data):
    path = f"/tmp/differential-{name}.sql"
    sh(["docker", "exec", "-i", "-u", "postgres", server.container, "sh", "-c", f"cat > {path}"], ok=0, input=data.decode("latin-1"), encoding="latin-1")
    return path


def reference(server, name, data):
    """The dump that two runs of psql agree upon, or nothing."""
    path = put(server, name, data)
    dumps = []
    for database in (f"a_{name}", f"b_{name}"):
        stderr, well = server.psql(database, path, "-v", "ON_ERROR_STOP=1")
        if not well:
            return None
        dumps.append(server.dump(database))
    server.administer(f'drop database "b_{name}"')
    return dumps[0] if dumps[0] == dumps[1] else None


def profile(names):
    lines = ["services:", "  db:", "    postgres:", '      version: "17"', "      databases:", "        shop: {}"]
    return "\n".join(lines + [f'        "d_{name}": {{ init: [scripts/{name}.sql] }}' for name in names]) + "\n"


def applied(corner, all_names):
    """The scripts that devenv applies; what it refuses, by name, with the reason."""
    names, refused, offered = [], {}, 0
    while True:
        more = all_names[offered : offered + BATCH]
        offered += len(more)
        names += more
        (corner.project / "profiles/default.yaml").write_text(profile(names))
        done = corner.run("up", ok=None, timeout=1800)
        found = {match.group(1): match.group(2) for match in re.finditer(r"scripts/(\w+)\.sql(?::\d+)*:? ([^\n]*)", done.stdout + done.stderr) if match.group(1) in names}
        if done.returncode == 0 and offered == len(all_names):
            return names, refused
        if done.returncode and not found:
            raise Failed(f"`up` exited {done.returncode} and named no script: {done.stdout[-1000:]}{done.stderr[:1500]}")
        refused.update(found)
        names = [name for name in names if name not in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scripts", type=Path)
    parser.add_argument("--keep", type=Path, help="write what psql applies of the scripts to this directory, to be given as --scripts again")
    arguments = parser.parse_args()
    began = time.monotonic()
    if arguments.scripts:
        scripts = {re.sub(r"\W", "_", path.stem): path.read_bytes() for path in sorted(arguments.scripts.glob("*.sql"))}
    else:
        scripts = generate(arguments.count, arguments.seed)
    with Corner(arguments.binary, {"profiles/default.yaml": profile([])}) as corner, concurrent.futures.ThreadPoolExecutor(2) as pool:
        corner.run("up")
        server = Server(corner)
        server.administer("create role reference login password 'reference'")

        def prepare(item):
            name, data = item
            if arguments.scripts:
                data = reduce(server, name, data)
            return name, data, data and reference(server, name, data)

        prepared = [(name, data, dump) for name, data, dump in pool.map(prepare, scripts.items()) if dump is not None]
        (corner.project / "scripts").mkdir()
        for name, data, _ in prepared:
            (corner.project / f"scripts/{name}.sql").write_bytes(data)
            if arguments.keep:
                arguments.keep.mkdir(exist_ok=True)
                (arguments.keep / f"{name}.sql").write_bytes(data)
        print(f"{len(scripts)} scripts, of which psql applies {len(prepared)} to the same effect twice ({time.monotonic() - began:.0f} s)", flush=True)
        names, refused = applied(corner, [name for name, _, _ in prepared])
        for name, why in sorted(refused.items()):
            print(f"refused {name}: {why[:200]}")
        different = 0
        for name, _, dump in prepared:
            ours = server.dump(f"d_{name}") if name in names else dump
            if ours != dump:
                different += 1
                line = next((pair for pair in zip(dump, ours) if pair[0] != pair[1]), ("(end)", "(end)"))
                print(f"DIFFERS {name}: psql has {line[0][:120]!r}, devenv has {line[1][:120]!r} ({len(dump)} and {len(ours)} lines)")
        print(f"{len(names)} applied, {len(refused)} refused, {different} differ, in {time.monotonic() - began:.0f} s, seed {arguments.seed}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
