#!/usr/bin/env python3
"""A large seed of Redis: how long `up` takes with it, how long other clients wait meanwhile, against `redis-cli --pipe`.

    benches/redis_seed.py [--binary PATH] [--commands 200000] [--form commands|mixed|jsonl]

`commands` is a file of SET, `mixed` one of five commands for several types, `jsonl` one key a line. Another client sends a PING every
5 ms from its own connection while the seed is applied. The comparison is the time of `redis-cli --pipe` with the same commands on the
same server, after FLUSHALL. Processor seconds are those of the daemon or redis-cli, and of the server: they say more than the time on
a machine that is busy with other things. Exit status: 0 if all keys are there in both."""
import argparse, json, os, resource, subprocess, sys, threading, time

from corner import Corner, Machine, RedisClient, cpu_seconds, sh

PROFILE = """\
services:
  cache:
    redis: {}
"""
SEEDED = PROFILE.replace("{}", "{ seed: [seed-data/redis] }")


def waits(client, over, found):
    while not over.is_set():
        began = time.monotonic()
        client.ask("PING")
        found.append((time.monotonic() - began) * 1000)
        time.sleep(0.005)


def seed(form, count):
    """The commands, the file's name and its text, and the number of keys."""
    if form == "mixed":
        one = ["SET key:{0} value-{0}", "HSET user:{0} name user-{0} age {0}", "RPUSH list:{0} a b {0}", "ZADD rank:{0} {0} member-{0}", "EXPIRE list:{0} 86400"]
        commands = [one[number % 5].format(number // 5) for number in range(count)]
        return commands, "01-keys.redis", "\n".join(commands) + "\n", count // 5 * 4
    commands = [f"SET key:{number} value-{number}" for number in range(count)]
    if form == "jsonl":
        return commands, "01-keys.jsonl", "".join(f'{{"key":"key:{number}","value":"value-{number}"}}\n' for number in range(count)), count
    return commands, "01-keys.redis", "\n".join(commands) + "\n", count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--commands", type=int, default=200_000)
    parser.add_argument("--form", choices=["commands", "mixed", "jsonl"], default="commands")
    options = parser.parse_args()
    commands, name, text, wanted = seed(options.form, options.commands)
    machine = Machine()
    with Corner(options.binary, {"profiles/plain.yaml": PROFILE, "profiles/seeded.yaml": SEEDED, f"seed-data/redis/{name}": text}) as corner:
        corner.run("up", "plain", "--quiet")
        environment = corner.environment()
        port, password = int(environment["CACHE_PORT"]), environment["CACHE_PASSWORD"]
        container = corner.json("status")["services"][0]["container"]
        server, daemon = sh(["docker", "inspect", "-f", "{{.State.Pid}}", container], ok=0).stdout.strip(), corner.daemon()
        client, over, found = RedisClient(port, password), threading.Event(), []
        other = threading.Thread(target=waits, args=(RedisClient(port, password), over, found))
        other.start()
        before = cpu_seconds(server), cpu_seconds(daemon)
        began = time.monotonic()
        # The profile of the running server gets the seed: it is applied to a server that others use.
        corner.run("up", "seeded", "--quiet")
        took = time.monotonic() - began
        ours = {"server": cpu_seconds(server) - before[0], "daemon": cpu_seconds(daemon) - before[1]}
        over.set()
        other.join()
        keys = int(client.ask("DBSIZE")[1:])
        again = time.monotonic()
        corner.run("up", "seeded", "--quiet")
        again = time.monotonic() - again
        client.ask("FLUSHALL")
        before = cpu_seconds(server), resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.monotonic()
        subprocess.run(["redis-cli", "-p", str(port), "--no-auth-warning", "--pipe"], input="\r\n".join(commands) + "\r\n", text=True,
                       env={**os.environ, "REDISCLI_AUTH": password}, capture_output=True)
        pipe = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        theirs = {"server": cpu_seconds(server) - before[0], "redis-cli": used.ru_utime + used.ru_stime - before[1].ru_utime - before[1].ru_stime}
        piped_keys = int(client.ask("DBSIZE")[1:])
    ordered = sorted(found)
    figures = {"form": options.form, "commands": options.commands, "up_s": round(took, 2), "second_up_s": round(again, 2), "redis_cli_pipe_s": round(pipe, 2),
               "processor_s": {part: round(seconds, 2) for part, seconds in ours.items()},
               "processor_s_by_pipe": {part: round(seconds, 2) for part, seconds in theirs.items()}, "keys": keys,
               "keys_by_pipe": piped_keys, "pings": len(found), "ping_p50_ms": round(ordered[len(ordered) // 2], 2),
               "ping_p99_ms": round(ordered[int(len(ordered) * 0.99)], 2), "ping_max_ms": round(ordered[-1], 2), "machine": machine.describe()}
    print(json.dumps(figures))
    sys.exit(0 if keys >= wanted and piped_keys >= wanted else 1)


if __name__ == "__main__":
    main()
