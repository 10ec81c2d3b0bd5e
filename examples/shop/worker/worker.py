"""The shop's worker: takes orders from Redis, ships them, and tells everybody through Kafka."""
import json, os, secrets, socket, time, urllib.parse, urllib.request

import kafka


def log(level, message, **fields):
    print(json.dumps({"level": level, "msg": message, **fields}), flush=True)


class Redis:
    """As much of Redis's protocol as the shop needs."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port))
        self.reader = self.socket.makefile("rb")
        self.ask("AUTH", parts.username, parts.password)

    def ask(self, *words):
        data = f"*{len(words)}\r\n".encode()
        for word in map(str, words):
            data += f"${len(word.encode())}\r\n{word}\r\n".encode()
        self.socket.sendall(data)
        return self.reply()

    def reply(self):
        line = self.reader.readline()
        kind, rest = line[:1], line[1:].strip()
        if kind == b"-" or not line:
            raise OSError(rest.decode() or "Redis closed the connection")
        if kind == b"$":
            return None if rest == b"-1" else self.reader.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return None if rest == b"-1" else [self.reply() for _ in range(int(rest))]
        return rest.decode()


def export(name, trace, parent, began):
    span = {"traceId": trace, "spanId": secrets.token_hex(8), "parentSpanId": parent, "name": name, "kind": 5,
            "startTimeUnixNano": str(began), "endTimeUnixNano": str(time.time_ns())}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "worker"}}]}
    body = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]}).encode()
    request = urllib.request.Request(os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] + "/v1/traces", body, {"content-type": "application/json"})
    try:
        urllib.request.urlopen(request, timeout=5).close()
    except OSError as error:
        log("warn", "a span was lost", error=str(error))


def ship(order):
    began = time.time_ns()
    _, trace, parent, _ = order["traceparent"].split("-")
    kafka.publish(os.environ["KAFKA_BROKERS"], "orders", str(order["id"]), json.dumps({"id": order["id"], "state": "shipped"}))
    log("info", "order shipped", order=order["id"], trace_id=trace)
    export("ship order", trace, parent, began)


def main():
    redis = Redis(os.environ["REDIS_URL"])
    log("info", "waiting for orders")
    while True:
        _, job = redis.ask("BLPOP", "orders", 0)
        ship(json.loads(job))


main()
