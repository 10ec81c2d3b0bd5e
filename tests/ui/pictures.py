"""Pictures of the page for the documentation (`make pictures`): its files, with the answers of a made-up environment. Needs no engine."""
import http.server, itertools, json, math, sys, threading, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from world import ROOT, answering, browser, go, pretend

#: View, width, scheme.
WANTED = [("Services", 1280, "light"), ("Services", 1280, "dark"), ("Services", 400, "light"), ("Graph", 1280, "dark"), ("Logs", 1280, "dark"), ("Logs", 400, "dark"), ("Data", 1280, "light"),
          ("Traces", 1280, "light"), ("Map", 1280, "dark"), ("Events", 1280, "light"), ("Chaos", 1280, "dark"), ("Report", 1280, "light"), ("Metrics", 2560, "light")]
TARGET = {"project": "/home/me/shop", "instance": "default"}
NOW = "2026-11-28T10:%02d:%02d.123456Z"


def service(name, kind, state="ready", depends_on=None, **more):
    return {"name": name, "kind": kind, "state": state, "restarts": 0, "ready_after_ms": 640, "ports": [], "urls": {name: "http://127.0.0.1:20417/"}, "depends_on": depends_on or {}, **more}


STATUS = {**TARGET, "environment": "shop-default-41a0c7e2", "profile": "shop", "phase": "degraded", "operations": [], "drift": [],
          "services": [service("store", "postgres", ready_after_ms=1480), service("cache", "redis", "unhealthy", reason="it has not answered its probe for 3 s", restarts=1), service("events", "kafka", ready_after_ms=3510),
                       service("tracing", "jaeger", ready_after_ms=910), service("migrate", "process", "completed", {"store": "ready"}, urls={}), service("api", "process", depends_on={"store": "ready", "cache": "ready", "migrate": "completed"}),
                       service("worker", "process", "crash-loop", {"events": "ready", "store": "started"}, reason="`worker` ended 5 times with exit code 1", restarts=5, urls={})],
          "faults": [{"id": "latency-1", "fault": "latency", "service": "cache", "parameters": {"delay": "80ms"}, "injected_at": NOW % (0, 0), "heals_at": "2099-01-01T00:00:00Z", "witness": {"observed": True, "what": "a connection takes 81 ms instead of 0.3 ms", "after_ms": 94}}]}
LINES = [("api", "GET /orders/17 200 12 ms"), ("api", "\x1b[32mINFO\x1b[0m \x1b[2mshop::orders\x1b[0m listed 12 orders in \x1b[1m3 ms\x1b[0m"), ("worker", '{"level": "warn", "msg": "slow query", "ms": 812, "trace_id": "5b8efff798038103d269b633813fc60c"}'),
         ("worker", "ERROR connection refused (os error 111)"), ("store", "2026-11-28 10:00:00 UTC [1] LOG:  database system is ready to accept connections"), ("cache", "1:M 28 Nov 2026 10:00:00.000 * Background saving terminated with success")]
ANSWERS = {"/api/page": {"target": TARGET, "version": "0.1.0"}, "/api/v1/environments": [STATUS], "/api/v1/environment/why": {"events": []}, "/api/variables": {"variables": {}},
           "/api/v1/environment/chaos/status": {"faults": [{**STATUS["faults"][0], "id": "kill-1", "fault": "kill", "service": "api", "parameters": {}, "heals_at": None, "healed_at": NOW % (1, 0)}]}}
EVENTS = [(0, None, "environment.up-asked", "`up` was requested with the profile `shop`"), *((n % 3, name, "service.created", f"{name} was created") for n, name in enumerate(("store", "cache", "events", "tracing", "api", "worker"))),
          *((n, name, "service.ready", f"{name} is ready after {n}.2 s") for n, name in ((1, "tracing"), (2, "cache"), (2, "store"), (4, "events"), (5, "api"))), (6, "migrate", "service.completed", "migrate has completed: it exited with exit code 0"),
          *((8 + 3 * n, "worker", kind, text) for n in range(3) for kind, text in (("service.started", f"worker was started, run {n + 1}"), ("service.ended", "worker exited with code 1"))), (18, "worker", "service.crash-loop", "worker: it exited 5 times in a row: exit code 1"),
          (25, "api", "service.changed", "`api/orders.py` changed"), (25, "api", "service.restarting", "api restarts with the new files"), (27, "api", "service.ready", "api is ready after 820 ms: GET / answered 200"),
          (40, "cache", "fault.injected", "latency on cache: a connection takes 81 ms instead of 0.3 ms"), (43, "cache", "service.unhealthy", "cache has not answered its probe for 3 s")]
KINDS = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


