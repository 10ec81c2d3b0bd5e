#!/usr/bin/env python3
"""The same SQL scripts by `psql -f` and by devenv, each into a fresh database: the dumps must be equal.

    benches/psql_differential.py [--binary PATH] [--count 200] [--seed 1]
    benches/psql_differential.py [--binary PATH] --scripts DIRECTORY [--setup FILE] [--admin] [--keep DIRECTORY] [--jobs 2]

Without --scripts, `--count` scripts are generated (see psql_scripts.py). With it, the scripts are the `.sql` files of a directory, such
as PostgreSQL's own regression scripts (src/test/regress/sql in its source). What a script expects to fail, or needs from another
script, is removed from it first: the statements that psql reports as failed, until it reports none. If the owner may not take the other roles of
a script, what returns from them remains: devenv refuses that, in psql it does nothing, so devenv gets the script without it. A script whose effect differs between
two runs of psql (times, random numbers) is left out, and so is one that psql itself refuses.

--setup    a script that fills the template of every database, such as the regression suite's test_setup.sql; its errors are ignored
--admin    scripts run as the superuser (`admin_init`) instead of as the database's owner (`init`); the dump includes roles then
--keep     what psql applies of each script, the dump of its effect, and the verdicts. A later run with the same directory starts
           from there: it prepares nothing twice, and does not repeat a verdict on the same binary.
--only     names of scripts, separated by commas

Every job has a server of its own. A script is applied by `devenv init` to a database that psql made afresh, so one script cannot spoil
another. devenv may refuse a script with a reason; it must never apply one to another effect. Prints each script that is refused or differs.
Exit status: 0 no dump differs, 1 one does.
"""
import argparse, concurrent.futures, hashlib, json, queue, re, subprocess, sys, threading, time
from collections import Counter
from pathlib import Path

from corner import Corner, Failed
from psql_scripts import generate

PASSES = 60
SECONDS = 240
# The most lines of data of a COPY that is refused.
DATA = 60
FAILED = re.compile(r"psql:[^:\n]*:(\d+): (?:ERROR|error|could not)[^\n]*")
TAKES_ROLE = re.compile(r"\bSET (LOCAL |SESSION )?(ROLE|SESSION AUTHORIZATION)\b", re.I)
RETURNS = re.compile(r"^RESET (ROLE|SESSION AUTHORIZATION);[^\n]*$", re.I | re.M)
STATEMENT = re.compile(r"psql:[^:\n]*:(\d+): STATEMENT:  (.*?)(?=\npsql:|\Z)", re.S)
# Differs between equal databases: comments, random tokens of pg_dump, settings of the session.
NOISE = re.compile(r"^(\\(un)?restrict |--|SET |SELECT pg_catalog.set_config|$)|SCHEMA public")

