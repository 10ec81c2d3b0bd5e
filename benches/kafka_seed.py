#!/usr/bin/env python3
"""A large seed of Kafka: how long `up` takes with it, against `kafka-console-producer` in the same container.

    benches/kafka_seed.py [--binary PATH] [--records 200000]

The seed is a `.jsonl` file, one transaction. The producer gets the same keys and values from its input, in batches, and its start is part
of its time. Exit status: 0 if both topics have all records."""
import argparse, json, subprocess, sys, time

from corner import Corner, Machine, sh

PROFILE = """\
services:
  broker:
    kafka:
      topics: { ours: {}, theirs: {} }
"""
SEEDED = PROFILE + "      seed: [seed-data/kafka]\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--records", type=int, default=200_000)
    options = parser.parse_args()
    machine, numbers = Machine(), range(options.records)
    lines = "".join(f'{{"topic":"ours","key":"key-{number}","value":"value-{number}"}}\n' for number in numbers)
    with Corner(options.binary, {"profiles/plain.yaml": PROFILE, "profiles/seeded.yaml": SEEDED, "seed-data/kafka/01-records.jsonl": lines}) as corner:
        corner.run("up", "plain", "--quiet")
        container = corner.json("status")["services"][0]["container"]
        began = time.monotonic()
        corner.run("up", "seeded", "--quiet")
        took = time.monotonic() - began
        shell = "PATH=$PATH:/opt/kafka/bin"
        text = "".join(f"key-{number}\tvalue-{number}\n" for number in numbers)
        began = time.monotonic()
        producer = f"{shell}; kafka-console-producer.sh --bootstrap-server localhost:9092 --topic theirs --property parse.key=true"
        produced = subprocess.run(["docker", "exec", "-i", container, "sh", "-c", producer], input=text, text=True, capture_output=True)
        theirs = time.monotonic() - began
        ends = sh(["docker", "exec", container, "sh", "-c", f"{shell}; kafka-get-offsets.sh --bootstrap-server localhost:9092 --topic 'ours|theirs'"], ok=0).stdout
    counts = {line.split(":")[0]: int(line.split(":")[2]) for line in ends.split()}
    print(json.dumps({"records": options.records, "up_s": round(took, 2), "console_producer_s": round(theirs, 2), "ends": counts,
                      "said": produced.stderr[-300:], "machine": machine.describe()}))
    # A transaction ends with a marker, which uses an offset.
    sys.exit(0 if counts.get("ours") == options.records + 1 and counts.get("theirs") == options.records else 1)


if __name__ == "__main__":
    main()