class Pretended(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = ROOT / "ui" / (self.path.split("?")[0].lstrip("/") or "index.html")
        self.begin(KINDS[path.suffix])
        self.wfile.write(path.read_bytes())

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/api/live":
            self.begin("text/event-stream")
            self.wfile.write(f"event: status\ndata: {json.dumps(STATUS)}\n\n".encode())
            for n, (second, name, kind, message) in enumerate(EVENTS, 1):
                self.wfile.write(f"event: event\nid: {n}\ndata: {json.dumps({'sequence': n, 'time': NOW % (0, second), 'service': name, 'kind': kind, 'message': message, 'data': {}})}\n\n".encode())
        elif self.path == "/api/logs":
            self.begin("application/x-ndjson")
            for n in range(240):
                name, text = LINES[n * 7 % 6]
                self.wfile.write(json.dumps({"time": NOW % (n // 60, n % 60), "service": name, "stream": "stdout", "text": text, "run": 1}).encode() + b"\n")
        else:
            self.begin("application/json")
            self.wfile.write(json.dumps(ANSWERS.get(self.path, {"error": {"code": "usage", "message": "not pretended"}})).encode())
            return
        self.wfile.flush()
        time.sleep(60)

    def begin(self, kind):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.end_headers()

    def log_message(self, *_):
        pass


def traces():
    """Of a shop: some payments fail."""
    found = []
    for n in range(40):
        calls = [("a", None, "gateway", "POST /pay" if n % 3 == 0 else "GET /orders", 0, 60 + n), ("b", "a", "orders", "list orders", 4, 30 + n), ("c", "b", "store", "select", 8, 6 + n % 5), ("d", "a", "catalog", "find items", 36 + n, 12), ("e", "d", "cache", "GET items", 37 + n, 2)]
        if n % 3 == 0:
            calls += [("f", "b", "billing", "charge", 14, 16 + n), ("g", "f", "ledger", "insert", 18, 9)]
        spans = [{"id": id, "parent": parent, "service": service, "operation": name, "start_us": (1764370800 + n) * 10**6 + begin * 1000, "duration_us": length * 1000, "error": service == "billing" and n % 4 == 0, "tags": {"http.route": name}} for id, parent, service, name, begin, length in calls]
        found.append({"id": f"{n:032x}", "start_us": spans[0]["start_us"], "duration_us": spans[0]["duration_us"], "spans": spans})
    return {"services": ["gateway", "orders", "billing"], "traces": found}


def metrics():
    """Of all services, in waves."""
    turns = itertools.count()
    def answer(_):
        turn = next(turns)
        wave = lambda at, low, high: low + (high - low) * (1 + math.sin(turn / 2 + at)) / 2
        running = [one["name"] for one in STATUS["services"] if one["state"] not in ("completed", "crash-loop")]
        sample = lambda service, name, value, unit=None, **labels: {"service": service, "name": name, "labels": labels, "value": value, "unit": unit}
        return {"samples": [one for at, service in enumerate(running) for one in (sample(service, "devenv_service_cpu_ratio", wave(at, 0.01, 0.2 + at / 20), "ratio"), sample(service, "devenv_service_memory_bytes", wave(at, 20 + 30 * at, 24 + 34 * at) * 2**20, "bytes"))]
                + [sample("store", "postgres_connections", round(wave(1, 4, 18)), state="active"), sample("store", "postgres_connections", round(wave(3, 2, 9)), state="idle"), sample("store", "postgres_xact_commit", turn * 120 + wave(0, 0, 200)), sample("cache", "redis_keyspace_hits_total", turn * 900 + wave(2, 0, 300)), sample("cache", "redis_evicted_keys_total", turn * 3), sample("events", "kafka_consumer_lag", wave(2, 0, 400), group="billing")]}
    return answer


def main(into=ROOT / "docs/pictures"):
    into.mkdir(parents=True, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pretended)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with browser() as it:
        for view, width, scheme in WANTED:
            page = it.new_context(color_scheme=scheme, viewport={"width": width, "height": 1440 if width > 2000 else 720}, timezone_id="UTC").new_page()
            pretend(page, "ledger")
            page.route("**/api/v1/environment/metrics", answering(metrics()))
            if view == "Map":
                page.route("**/api/v1/environment/traces", answering(lambda _: traces()))
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
            go(page, {"Graph": "Services", "Map": "Traces", "Report": "Chaos"}.get(view, view))
            if view in ("Graph", "Map"):
                page.get_by_role("button", name=view).click()
            if view == "Report":
                page.evaluate("location.hash = '#/chaos/abc'")
            if view == "Data":
                page.get_by_text("item", exact=True).first.click()
            if view == "Traces":
                page.get_by_text("POST /pay").first.click()
            page.mouse.move(width - 1, 1)
            page.wait_for_timeout({"Metrics": 40_000, "Services": 12_000 if width > 1000 else 1200}.get(view, 1200))
            page.screenshot(path=into / f"{view.lower()}-{width}-{scheme}.png")
            page.context.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