# Databases, roles and settings of the whole server are as they were before the script.
FUNCTIONS = r"""
administer() { psql -h /var/run/postgresql -U postgres "$@"; }
fresh() {
administer -Xqt -d d > /dev/null 2>&1 <<'END'
select format('rollback prepared %L', gid) from pg_prepared_xacts where database = current_database() \gexec
END
administer -Xqt -d postgres > /dev/null <<'END'
select format('drop database %I with (force)', datname) from pg_database where datname not in ('postgres', 'template0', 'template1', 'setup') \gexec
select format('drop tablespace %I', spcname) from pg_tablespace where spcname !~ '^pg_' \gexec
select format('drop owned by %I cascade', rolname) from pg_roles where rolname !~ '^pg_' and rolname not in (select name from kept_role) \gexec
select format('drop role %I', rolname) from pg_roles where rolname !~ '^pg_' and rolname not in (select name from kept_role) \gexec
alter role d reset all;
alter role postgres reset all;
alter system reset all;
select pg_reload_conf();
\set ON_ERROR_STOP on
create database d owner d template setup encoding 'UTF8';
END
}
dump() {
    pg_dump -h /var/run/postgresql -U postgres --lock-wait-timeout=30s --no-owner --no-privileges -N devenv d
    if [ "$ADMIN" ]; then
        pg_dumpall -h /var/run/postgresql -U postgres --globals-only --no-role-passwords
        administer -Xqt -d postgres -c 'select datname from pg_database order by 1'
    fi
}
# Without `-q`, which hides that a `\\d` finds nothing.
reference() { timeout "$LIMIT" psql -h /var/run/postgresql -d d -X -o /dev/null "$@" -f /tmp/differential.sql < /dev/null; }
"""
SETUP = """
administer -Xq -d postgres -c 'create database setup' > /dev/null
administer -Xq -d setup -o /dev/null -f /tmp/differential.sql > /dev/null 2>&1
administer -Xq -v ON_ERROR_STOP=1 -d setup -c 'alter schema public owner to d' -c 'grant all on schema public to public' \
    -c 'grant all on all tables in schema public to public' -c 'grant all on all sequences in schema public to public'
administer -Xq -v ON_ERROR_STOP=1 -d postgres -c 'create table if not exists kept_role as select rolname::text as name from pg_roles'
"""
# Runs psql twice; the dump of the second run follows the first one.
TWICE = """
for run in first second; do
    fresh || exit 5
    reference -v ON_ERROR_STOP=1 > /tmp/differential.err 2>&1 || { tail -n 3 /tmp/differential.err; exit 4; }
    dump > "/tmp/differential.$run" || exit 5
done
cat /tmp/differential.first
echo '@@@'
cat /tmp/differential.second
"""


class LeftOut(Exception):
    """Why a script is not compared."""


