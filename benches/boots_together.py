#!/usr/bin/env python3
"""Boots of four kinds at once while the machine is busy: a client that is released the moment its service says ready must never fail.

    benches/boots_together.py [--binary PATH] [--record FILE] [--boots 250] [--reused-per-fresh 1] [--burners 2]

Each round starts PostgreSQL, Redis, Kafka and MariaDB in one environment. Four clients wait for the `service.ready` event of their own
service, not for `up`: they log in as the application and write and read once, with no retry. A fresh round initialises new volumes
(golden volumes are removed before); a reused round starts on the data of the one before, and counts what the earlier boots wrote.

Each result is a line of JSON in the record, which is counted at the start: a run that was stopped (SIGTERM cleans up) goes on where it
stopped, until the record has as many fresh and as many reused boots of each kind as `--boots` says. Exit status: 0 none failed, 1 one did.
Needs the packages `pymysql` and `confluent-kafka`, and `psql`.
"""
import argparse, collections, datetime, json, os, signal, subprocess, sys, threading, time
from pathlib import Path

import confluent_kafka, pymysql

from corner import Corner, Failed, RedisClient, burning, sh

PROFILE = """\
services:
  db: { postgres: { databases: { app: { owner: app } } } }
  cache: { redis: { persistence: { aof: everysec } } }
  broker: { kafka: { topics: { boots: {} } } }
  maria: { mariadb: { databases: { app: { owner: app } } } }
"""
SQL = "create table if not exists t (x int)", "insert into t values (1)", "select count(*) from t"
LIMIT = 20


