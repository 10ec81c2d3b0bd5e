#!/usr/bin/env python3
"""Fresh PostgreSQL boots while every core burns: a client that is released the moment `up` says ready must never fail.

    benches/boots.py [--binary PATH] [--boots 100] [--burners 2 x cores]

Each boot initialises a new volume, so PostgreSQL's own temporary first server is there to be mistaken for the real one. The client
logs in as the application's role to the application's database and writes, with no retry. Exit status: 0 none failed, 1 one did.
"""
import argparse, os, subprocess, sys, time

from corner import Corner, Machine, sh, summary

PROFILE = """\
services:
  db:
    postgres: { databases: { app: { owner: app } } }
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--boots", type=int, default=100)
    parser.add_argument("--burners", type=int, default=2 * (os.cpu_count() or 1))
    options = parser.parse_args()
    machine, failed, took = Machine(), 0, []
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.burners)]
    try:
        with Corner(options.binary, {"profiles/boots.yaml": PROFILE}) as corner:
            for boot in range(1, options.boots + 1):
                began = time.monotonic()
                up = corner.run("up", "boots", "--quiet", ok=None)
                took.append((time.monotonic() - began) * 1000)
                url = corner.environment().get("DATABASE_URL") if up.returncode == 0 else None
                client = url and sh(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", f"create table t (x int); insert into t values ({boot}); select x from t", url])
                if not client or client.returncode or client.stdout.strip() != str(boot):
                    failed += 1
                    print(f"boot {boot} FAIL: {(client.stderr if client else up.stderr).strip()[-600:]}", flush=True)
                elif boot % 10 == 0:
                    print(f"boot {boot} ok, {took[-1]:.0f} ms", flush=True)
                corner.run("down", "--volumes")
                # The trash of a hundred boots would fill small disks.
                corner.run("gc", "--all")
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    figures = summary(took)
    print(f"{options.boots} boots under {options.burners} burning processes: {failed} false ready or failed; up {figures['min']:.0f} / {figures['median']:.0f} / {figures['max']:.0f} ms ({machine.describe()})")
    sys.exit(1 if failed or not options.boots else 0)


if __name__ == "__main__":
    main()
