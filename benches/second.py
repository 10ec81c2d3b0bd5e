#!/usr/bin/env python3
"""How long the second new environment of a profile takes, against the first and against one whose data is kept, for each kind with data.

    benches/second.py --binary target/release/devenv [--rounds 5] [--only KIND]... [--json FILE]

In each round: up on new volumes, down, up on the kept ones, down with volumes, up on new volumes, down, up on the kept ones. Everything that
later environments profit from is removed between rounds. The goal is 1.1x of the kept data's. Exit status: 0 everything was measured.
"""
import argparse, json, sys, time
from pathlib import Path

from corner import Corner, Machine, summary

GOAL = 1.1
KINDS = {
    "postgres": "postgres: { databases: { app: { owner: app } } }",
    "mariadb": "mariadb: { databases: { app: { owner: app } } }",
    "redis": "redis: { persistence: { aof: everysec } }",
    "kafka": "kafka: { topics: { orders: { partitions: 3 }, users: { partitions: 3 }, audit: { partitions: 1 } }, consumer_groups: [workers] }",
    "rabbitmq": "rabbitmq: {}",
    "s3": "s3: { buckets: [uploads, reports] }",
}
# Until what is made behind a first start is whole.
BEHIND_SECONDS = 3


def measure(binary, kind, rounds):
    times = {"first": [], "second": [], "kept": []}
    with Corner(binary, {"profiles/one.yaml": f"services:\n  it:\n    {KINDS[kind]}\n"}) as corner:
        def up(which):
            times[which].append(corner.timed("up", "one"))

        for _ in range(rounds):
            corner.run("daemon", "start")
            for which in ("first", "second"):
                up(which)
                time.sleep(BEHIND_SECONDS)
                corner.run("down")
                up("kept")
                corner.run("down", "--volumes")
            corner.run("gc", "--all")
    return {which: summary(values) for which, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], choices=KINDS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine, kinds = Machine(), {}
    for kind in options.only or KINDS:
        kinds[kind] = found = measure(options.binary, kind, options.rounds)
        ratio = found["second"]["median"] / found["kept"]["median"]
        found["ratio"] = round(ratio, 2)
        print(f"{kind}: " + ", ".join(f"{which} {found[which]['median']}" for which in ("first", "second", "kept")) + f" ms; {ratio:.2f}x of kept (goal {GOAL}x)", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"goal": GOAL, "kinds": kinds, "machine": machine.describe()}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
