#!/usr/bin/env python3
"""Whole product environments at the same time: `devenv test complianceflow`, so many at once, none of which may meet another.

    benches/parallel.py [--binary PATH] [--runs 10] [--profile complianceflow]

Each run's command waits until all runs are up, or have failed, and tells its subnet and ports. Exit status: 0 all of them succeeded, no port and
no subnet was shared, and nothing is left; 1 otherwise.
"""
import argparse, ipaddress, itertools, json, subprocess, sys, time

from corner import Corner, Machine, sh, until

COMMAND = """\
docker network inspect devenv-$DEVENV_ENVIRONMENT -f '{{(index .IPAM.Config 0).Subnet}}' > {file}.part
psql -XqAt -c 'create table only_here ()' "$DATABASE_URL" && env | grep -E '^[A-Z_]+_PORT=' >> {file}.part && mv {file}.part {file}
while [ ! -e {all} ]; do sleep 0.2; done
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--profile", default="complianceflow")
    options = parser.parse_args()
    machine = Machine()
    with Corner(options.binary) as corner:
        everybody, began = corner.root / "all", time.monotonic()
        files = [corner.root / f"run-{number}" for number in range(options.runs)]
        runs = []
        for file in files:
            command = corner.command("test", options.profile, "--", "sh", "-c", COMMAND.replace("{file}", str(file)).replace("{all}", str(everybody)))
            log = file.with_suffix(".log").open("w")
            runs.append(subprocess.Popen(command, env=corner.variables, cwd=corner.project, stdout=subprocess.DEVNULL, stderr=log))
        until("all runs are up or over", lambda: all(file.exists() or run.poll() is not None for file, run in zip(files, runs)), 1200, 0.5)
        up = time.monotonic() - began
        containers = sum(kind == "container" for kind, _ in corner.objects())
        everybody.touch()
        codes = [run.wait(600) for run in runs]
        told = [file.read_text().split() for file in files if file.exists()]
        subnets = [ipaddress.ip_network(lines[0]) for lines in told]
        ports = [word.split("=")[1] for lines in told for word in sorted({line.split("=")[1]: line for line in lines[1:]}.values())]
        shared = [f"{a} and {b}" for a, b in itertools.combinations(subnets, 2) if a.overlaps(b)]
        twice = sorted({port for port in ports if ports.count(port) > 1})
        corner.run("down", "--all", "--volumes")
        corner.run("gc", "--all")
        left = corner.objects()
        for number, code in enumerate(codes):
            if code:
                print(f"run {number} exited {code}: {(corner.root / f'run-{number}.log').read_text()[-400:]}")
        print(json.dumps({"runs": options.runs, "succeeded": codes.count(0), "containers": containers, "all_up_s": round(up, 1), "subnets": len(set(subnets)), "overlapping": shared, "ports": len(ports), "ports_shared": twice, "left": left, "machine": machine.describe()}, indent=2))
        sys.exit(0 if codes.count(0) == options.runs and not shared and not twice and not left else 1)


if __name__ == "__main__":
    main()
