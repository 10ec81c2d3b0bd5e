#!/usr/bin/env python3
"""Five hundred tests, each in a process of its own, on one environment that the first of them brings up.

    benches/processes.py [--binary PATH] [--at-once 4] [--tests 500]

Builds `benches/suite` and runs its tests with `cargo nextest` where that is installed; else runs each by itself, as nextest does.
Tells how often the environment was started, what a lease took, and what is left. Exit status: 0 all passed, one start, no leak.
"""
import argparse, json, os, shutil, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corner import Corner, Machine, quantile, sh, until

SUITE = Path(__file__).parent / "suite"


def test_binary(variables):
    built = sh(["cargo", "test", "--no-run", "--test", "processes", "--message-format", "json"], timeout=3600, ok=0, cwd=SUITE, env=variables)
    found = [json.loads(line).get("executable") for line in built.stdout.splitlines()]
    return [path for path in found if path][-1]


def one_by_one(binary, variables, tests, at_once):
    names = [line.removesuffix(": test") for line in sh([binary, "--list", "--format", "terse"], ok=0).stdout.splitlines()][:tests]
    run = lambda name: subprocess.run([binary, "--exact", name], env=variables, cwd=SUITE, capture_output=True, text=True)
    with ThreadPoolExecutor(at_once) as pool:
        done = list(pool.map(run, names))
    failed = [one for one in done if one.returncode]
    for one in failed[:3]:
        print(one.stdout[-600:] + one.stderr[-600:])
    return len(names), len(failed)


def nextest(variables, tests, at_once):
    command = ["cargo", "nextest", "run", "--test", "processes", "--test-threads", str(at_once), "--no-fail-fast"]
    if tests < 500:
        command += ["-E", f"test(/^h[0-{max(0, tests // 100 - 1)}]::/)"]
    done = subprocess.run(command, env=variables, cwd=SUITE, capture_output=True, text=True)
    summary = next((line for line in reversed(done.stderr.splitlines()) if "tests run:" in line), done.stderr[-600:])
    print(summary.strip())
    return tests, done.returncode


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--tests", type=int, default=500)
    options = parser.parse_args()
    with Corner(options.binary) as corner:
        # The suite's own project, so that its tests find it.
        corner.project = SUITE / "project"
        latencies = corner.root / "latencies"
        variables = dict(corner.variables, DEVENV_BIN=corner.binary, LATENCIES=str(latencies))
        binary = test_binary(variables)
        machine, began = Machine(), time.monotonic()
        if shutil.which("cargo-nextest"):
            runner, (tests, failed) = "cargo nextest", nextest(variables, options.tests, options.at_once)
        else:
            runner, (tests, failed) = "a process each", one_by_one(binary, variables, options.tests, options.at_once)
        took = time.monotonic() - began
        lines = [[float(word) for word in line.split()] for line in latencies.read_text().splitlines()]
        starts = sum(event["kind"] == "service.created" for event in corner.events())
        url = corner.environment()["DATABASE_URL"]
        count = lambda: int(sh(["psql", "-XqAt", "-c", "select count(*) from pg_database where datname like 'devenv_lease_%'", url], ok=0).stdout)
        until("only copies made ahead are left", lambda: count() <= 10, 120, 0.5)
        copies = count()
        corner.run("down", "--all", "--volumes")
        corner.run("gc", "--all")
        left = corner.objects()
        ups, leases = zip(*lines)
        figures = {name: {"p50": quantile(values, 0.5), "p95": quantile(values, 0.95), "worst": max(values)} for name, values in (("up_ms", ups), ("lease_ms", leases))}
        print(json.dumps({"runner": runner, "tests": tests, "failed": failed, "at_once": options.at_once, "starts": starts, "total_s": round(took, 1), **figures, "copies_ahead": copies, "left": left, "machine": machine.describe()}, indent=2))
    sys.exit(0 if not failed and starts == 1 and not left and len(lines) == tests else 1)


if __name__ == "__main__":
    main()
