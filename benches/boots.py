#!/usr/bin/env python3
"""Boots while every core burns: a client that is released the moment `up` says ready must never fail.

    benches/boots.py [--binary PATH] [--kind postgres|redis|mariadb] [--boots 100] [--reused] [--burners 2 x cores]

Each boot initialises a new volume, so a server's own temporary first server is there to be mistaken for the real one. With `--reused`
the volume is kept: each boot starts on the data of the one before, and its row has to be there. The client logs in as the application
and writes, with no retry. Exit status: 0 none failed, 1 one did.
"""
import argparse, os, sys, time

from corner import Corner, Machine, RedisClient, burning, sh, summary

PROFILES = {
    "postgres": "postgres: { databases: { app: { owner: app } } }",
    "redis": "redis: { persistence: { aof: everysec } }",
    "mariadb": "mariadb: { databases: { app: { owner: app } } }",
}


def redis(environment, boot, reused):
    with RedisClient(environment["DB_PORT"], environment["DB_PASSWORD"], timeout=5) as client:
        count = client.ask("INCR", "boots")
    return "" if count == f":{boot if reused else 1}" else f"INCR answers {count}"


def postgres(environment, boot, reused):
    table = "create table if not exists t (x int)" if reused else "create table t (x int)"
    sql = f"{table}; insert into t values ({boot}); select count(*) from t"
    client = sh(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, environment["DATABASE_URL"]])
    return "" if client.returncode == 0 and client.stdout.strip() == str(boot if reused else 1) else client.stdout + client.stderr


def mariadb(environment, boot, reused, corner):
    table = "create table if not exists t (x int)" if reused else "create table t (x int)"
    sql = f"{table}; insert into t values ({boot}); select count(*) from t"
    password = environment["DB_APP_PASSWORD"]
    client = corner.run("exec", "db", "--", "env", f"MYSQL_PWD={password}", "mariadb", "-h", "127.0.0.1", "-u", "app", "-N", "-B", "app", "-e", sql, ok=None)
    return "" if client.returncode == 0 and client.stdout.strip() == str(boot if reused else 1) else client.stdout + client.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--kind", choices=PROFILES, default="postgres")
    parser.add_argument("--boots", type=int, default=100)
    parser.add_argument("--reused", action="store_true")
    parser.add_argument("--burners", type=int, default=2 * (os.cpu_count() or 1))
    options = parser.parse_args()
    profile = f"services:\n  db:\n    {PROFILES[options.kind]}\n"
    machine, failed, took = Machine(), 0, []
    with burning(options.burners), Corner(options.binary, {"profiles/boots.yaml": profile}) as corner:
        for boot in range(1, options.boots + 1):
            began = time.monotonic()
            up = corner.run("up", "boots", "--quiet", ok=None)
            took.append((time.monotonic() - began) * 1000)
            try:
                if up.returncode:
                    problem = up.stderr
                elif options.kind == "mariadb":
                    problem = mariadb(corner.environment(), boot, options.reused, corner)
                else:
                    problem = {"postgres": postgres, "redis": redis}[options.kind](corner.environment(), boot, options.reused)
            except OSError as error:
                problem = str(error)
            if problem:
                failed += 1
                print(f"boot {boot} FAIL: {problem.strip()[-600:]}", flush=True)
            elif boot % 10 == 0:
                print(f"boot {boot} ok, {took[-1]:.0f} ms", flush=True)
            if options.reused:
                corner.run("down")
            else:
                corner.run("down", "--volumes")
                # The trash of a hundred boots would fill small disks.
                corner.run("gc", "--all")
    figures = summary(took)
    how = "reused" if options.reused else "fresh"
    print(f"{options.boots} {how} boots of {options.kind} under {options.burners} burning processes: {failed} false ready or failed; "
          f"up {figures['min']:.0f} / {figures['median']:.0f} / {figures['max']:.0f} ms ({machine.describe()})")
    sys.exit(1 if failed or not options.boots else 0)


if __name__ == "__main__":
    main()