class Worker:
    """A corner with a server, used by one thread."""

    def __init__(self, binary, admin, setup):
        place = "admin_init" if admin else "init"
        text = f"""\
services:
  db:
    postgres:
      version: "17"
      settings: {{ fsync: "off", full_page_writes: "off", log_connections: "on", max_prepared_transactions: "4", lc_messages: "C" }}
      {place}: [scripts/current.sql]
      databases: {{ d: {{}} }}
"""
        self.corner = Corner(binary, {"profiles/default.yaml": text, "scripts/current.sql": "\n"})
        self.admin = admin
        try:
            self.corner.run("up")
            self.container = self.corner.json("status")["services"][0]["container"]
            self.password = self.corner.environment()["PGPASSWORD"]
            self.shell(SETUP, setup, ok=0)
        except BaseException:
            self.corner.close()
            raise

    def shell(self, script, data=None, ok=None):
        """Runs a shell script in the container, with `data` as /tmp/differential.sql. Its output is text that has all bytes."""
        variables = {"PGUSER": "postgres" if self.admin else "d", "PGPASSWORD": self.password, "LIMIT": SECONDS, "ADMIN": "yes" if self.admin else ""}
        given = [part for name, value in variables.items() for part in ("-e", f"{name}={value}")]
        command = ["docker", "exec", "-i", "-u", "postgres", *given, self.container, "bash", "-c", f"cat > /tmp/differential.sql\n{FUNCTIONS}\n{script}"]
        done = subprocess.run(command, input=data or b"", capture_output=True, timeout=3 * SECONDS + 120)
        done.stdout, done.stderr = done.stdout.decode("latin-1"), done.stderr.decode("latin-1")
        if ok is not None and done.returncode != ok:
            raise Failed(f"{script} exited {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
        return done

    def reduced(self, data):
        """What psql applies of a script without an error."""
        text = data.decode("latin-1")
        for _ in range(PASSES):
            done = self.shell("fresh || exit 5\nreference -b", text.encode("latin-1"))
            if done.returncode == 5:
                raise Failed(f"the server cannot be reset: {done.stderr[-600:]}")
            if done.returncode == 124:
                raise LeftOut(f"psql takes more than {SECONDS} s")
            if not FAILED.search(done.stderr):
                return text.encode("latin-1")
            shorter = without_failures(text, done.stderr)
            if shorter == text:
                raise LeftOut("psql reports an error that belongs to no line: " + FAILED.search(done.stderr).group(0))
            text = shorter
        raise LeftOut(f"psql reports errors after {PASSES} passes: {done.stderr[-600:]}")

    def reference(self, data):
        """The dump that two runs of psql agree upon."""
        done = self.shell(TWICE, data)
        if done.returncode == 5:
            raise Failed(f"the server cannot be reset or dumped: {done.stderr[-600:]}")
        if done.returncode:
            raise LeftOut(f"psql -v ON_ERROR_STOP=1 refuses it ({done.returncode}): {(done.stdout + done.stderr).strip()[-300:]}")
        first, second = (cleaned(text) for text in done.stdout.split("@@@\n"))
        if first != second:
            raise LeftOut("two runs of psql differ")
        return first

    def applied(self, data):
        """The dump of what devenv makes of a script, or nothing and why it is refused; whether it was staged; seconds."""
        self.shell("fresh", ok=0)
        (self.corner.project / "scripts/current.sql").write_bytes(data)
        # `--since` counts whole seconds.
        since, began = str(int(time.time())), time.monotonic()
        done = self.corner.run("init", "db", ok=None, timeout=3 * SECONDS)
        took = time.monotonic() - began
        logs = subprocess.run(["docker", "logs", "--since", since, self.container], capture_output=True, timeout=60)
        staged = b"application_name=devenv staged script" in logs.stdout + logs.stderr
        if done.returncode:
            return None, done.stderr.strip(), staged, took
        return cleaned(self.shell("dump", ok=0).stdout), "", staged, took

    def close(self):
        self.corner.close()


def cleaned(dump):
    return [line for line in dump.split("\n") if not NOISE.search(line)]


def without_failures(text, stderr):
    """The script without the statements that psql reported as failed, and without the data that came with them."""
    lines = text.split("\n")
    gone = {int(match.group(1)) for match in FAILED.finditer(stderr)}
    for match in STATEMENT.finditer(stderr):
        last, statement = int(match.group(1)), match.group(2).rstrip("\n").split("\n")
        # Comments and empty lines before a statement are no part of it, and may be missing inside.
        first = next((number for number in range(last, max(0, last - 300), -1) if statement[0].strip() in lines[number - 1]), last)
        first = min(first, last - len(statement) + 1)
        if re.search(r"from\s+stdin", match.group(2), re.I):
            end = first + len(statement) - 1
            if end >= last:
                # Refused before its data, which follow.
                last = next((number for number in range(last, min(last + DATA, len(lines) + 1)) if lines[number - 1] == "\\."), last)
            elif lines[last - 1] != "\\.":
                # Its data are gone already, and it took the rest of the script for them.
                last = end
        gone.update(range(first, last + 1))
    if "without finding closing \\endif" in stderr:
        lines.append("\\endif")
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in gone)


def without_lone_returns(data):
    """The script without returns from a role that it has not taken."""
    text = data.decode("latin-1")
    taken = TAKES_ROLE.search(text)
    end = taken.start() if taken else len(text)
    return (RETURNS.sub("", text[:end]) + text[end:]).encode("latin-1")


def first_difference(ours, theirs):
    return next((pair for pair in zip(theirs, ours) if pair[0] != pair[1]), (f"{len(theirs)} lines", f"{len(ours)} lines"))