def postgres(environment, expected):
    client = sh(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", "; ".join(SQL), environment["DB_APP_URL"]], timeout=LIMIT)
    answer = client.stdout.strip()
    return "" if client.returncode == 0 and answer == str(expected) else f"{answer} {client.stderr}".strip()


def redis(environment, expected):
    with RedisClient(environment["CACHE_PORT"], environment["CACHE_PASSWORD"], timeout=LIMIT) as client:
        count = client.ask("INCR", "boots")
    return "" if count == f":{expected}" else f"INCR answers {count}"


def mariadb(environment, expected):
    server = pymysql.connect(host="127.0.0.1", port=int(environment["MARIA_PORT"]), user="app", password=environment["MARIA_APP_PASSWORD"],
                             database="app", connect_timeout=LIMIT, read_timeout=LIMIT, autocommit=True)
    with server, server.cursor() as cursor:
        for statement in SQL:
            cursor.execute(statement)
        (count,) = cursor.fetchone()
        return "" if count == expected else f"{count} rows"


def kafka(environment, expected):
    problems = []
    settings = {"bootstrap.servers": environment["BROKER_BROKERS"], "broker.address.family": "v4", "error_cb": lambda error: problems.append(str(error))}
    producer = confluent_kafka.Producer({**settings, "retries": 0, "message.timeout.ms": LIMIT * 1000})
    topic = producer.list_topics("boots", timeout=LIMIT).topics["boots"]
    if topic.error or not topic.partitions or any(part.error or part.leader < 0 for part in topic.partitions.values()):
        return f"the topic has no leader: {topic.error}"
    producer.produce("boots", b"boot", on_delivery=lambda error, _: error and problems.append(str(error)))
    if producer.flush(LIMIT):
        problems.append(f"the record was not acknowledged within {LIMIT} s")
    consumer = confluent_kafka.Consumer({**settings, "group.id": "boots", "enable.auto.commit": False, "fetch.wait.max.ms": 20})
    try:
        consumer.assign([confluent_kafka.TopicPartition("boots", 0, 0)])
        seen, end = 0, time.monotonic() + LIMIT
        while seen < expected and time.monotonic() < end and not problems:
            message = consumer.poll(0.2)
            if message is not None:
                seen += not message.error()
                if message.error():
                    problems.append(str(message.error()))
        if not problems and seen == expected:
            # The group's coordinator has to answer as well.
            consumer.commit(offsets=[confluent_kafka.TopicPartition("boots", 0, seen)], asynchronous=False)
    finally:
        consumer.close()
    return "; ".join(problems) or ("" if seen == expected else f"{seen} records, not {expected}")


CLIENTS = {"db": ("postgres", postgres), "cache": ("redis", redis), "broker": ("kafka", kafka), "maria": ("mariadb", mariadb)}


class Round:
    """One boot of all four services: who was ready when, and what the clients saw."""

    def __init__(self, corner, expected):
        self.corner, self.expected = corner, expected
        self.began = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
        self.clock = time.monotonic()
        self.environment = {}
        self.results = {}
        self.clients = []
        self.follower = None
        self.releases = threading.Lock()

    def play(self):
        up = self.corner.start("up", "boots", "--quiet", "--timeout", "5m")
        reader = threading.Thread(target=self.follow, args=(up,), daemon=True)
        reader.start()
        code = up.wait(timeout=400)
        # A client whose event has not come although `up` has ended is released by `up` itself.
        if code == 0:
            for service in CLIENTS:
                self.release(service)
        for client in list(self.clients):
            client.join(timeout=4 * LIMIT)
        if self.follower:
            self.follower.kill()
        reader.join(timeout=10)
        return code

    def follow(self, up):
        """Reads events until `up` has ended; starts again where the environment was not there yet."""
        while True:
            self.follower = subprocess.Popen(self.corner.command("events", "-f", "--json"), env=self.corner.variables, cwd=self.corner.project,
                                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            for line in self.follower.stdout:
                event = json.loads(line)
                if event.get("time", "") < self.began:
                    continue
                self.know()
                if event.get("kind") == "service.ready" and event.get("service") in CLIENTS:
                    self.release(event["service"])
            self.follower.wait()
            if up.poll() is not None:
                return
            time.sleep(0.05)

    def know(self):
        """Fetches the addresses before the first service is ready, so that no client waits for them."""
        if "MARIA_PORT" not in self.environment:
            try:
                self.environment = self.corner.environment()
            except (Failed, ValueError, subprocess.TimeoutExpired):
                pass

    def release(self, service):
        with self.releases:
            if service in self.results:
                return
            self.results[service] = {"ready_ms": round((time.monotonic() - self.clock) * 1000), "problem": "the client did not end"}
            client = threading.Thread(target=self.client, args=(service,), daemon=True)
            client.start()
            self.clients.append(client)

    def client(self, service):
        self.know()
        began = time.monotonic()
        try:
            problem = CLIENTS[service][1](self.environment, self.expected)
        except Exception as error:  # Whatever a client raises is what it saw.
            problem = f"{type(error).__name__}: {error}"
        self.results[service].update(problem=problem, client_ms=round((time.monotonic() - began) * 1000))


def counted(record):
    """Boots by kind and sort that the record has, and how many of them failed."""
    boots, failed = collections.Counter(), 0
    if record.exists():
        for line in record.read_text().splitlines():
            entry = json.loads(line)
            boots[entry["kind"], entry["how"]] += 1
            failed += bool(entry["problem"])
    return boots, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--record", type=Path, default=Path("boots.ndjson"))
    parser.add_argument("--boots", type=int, default=250, help="fresh boots of each kind, and as many reused ones")
    parser.add_argument("--reused-per-fresh", type=int, default=1)
    parser.add_argument("--burners", type=int, default=2)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with burning(options.burners), Corner(options.binary, {"profiles/boots.yaml": PROFILE}) as corner, options.record.open("a") as record:
            while True:
                boots, _ = counted(options.record)
                left = {how: options.boots - min(boots[kind, how] for kind, _ in CLIENTS.values()) for how in ("fresh", "reused")}
                if max(left.values()) <= 0:
                    break
                for expected in range(1, 2 + options.reused_per_fresh):
                    round_ = Round(corner, expected)
                    code = round_.play()
                    for service, (kind, _) in CLIENTS.items():
                        result = round_.results.get(service, {"problem": f"never ready, up exits {code}"})
                        entry = {"time": round_.began, "kind": kind, "how": "fresh" if expected == 1 else "reused", "up": code, "load": os.getloadavg()[0], **result}
                        record.write(json.dumps(entry) + "\n")
                        if result["problem"]:
                            print(f"{entry['how']} boot of {kind} FAIL: {result['problem'][-600:]}", flush=True)
                    record.flush()
                    if any(result["problem"] for result in round_.results.values()):
                        break
                    if expected <= options.reused_per_fresh:
                        corner.run("down")
                corner.run("down", "--volumes")
                # The trash of a hundred boots would fill small disks, and a golden volume would spare the next one its first start.
                corner.run("gc", "--all")
    finally:
        boots, failed = counted(options.record)
        print(f"{dict((' '.join(key), count) for key, count in sorted(boots.items()))}: {failed} false ready or failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
