#!/usr/bin/env python3
"""What a private database for a test costs: with devenv, with a container per test, and with one shared database.

    benches/leases.py --binary target/release/devenv [--tests 100] [--parallel 4] [--only-leases] [--json FILE]

- Lease latency: from the request on the socket to the granted lease, p50 and p95, over a kept-open client as a test process has one; and of
  the whole process `devenv lease -- true`, from its start to its end, in a row. Beside them, as a yardstick for a machine that has other
  things to do: `psql -c "select 1"`, a process and a login that have nothing to do with devenv.
- Total time of N tests that each need the seeded rows and change them: ours; a fresh server per test (what Testcontainers does, by the
  same engine calls: run, wait for the port, seed, remove); a shared server whose tables each test empties and fills again, one at a time.
- Leaks: databases, ACL users and processes that are left after all of it.
"""
import argparse, json, socket, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corner import Corner, Machine, free_port, quantile, sh, until
from peers import postgres_answers

ROWS = 20_000
TABLE = "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);"
FILL = f"INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, {ROWS}) i;"
TEST = f"DELETE FROM item WHERE id <= 100; SELECT 1 / (count(*) = {ROWS - 100})::int FROM item;"
PROFILE = """\
services:
  db:
    postgres: { version: "17", databases: { app: { owner: app } }, init: [init] }
"""


def psql(url, sql):
    sh(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, url], ok=0)


class Lease:
    """A lease over the socket itself, as the harness crate has it."""

    def __init__(self, corner, project):
        body = json.dumps({"target": {"project": project, "instance": "default"}, "services": ["db"]}).encode()
        began = time.monotonic()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(corner.socket))
        head = f"POST /v1/environment/lease HTTP/1.1\r\nhost: devenv\r\nconnection: upgrade\r\nupgrade: devenv-lease\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)
        stream = self.socket.makefile()
        while stream.readline().strip():
            pass
        answer = json.loads(stream.readline())
        self.took = (time.monotonic() - began) * 1000
        self.url = answer["granted"]["variables"]["DATABASE_URL"]

    def end(self):
        self.socket.close()


def ours(corner, project):
    lease = Lease(corner, project)
    psql(lease.url, TEST)
    lease.end()
    return lease.took


def container_per_test(_):
    port = free_port()
    name = f"bench-lease-{port}"
    sh(["docker", "run", "-d", "--rm", "--name", name, "-e", "POSTGRES_PASSWORD=bench", "-p", f"127.0.0.1:{port}:5432", "postgres:17"], ok=0)
    try:
        until("PostgreSQL answers", lambda: postgres_answers(port), 180, 0.05)
        url = f"postgres://postgres:bench@127.0.0.1:{port}/postgres"
        psql(url, TABLE + FILL)
        psql(url, TEST)
    finally:
        sh(["docker", "rm", "-f", "-v", name])


def shared(url):
    psql(url, "TRUNCATE item;" + FILL)
    psql(url, TEST)


def process(corner):
    began = time.monotonic()
    corner.run("lease", "--", "true")
    return (time.monotonic() - began) * 1000


def login(url):
    began = time.monotonic()
    psql(url, "SELECT 1")
    return (time.monotonic() - began) * 1000


def figures_of(values):
    return {"p50": round(quantile(values, 0.5), 1), "p95": round(quantile(values, 0.95), 1), "worst": round(max(values), 1), "n": len(values)}


def total(work, tests, parallel):
    began = time.monotonic()
    with ThreadPoolExecutor(parallel) as pool:
        results = list(pool.map(work, range(tests)))
    return round(time.monotonic() - began, 2), results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--tests", type=int, default=100)
    parser.add_argument("--parallel", type=int, default=4)
    parser.add_argument("--containers", type=int, help="tests with a container each, if not all; the total is scaled up")
    parser.add_argument("--only-leases", action="store_true", help="measure nothing else than how long leases take")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    containers = options.containers or options.tests
    machine = Machine()
    with Corner(options.binary, {"profiles/ci.yaml": PROFILE, "init/01.sql": TABLE + FILL}) as corner:
        status = json.loads(corner.run("up", "ci", "--json", ok=0).stdout)
        project = status["project"]
        corner.socket = json.loads(corner.run("daemon", "status", "--json", ok=0).stdout)["socket"]
        ours(corner, project)  # makes the template, as the first test of a run does
        shared_url = json.loads(corner.run("env", "--format", "json", ok=0).stdout)["DATABASE_URL"]
        time.sleep(3)
        alone = [ours(corner, project) for _ in range(options.tests)]
        processes, yardstick = [], []
        for _ in range(options.tests):
            processes.append(process(corner))
            yardstick.append(login(shared_url))
        if options.only_leases:
            print(json.dumps({"lease_ms": figures_of(alone), "process_ms": figures_of(processes), "yardstick_ms": figures_of(yardstick), "machine": machine.describe()}, indent=2))
            return 0
        own, took = total(lambda _: ours(corner, project), options.tests, options.parallel)
        url = shared_url
        beside, _ = total(lambda _: shared(url), options.tests, 1)
        count = lambda: int(sh(["psql", "-XqAt", "-c", "SELECT count(*) FROM pg_database WHERE datname LIKE 'devenv_lease_%'", url], ok=0).stdout)
        until("only the copies made ahead are left", lambda: count() <= 32, 60, 0.5)
        left = count()
    each, _ = total(container_per_test, containers, options.parallel)
    figures = {
        "lease_ms": figures_of(alone),
        f"lease_ms_{options.parallel}_at_once": figures_of(took),
        "process_ms": figures_of(processes),
        "yardstick_ms": figures_of(yardstick),
        "tests": options.tests,
        "total_s": {"devenv": own, "shared database, one at a time": beside, "container per test": round(each * options.tests / containers, 2)},
        "containers_measured": containers,
        "copies_left": left,
        "machine": machine.describe(),
    }
    text = json.dumps(figures, indent=2)
    if options.json:
        options.json.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