class Kept:
    """What earlier runs have found out, in a directory."""

    def __init__(self, directory, binary):
        self.directory, self.lock, self.verdicts = directory, threading.Lock(), {}
        self.binary = hashlib.sha256(Path(binary).read_bytes()).hexdigest()[:12]
        if directory:
            directory.mkdir(parents=True, exist_ok=True)
            if (directory / "verdicts.jsonl").exists():
                for line in (directory / "verdicts.jsonl").read_text().splitlines():
                    verdict = json.loads(line)
                    self.verdicts[verdict["script"], verdict["binary"]] = verdict

    def prepared(self, name):
        if self.directory and (self.directory / f"{name}.left-out").exists():
            raise LeftOut((self.directory / f"{name}.left-out").read_text())
        if self.directory and (self.directory / f"{name}.dump").exists():
            return (self.directory / f"{name}.sql").read_bytes(), (self.directory / f"{name}.dump").read_bytes().decode("latin-1").split("\n")
        return None

    def reduced(self, name, data):
        if self.directory:
            (self.directory / f"{name}.sql").write_bytes(data)

    def prepare(self, name, data, dump):
        if self.directory:
            (self.directory / f"{name}.dump").write_bytes("\n".join(dump).encode("latin-1"))

    def leave_out(self, name, why):
        if self.directory:
            (self.directory / f"{name}.left-out").write_text(why)

    def verdict(self, name):
        return self.verdicts.get((name, self.binary))

    def decide(self, verdict):
        with self.lock:
            self.verdicts[verdict["script"], self.binary] = verdict
            if self.directory:
                with (self.directory / "verdicts.jsonl").open("a") as file:
                    file.write(json.dumps({**verdict, "binary": self.binary}) + "\n")


def compare(worker, kept, name, data, reduce):
    """The verdict on one script."""
    try:
        prepared = kept.prepared(name)
        if prepared is None:
            data = worker.reduced(data) if reduce else data
            kept.reduced(name, data)
            prepared = data, worker.reference(data)
            kept.prepare(name, *prepared)
    except LeftOut as why:
        kept.leave_out(name, str(why))
        return {"script": name, "verdict": "left out", "why": str(why)}
    data, dump = prepared
    ours, refused, staged, took = worker.applied(without_lone_returns(data))
    found = {"script": name, "staged": staged, "seconds": round(took, 1), "lines": data.count(b"\n")}
    if ours is None:
        return {**found, "verdict": "refused", "why": refused}
    if ours != dump:
        psql, devenv = first_difference(ours, dump)
        return {**found, "verdict": "differs", "psql": psql[:200], "devenv": devenv[:200], "lengths": [len(dump), len(ours)]}
    return {**found, "verdict": "same"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scripts", type=Path)
    parser.add_argument("--setup", type=Path)
    parser.add_argument("--admin", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    began = time.monotonic()
    if options.scripts:
        scripts = {re.sub(r"\W", "_", path.stem): path.read_bytes() for path in sorted(options.scripts.glob("*.sql"))}
    else:
        scripts = generate(options.count, options.seed)
    if options.only:
        scripts = {name: scripts[name] for name in options.only.split(",")}
    kept, waiting, counted = Kept(options.keep, options.binary), queue.SimpleQueue(), Counter()
    setup = options.setup.read_bytes() if options.setup else b""

    def count(verdict):
        counted[verdict["verdict"]] += 1
        counted["staged"] += verdict.get("staged", False)
        if verdict["verdict"] != "same":
            print(verdict["verdict"].upper(), verdict["script"], json.dumps({key: verdict[key] for key in verdict if key not in ("verdict", "script", "binary")}), flush=True)

    for name, data in scripts.items():
        known = kept.verdict(name)
        if known:
            count(known)
        else:
            waiting.put((name, data))

    def work():
        if waiting.empty():
            return
        worker = Worker(options.binary, options.admin, setup)
        try:
            while True:
                name, data = waiting.get_nowait()
                try:
                    verdict = compare(worker, kept, name, data, bool(options.scripts))
                except (Failed, subprocess.TimeoutExpired) as error:
                    verdict = {"script": name, "verdict": "broken", "why": str(error)[-600:]}
                kept.decide(verdict)
                count(verdict)
                if verdict["verdict"] == "broken":
                    worker.close()
                    worker = Worker(options.binary, options.admin, setup)
        except queue.Empty:
            pass
        finally:
            worker.close()

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(work) for _ in range(options.jobs)]:
            done.result()
    staged = counted.pop("staged", 0)
    parts = ", ".join(f"{number} {verdict}" for verdict, number in sorted(counted.items()))
    print(f"{len(scripts)} scripts: {parts}; {staged} of the applied or refused ones were staged; {time.monotonic() - began:.0f} s, seed {options.seed}")
    return 1 if counted["differs"] or counted["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
