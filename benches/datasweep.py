#!/usr/bin/env python3
"""SIGKILL of the daemon at random moments of seed, reset, snapshot save and restore: nothing may be lost, nothing half recorded.

    benches/datasweep.py [--binary PATH] [--rounds 50] [--seed 4711]

Before each kill the data is either as seeded or as changed by hand. After it the next command has to work, and the data must be
what it was before the command or what the command makes of it, whole: never a mixture, and the ledger must say the same as
the rows. Prints a line a round. Exit status: 0 all of it held, 1 something did not.
"""
import argparse, contextlib, os, random, signal, subprocess, sys, time

from corner import Corner, Failed, Machine, sh

PROFILE = """\
description: a database and a cache with data, to be killed in the middle
services:
  db:
    postgres:
      version: "17"
      databases: { app: { owner: app } }
      init: [init-scripts/postgres]
      seed: [seed-data/demo/postgres]
  cache:
    redis: { persistence: { aof: always, rdb: never }, seed: [seed-data/demo/redis] }
"""
ROWS = 60_000
SNAPSHOT = "changed"


FILES = {
    "profiles/data.yaml": PROFILE,
    "init-scripts/postgres/01-tables.sql": "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);\nCREATE TABLE late (id int);\n",
    "seed-data/demo/postgres/item.csv": "id,name\n" + "".join(f"{number},name {number}\n" for number in range(ROWS)),
    "seed-data/demo/redis/queue.redis": "RPUSH jobs one two three\n",
}


def seen(corner):
    """Rows, changed rows, rows of the late data set, jobs of the queue."""
    variables = corner.environment()
    query = "select count(*), count(*) filter (where name = 'mine'), (select count(*) from late) from item"
    counts = sh(["psql", "-XqAt", "-F", ",", "-c", query, variables["DB_APP_URL"]], ok=0).stdout.strip()
    jobs = sh(["redis-cli", "--no-auth-warning", "-u", variables["REDIS_URL"], "llen", "jobs"], ok=0).stdout.strip()
    return tuple(int(count) for count in [*counts.split(","), jobs])


def change(corner):
    variables = corner.environment()
    sh(["psql", "-Xqc", "update item set name = 'mine' where id < 100", variables["DB_APP_URL"]], ok=0)
    sh(["redis-cli", "--no-auth-warning", "-u", variables["REDIS_URL"], "rpush", "jobs", "mine"], ok=0)


def applied(corner, path):
    entries = [entry for entry in corner.json("ledger")["entries"] if entry["path"].endswith(path)]
    return bool(entries) and entries[0]["state"] == "applied"


def one_round(corner, dice, number):
    verb = dice.choice(["seed", "reset", "save", "restore"])
    after = dice.choice([dice.uniform(0, 0.3), dice.uniform(0, 4.0)])
    late = f"seed-data/demo/postgres/late{number}.sql"
    with contextlib.suppress(Failed):
        corner.run("snapshot", "remove", SNAPSHOT)
    change(corner)
    before = seen(corner)
    if verb == "restore":
        corner.run("snapshot", "save", SNAPSHOT)
        corner.run("reset")
        before = seen(corner)
    if verb == "seed":
        (corner.project / late).write_text("COPY late FROM stdin;\n" + "".join(f"{row}\n" for row in range(20_000)) + "\\.\nselect pg_sleep(0.2);\n")
    words = {"seed": ["seed"], "reset": ["reset"], "save": ["snapshot", "save", SNAPSHOT], "restore": ["snapshot", "restore", SNAPSHOT]}[verb]
    daemon = corner.daemon()
    client = corner.start(*words)
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(daemon, signal.SIGKILL)
    try:
        finished = client.wait(120) == 0
    except subprocess.TimeoutExpired:
        client.kill()
        client.wait()
        raise Failed(f"{verb} still ran 120 s after the daemon was killed") from None
    told = f"{verb}, daemon killed after {after * 1000:.0f} ms, {'finished' if finished else 'cut off'}"
    began = time.monotonic()
    status = corner.json("up", "data")
    recovered = time.monotonic() - began
    if (states := {service["state"] for service in status["services"]}) != {"ready"}:
        raise Failed(f"{told}: after up {states}")
    now = seen(corner)
    fresh = (ROWS, 0, now[2], 3)
    mine = (ROWS, 100, now[2], 4)
    late_rows = {0} if verb != "seed" else {0, 20_000}
    if verb == "seed":
        if now[2] - before[2] not in late_rows or (now[2] - before[2] == 20_000) != applied(corner, late):
            raise Failed(f"{told}: {now} after {before}, late data set applied: {applied(corner, late)}")
        allowed = [(before[0], before[1], now[2], before[3])]
    elif verb == "save":
        allowed = [before]
        names = [snapshot["name"] for snapshot in corner.json("snapshot", "list")["snapshots"]]
        if finished and names != [SNAPSHOT]:
            raise Failed(f"{told}: snapshots {names}")
        if names:
            corner.run("snapshot", "restore", SNAPSHOT)
            if seen(corner) != before:
                raise Failed(f"{told}: the snapshot holds {seen(corner)} instead of {before}")
    else:
        allowed = [before, fresh if verb == "reset" else mine]
        if finished and now[:2] + now[3:] != allowed[1][:2] + allowed[1][3:]:
            raise Failed(f"{told}: {now}")
    if now[:2] + now[3:] not in [one[:2] + one[3:] for one in allowed]:
        raise Failed(f"{told}: {now}, allowed {allowed}")
    if verb in ("reset", "restore"):
        corner.run(*words)
    (corner.project / late).unlink(missing_ok=True)
    corner.run("reset")
    return f"{told}, up again {recovered:.1f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=4711)
    options = parser.parse_args()
    machine, bad = Machine(), 0
    with Corner(options.binary, FILES) as corner:
        corner.run("up", "data")
        for number in range(1, options.rounds + 1):
            # Each round has its own dice, so that one can be run again by its seed.
            try:
                print(f"round {number:3} ok    {one_round(corner, random.Random(options.seed * 1000 + number), number)}", flush=True)
            except Failed as failure:
                bad += 1
                print(f"round {number:3} FAIL  {failure}", flush=True)
                corner.run("up", "data")
                corner.run("reset")
    print(f"{options.rounds} rounds, seed {options.seed}: {bad} failed ({machine.describe()})")
    sys.exit(1 if bad or not options.rounds else 0)


if __name__ == "__main__":
    main()
