#!/usr/bin/env python3
"""Wakes on connect: how long the first query takes, whether any connection is lost, and what holding the ports costs.

    benches/sleep.py [--binary PATH] [--wakes 1000] [--clients 4] [--mode freeze|stop] [--kind redis|postgres] [--round-trips 5000] [--json FILE]

Without --mode and --kind, the wakes are shared between both modes and both servers. Each wake: `devenv sleep`, then new clients that connect at
once, each of which asks one question, with no retry. A question that is not answered is a lost connection. The time is that of the client that is
answered first, from before it starts; a client of PostgreSQL is a process of `psql`. The cost of the forwarding is measured on open connections to a
Redis whose port the daemon holds, and to one published by the engine, in turns. Exit status: 0 none was lost, 1 one was.
"""
import argparse, json, sys, threading, time

from corner import Corner, Machine, RedisClient, quantile, sh

KINDS = {"postgres": "postgres: { databases: { app: { owner: app } } }", "redis": "redis: { persistence: { aof: never, rdb: never } }"}
MODES = ["freeze", "stop"]


def question(kind, environment):
    if kind == "postgres":
        done = sh(["psql", "-XqAt", "-c", "select 1", environment["DATABASE_URL"]])
        if done.stdout.strip() != "1":
            raise OSError(done.stderr.strip() or "no answer")
    else:
        with RedisClient(environment["DB_PORT"], environment["DB_PASSWORD"], timeout=120) as client:
            if client.ask("PING") != "+PONG":
                raise OSError("no answer")


def wake(kind, environment, clients):
    """Milliseconds until each client had its answer, and the errors of the others."""
    took, lost, start = [], [], threading.Barrier(clients)

    def one():
        start.wait()
        began = time.monotonic()
        try:
            question(kind, environment)
            took.append((time.monotonic() - began) * 1000)
        except Exception as error:
            lost.append(str(error))

    threads = [threading.Thread(target=one) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took, lost


def wakes(binary, kind, mode, count, clients):
    first, all_clients, lost, awake = [], [], [], []
    with Corner(binary, {"profiles/nap.yaml": f"sleep: {{ mode: {mode} }}\nservices:\n  db:\n    {KINDS[kind]}\n"}) as corner:
        corner.run("up", "nap", "--quiet")
        environment = corner.environment()
        for _ in range(20):
            awake.extend(wake(kind, environment, 1)[0])
        for number in range(count):
            corner.run("sleep", "--quiet")
            took, errors = wake(kind, environment, clients)
            first.extend([min(took)] if took else [])
            all_clients.extend(took)
            for error in errors:
                lost.append(f"{kind}, {mode}, wake {number}: {error}")
                print(lost[-1], flush=True)
        corner.run("down", "--volumes")
    print(f"{kind}, {mode}: {count} wakes, {len(all_clients)} clients served, {len(lost)} lost", flush=True)
    return {"kind": kind, "mode": mode, "wakes": count, "served": len(all_clients), "lost": lost, "awake_ms": spread(awake), "first_ms": spread(first), "every_client_ms": spread(all_clients)}


def spread(values):
    return {"median": round(quantile(values, 0.5), 1), "p95": round(quantile(values, 0.95), 1), "max": round(max(values), 1)} if values else None


def round_trips(binary, count):
    held = f"services:\n  held:\n    sleep: {{}}\n    {KINDS['redis']}\n  published:\n    {KINDS['redis']}\n"
    with Corner(binary, {"profiles/held.yaml": held}) as corner:
        corner.run("up", "held", "--quiet")
        environment = corner.environment()
        clients = {name: RedisClient(environment[f"{name.upper()}_PORT"], environment[f"{name.upper()}_PASSWORD"]) for name in ("held", "published")}
        times = {name: [] for name in clients}
        for turn in range(count // 50):
            for name in sorted(clients, reverse=bool(turn % 2)):
                for _ in range(50):
                    began = time.perf_counter()
                    clients[name].ask("PING")
                    times[name].append((time.perf_counter() - began) * 1e6)
        corner.run("down", "--volumes")
    return {name: {"median_us": round(quantile(values, 0.5), 1), "p95_us": round(quantile(values, 0.95), 1)} for name, values in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--wakes", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--mode", choices=MODES)
    parser.add_argument("--kind", choices=KINDS)
    parser.add_argument("--round-trips", type=int, default=5000)
    parser.add_argument("--json")
    options = parser.parse_args()
    machine = Machine()
    pairs = [(kind, mode) for kind in KINDS for mode in MODES if options.kind in (None, kind) and options.mode in (None, mode)]
    rows = [wakes(options.binary, kind, mode, options.wakes // len(pairs), options.clients) for kind, mode in pairs]
    overhead = round_trips(options.binary, options.round_trips)
    lost = sum(len(row["lost"]) for row in rows)
    figures = {"clients": options.clients, "rows": rows, "lost": lost, "round_trips": overhead, "machine": machine.describe()}
    print(json.dumps(figures, indent=2))
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file)
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
