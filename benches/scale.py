#!/usr/bin/env python3
"""How `devenv` grows: with environments that are known, with environments that are up, and with the services of one profile.

    benches/scale.py --binary target/release/devenv [--known 100] [--up 20] [--services 500] [--containers 20] [--json FILE]

Each is measured at a tenth, a third and the whole of its number: `status`, `list` and an `up` with nothing to do as whole processes (median
of 15), the daemon's memory and its processor time while nobody asks, and how long a daemon that was killed takes to answer again, with
everything adopted. Services are small processes, and as many containers as `--containers` says. Exit status: 0 everything was measured.
"""
import argparse, json, sys, time
from pathlib import Path

from corner import Corner, Machine, cpu_seconds, sh, summary, until
from run import memory

IDLE_SECONDS = 10
GOALS = {"status_ms": 20, "list_ms": 50, "up_again_ms": 100, "memory_mb": 60, "idle_cpu_percent": 1, "adoption_ms": 1000}


def profile(services, containers):
    process = {"process": {"command": ["sleep", "infinity"]}}
    container = {"container": {"image": "debian:trixie-slim", "command": ["sleep", "infinity"]}}
    return json.dumps({"services": {f"s{number:03}": container if number < containers else process for number in range(services)}})


def measure(corner, name):
    """Of the environment `name`, beside everything else that is there."""
    of = lambda *arguments: [corner.timed(*arguments, timeout=600) for _ in range(15)]
    found = {"status_ms": summary(of("status", "--instance", name)), "list_ms": summary(of("list")), "up_again_ms": summary(of("up", "--instance", name))}
    daemon = corner.daemon()
    before = cpu_seconds(daemon)
    time.sleep(IDLE_SECONDS)
    found["idle_cpu_percent"] = summary([100 * (cpu_seconds(daemon) - before) / IDLE_SECONDS])
    found["memory_mb"] = summary([memory(daemon)[0]])
    corner.kill_daemon()
    until("the daemon is gone", lambda: not Path(f"/proc/{daemon}").exists())
    found["adoption_ms"] = summary([corner.timed("status", "--instance", name, timeout=600)])
    return found


def steps(most):
    return sorted({max(1, most // 10), max(1, most // 3), most})


def environments(options, up):
    """So many environments, which are up or only known, and the last of which is up."""
    found, there = {}, 0
    most = options.up if up else options.known
    with Corner(options.binary, {"profiles/one.yaml": profile(1, 0)}) as corner:
        for step in steps(most):
            while there < step:
                there += 1
                corner.run("up", "one", "--instance", f"e{there:03}")
                if not up and there < step:
                    corner.run("down", "--instance", f"e{there:03}")
            found[step] = measure(corner, f"e{there:03}")
            print(f"{'up' if up else 'known'} {step}: " + told(found[step]), flush=True)
            if not up:
                corner.run("down", "--instance", f"e{there:03}")
    return found


def services(options):
    found = {}
    for step in steps(options.services):
        containers = min(step, options.containers)
        with Corner(options.binary, {"profiles/many.yaml": profile(step, containers)}) as corner:
            took = corner.timed("up", "many", "--instance", "many", timeout=600)
            found[step] = {"first_up_ms": summary([took]), **measure(corner, "many")}
            print(f"services {step} ({containers} containers): " + told(found[step]), flush=True)
    return found


def told(figures):
    return ", ".join(f"{name} {values['median']}" for name, values in figures.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--known", type=int, default=100)
    parser.add_argument("--up", type=int, default=20)
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--containers", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    machine = Machine()
    document = {
        "version": sh([options.binary, "--version"], ok=0).stdout.strip(),
        "goals": GOALS,
        "series": {
            "environments known": environments(options, up=False),
            "environments up": environments(options, up=True),
            "services in one environment": services(options),
        },
    }
    document["machine"] = machine.describe()
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
