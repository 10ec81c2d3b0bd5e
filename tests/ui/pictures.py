"""Pictures of the page for the documentation (`make pictures`): its files, with the answers of a made-up environment. Needs no engine."""
import http.server, json, sys, threading, time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from world import ROOT, browser, go, pretend

#: View, width, scheme.
WANTED = [("Services", 1280, "light"), ("Services", 1280, "dark"), ("Services", 400, "light"), ("Graph", 1280, "dark"), ("Logs", 1280, "dark"), ("Logs", 400, "dark"), ("Data", 1280, "light"),
          ("Traces", 1280, "light"), ("Chaos", 1280, "dark"), ("Metrics", 2560, "light")]
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


def main(into=ROOT / "docs/pictures"):
    into.mkdir(parents=True, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pretended)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with browser() as it:
        for view, width, scheme in WANTED:
            page = it.new_context(color_scheme=scheme, viewport={"width": width, "height": 1440 if width > 2000 else 720}, timezone_id="UTC").new_page()
            pretend(page, "ledger")
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
            go(page, "Services" if view == "Graph" else view)
            if view == "Graph":
                page.get_by_role("button", name="Graph").click()
            if view == "Data":
                page.get_by_text("item", exact=True).first.click()
            if view == "Traces":
                page.get_by_text("POST /pay").first.click()
            page.mouse.move(width - 1, 1)
            page.wait_for_timeout(10_000 if view == "Metrics" else 1200)
            page.screenshot(path=into / f"{view.lower()}-{width}-{scheme}.png")
            page.context.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
