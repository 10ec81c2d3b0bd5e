#!/usr/bin/env python3
"""A large seed of Redis commands: how long `up` takes with it, how long other clients wait meanwhile, against `redis-cli --pipe`.

    benches/redis_seed.py [--binary PATH] [--commands 200000]

Another client sends a PING every 5 ms from its own connection while the seed is applied. The comparison is the time of
`redis-cli --pipe` with the same commands on the same server, after FLUSHALL. Exit status: 0 if all keys are there in both."""
import argparse, json, os, socket, subprocess, sys, threading, time

from corner import Corner, Machine, sh, summary

PROFILE = """\
services:
  cache:
    redis: {}
"""
SEEDED = PROFILE.replace("{}", "{ seed: [seed-data/redis] }")


class Client:
    def __init__(self, port, password):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.reader = self.socket.makefile("rb")
        self.ask("AUTH", "default", password)

    def ask(self, *words):
        self.socket.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words))
        return self.reader.readline().strip()


def waits(client, over, found):
    while not over.is_set():
        began = time.monotonic()
        client.ask("PING")
        found.append((time.monotonic() - began) * 1000)
        time.sleep(0.005)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--commands", type=int, default=200_000)
    options = parser.parse_args()
    count, machine = options.commands, Machine()
    lines = [f"SET key:{number} value-{number}" for number in range(count)]
    files = {"profiles/plain.yaml": PROFILE, "profiles/seeded.yaml": SEEDED, "seed-data/redis/01-keys.redis": "\n".join(lines) + "\n"}
    with Corner(options.binary, files) as corner:
        corner.run("up", "plain", "--quiet")
        environment = corner.environment()
        port, password = int(environment["CACHE_PORT"]), environment["CACHE_PASSWORD"]
        client, over, found = Client(port, password), threading.Event(), []
        other = threading.Thread(target=waits, args=(Client(port, password), over, found))
        other.start()
        began = time.monotonic()
        # The profile of the running server gets the seed: it is applied to a server that others use.
        corner.run("up", "seeded", "--quiet")
        took = time.monotonic() - began
        over.set()
        other.join()
        keys = int(client.ask("DBSIZE")[1:])
        again = time.monotonic()
        corner.run("up", "seeded", "--quiet")
        again = time.monotonic() - again
        client.ask("FLUSHALL")
        began = time.monotonic()
        piped = subprocess.run(["redis-cli", "-p", str(port), "--no-auth-warning", "--pipe"], input="\r\n".join(lines) + "\r\n", text=True,
                               env={**os.environ, "REDISCLI_AUTH": password}, capture_output=True)
        pipe = time.monotonic() - began
        piped_keys = int(client.ask("DBSIZE")[1:])
    ordered = sorted(found)
    figures = {"commands": count, "up_s": round(took, 2), "second_up_s": round(again, 2), "redis_cli_pipe_s": round(pipe, 2), "keys": keys,
               "keys_by_pipe": piped_keys, "pings": len(found), "ping_p50_ms": round(ordered[len(ordered) // 2], 2),
               "ping_p99_ms": round(ordered[int(len(ordered) * 0.99)], 2), "ping_max_ms": round(ordered[-1], 2), "machine": machine.describe()}
    print(json.dumps(figures))
    sys.exit(0 if keys >= count and piped_keys >= count else 1)


if __name__ == "__main__":
    main()
