#!/usr/bin/env python3
"""SIGKILL at random moments of up and down, of the daemon, the client or both; then up, down --volumes, gc --all, daemon stop: nothing may be left.

    benches/sweep.py [--binary PATH] [--rounds 50] [--seed 4711]

A row put into the database before the kill must be there after the next `up`, unless the round's own `down --volumes` took it.
Prints a line a round. Exit status: 0 nothing leaked and nothing lost, 1 something did.
"""
import argparse, contextlib, os, random, signal, subprocess, sys, time

from corner import Corner, Failed, Machine, sh

PROFILE = """\
description: containers, volumes and a host process, to be killed in the middle
services:
  db:
    postgres: {}
  cache:
    redis: {}
  worker:
    depends_on: { cache: ready }
    process: { command: [sleep, "86400"] }
"""
SERVICES = {"db", "cache", "worker"}


def rows(corner):
    done = sh(["psql", "-XqAt", "-c", "select string_agg(x::text, ',' order by x) from kept", corner.environment()["DATABASE_URL"]], ok=0)
    return done.stdout.strip()


def kill_in_the_middle(corner, dice):
    verb = dice.choice([["up", "sweep"], ["down"], ["restart"], ["down", "--volumes"]])
    victim = dice.choice(["daemon", "client", "both"])
    after = dice.choice([dice.uniform(0, 0.1), dice.uniform(0, 2.0)])
    if verb[0] == "up":
        # Something to do: from nothing, or from what a stop left.
        corner.run(*dice.choice([["down"], ["stop", "db"]]))
    daemon = corner.daemon() if victim != "client" else None
    client = corner.start(*verb)
    time.sleep(after)
    if victim in ("client", "both"):
        client.kill()
    if daemon and victim in ("daemon", "both"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)
    try:
        client.wait(90)
    except subprocess.TimeoutExpired:
        client.kill()
        client.wait()
        raise Failed(f"{' '.join(verb)} still ran 90 s after the {victim} was killed")
    return f"{' '.join(verb)}, {victim} killed after {after * 1000:.0f} ms", "--volumes" in verb


def leftovers(corner, known):
    found = [f"{kind} {name}" for kind, name in corner.objects()]
    # What carries another label than ours, or none, and was not there before: `docker` of this machine may have other users, so by name.
    for kind, command in (("container", "docker ps -a --format {{.Names}}"), ("network", "docker network ls --format {{.Name}}"), ("volume", "docker volume ls --format {{.Name}}")):
        found += [f"{kind} {name}" for name in sh(command).stdout.split() if f"devenv-project-{known}" in name or known in name]
    end = time.monotonic() + 3
    while (processes := corner.processes()) and time.monotonic() < end:
        time.sleep(0.05)
    return found + [f"process {pid} {words[:80]}" for pid, words in processes]


def one_round(corner, dice):
    corner.run("up", "sweep")
    environment = corner.json("status")["environment"]
    sh(["psql", "-Xq", "-c", "create table kept (x int); insert into kept values (7)", corner.environment()["DATABASE_URL"]], ok=0)
    told, forgotten = kill_in_the_middle(corner, dice)
    began = time.monotonic()
    status = corner.json("up", "sweep")
    recovered = time.monotonic() - began
    states = {service["name"]: service["state"] for service in status["services"]}
    if states != dict.fromkeys(SERVICES, "ready"):
        raise Failed(f"{told}: after up {states}")
    running = [kind for kind, _ in corner.objects()].count("container")
    if running != 2:
        raise Failed(f"{told}: {running} containers for 2 services in containers")
    if not forgotten and rows(corner) != "7":
        raise Failed(f"{told}: data lost")
    corner.run("down", "--volumes")
    corner.run("gc", "--all")
    corner.run("daemon", "stop")
    left = leftovers(corner, environment)
    if left:
        raise Failed(f"{told}: left behind: {'; '.join(left)}")
    return f"{told}; up again in {recovered:.1f} s; nothing left"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=4711)
    options = parser.parse_args()
    machine, bad = Machine(), 0
    for number in range(1, options.rounds + 1):
        # Each round has its own dice, so that one can be run again by its seed.
        dice = random.Random(options.seed * 1000 + number)
        with Corner(options.binary, {"profiles/sweep.yaml": PROFILE}) as corner:
            try:
                print(f"round {number:3} ok    {one_round(corner, dice)}", flush=True)
            except Exception as error:
                bad += 1
                print(f"round {number:3} FAIL  {type(error).__name__}: {error}", flush=True)
                print("    " + "\n    ".join(corner.run("events", ok=None).stdout.splitlines()[-25:]), flush=True)
                log = corner.root / "state" / "daemon.log"
                if log.exists():
                    print("    " + "\n    ".join(log.read_text().splitlines()[-8:]), flush=True)
    print(f"{options.rounds} rounds, seed {options.seed}: {bad} failed ({machine.describe()})")
    sys.exit(1 if bad or not options.rounds else 0)


if __name__ == "__main__":
    main()
