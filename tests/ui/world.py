"""A devenv of its own, with an environment of host processes, and its page in a browser. Nothing of it is left."""
import contextlib, json, os, shutil, subprocess, tempfile, time
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
# The tests run it in directories of their own.
BINARY = Path(os.environ.get("DEVENV", ROOT / "target/debug/devenv")).resolve()
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "devenv-setup"
AXE = next(iter(sorted(CACHE.glob("npm/axe-core-*/package/axe.min.js"))), None)

# In milliseconds: what takes longer does not come, even on a machine that does something else.
PATIENCE = 120_000

RUN = "document.title='owned'"
# What must never run or change the page, wherever it comes from.
HOSTILE = [
    # Markup, and ways out of attributes and elements.
    f"<img src=x onerror={RUN}>", f"<script>{RUN}</script>", f"\"><svg onload={RUN}>", f"'><body onload={RUN}>", f"<svg><script>{RUN}</script></svg>", f"<iframe srcdoc=\"<script>parent.{RUN}</script>\"></iframe>",
    f"<details open ontoggle={RUN}>x</details>", f"<input autofocus onfocus={RUN}>", f"<video><source onerror={RUN}></video>", f"<math><mtext><img src=x onerror={RUN}></mtext></math>", f"<a href=javascript:{RUN}>x</a>",
    f"<form action=javascript:{RUN}><button autofocus>x</button></form>", f"<object data=\"data:text/html,<script>{RUN}</script>\"></object>", f"<style>@import'javascript:{RUN}';*{{display:none}}</style>", "<base href=https://evil.example/>",
    "<meta http-equiv=refresh content=\"0;url=https://evil.example/\">", "<link rel=stylesheet href=https://evil.example/x.css>", f"</textarea></title></style><script>{RUN}</script>", "<!--", f"]]><script>{RUN}</script>", "<marquee>x</marquee><b>x</b>",
    f"<template><script>{RUN}</script></template>", f"<x tabindex=1 onfocus={RUN} style=position:fixed;inset:0>x</x>", f"<IMG SRC=x ONERROR={RUN}//", f"<svg/onload={RUN}>",
    # Links.
    f"javascript:{RUN}", f"JaVaScRiPt:{RUN}", f"java\tscript:{RUN}", f"data:text/html,<script>{RUN}</script>", f"http://x/\"onmouseover=\"{RUN}", "//evil.example/x", "../../../etc/passwd", "%2e%2e%2f%00", "#/services?environment=x&filter=y",
    # Templates and expressions.
    f"${{{RUN}}}", f"'-({RUN})-'", "{{constructor.constructor('document.title=`owned`')()}}", f"`;{RUN};`", "<%= 7 * 7 %>", "&lt;b&gt;&#60;script&#62;",
    # Names with a meaning in the language of the page, and data that looks like such.
    "__proto__", "constructor", '{"__proto__": {"polluted": true}, "message": "x"}', '{"message": {"toString": 1}, "msg": ["x"]}', "[[[[[[[[" * 200,
    # Marks of direction, control characters, sequences of terminals and spreadsheets, and lengths.
    "\u202eabc\u0000\u001b]0;owned\u0007", "\u2066\u2067\u200f\u202dright\u202e to left", "\u001b]8;;https://evil.example\u0007x\u001b]8;;\u0007\u001b[2J\u001b[31;1mred\u009b31m", "=cmd|' /C calc'!A0,\"\r\n@SUM(1)", "W" * 20_000 + "\u0301" * 500,
]

PROFILE = """\
services:
  store:
    process: { command: [python3, -u, store.py] }
    probe: { log: ready }
  web:
    process: { command: [python3, web.py], port: 0 }
    probe: { http: { path: / } }
    depends_on: { store: ready }
  once:
    process: { command: ["true"] }
"""
STORE = """import sys, time
print('ready', flush=True)
print('{"level": "error", "message": "json line", "user": 7}', flush=True)
print('\\x1b[31mred\\x1b[0m and \\x1b]0;owned\\x07plain', flush=True)
HOSTILE = %r
for text in HOSTILE: print(text, flush=True)
rate = int(open('rate').read()) if __import__('os').path.exists('rate') else 0
n = 0
while True:
    began = time.time()
    if rate: sys.stdout.write(''.join(f'line {n + i} of many, of a length that is common in logs of services\\n' for i in range(rate // 20))); n += rate // 20
    else: print('tock', n, flush=True); n += 1
    sys.stdout.flush()
    time.sleep(max(0, (0.05 if rate else 0.5) - (time.time() - began)))
""" % HOSTILE
WEB = """import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b'ok')
    def log_message(self, *a): pass
http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()
"""


class World:
    def __init__(self, files=None):
        self.root = Path(tempfile.mkdtemp(prefix="devenv-ui-"))
        for name, text in {"profiles/p.yaml": PROFILE, "store.py": STORE, "web.py": WEB, **(files or {})}.items():
            path = self.root / "project" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.variables = {**os.environ, "DEVENV_STATE_DIR": str(self.root / "state"), "DEVENV_RUNTIME_DIR": str(self.root / "run")}

    def run(self, *words, check=True):
        done = subprocess.run([BINARY, *words], cwd=self.root / "project", env=self.variables, capture_output=True, text=True, timeout=300)
        assert not check or done.returncode == 0, f"devenv {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words):
        return json.loads(self.run(*words, "--json"))

    def service(self, name):
        return next(one for one in self.json("status")["services"] if one["name"] == name)

    def until(self, what, holds, seconds=120):
        deadline = time.time() + seconds
        while not holds():
            assert time.time() < deadline, f"never: {what}"
            time.sleep(0.1)

    def start(self, *words):
        return subprocess.Popen([BINARY, *words], cwd=self.root / "project", env=self.variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def close(self):
        self.run("down", "--all", "--volumes", check=False)
        self.run("daemon", "stop", check=False)
        shutil.rmtree(self.root, ignore_errors=True)


@contextlib.contextmanager
def world(files=None, up=True):
    it = World(files)
    try:
        if up:
            it.run("up", "p")
        yield it
    finally:
        it.close()


@contextlib.contextmanager
def browser():
    with sync_playwright() as play:
        it = play.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--disable-gpu", "--no-first-run"])
        try:
            yield it
        finally:
            it.close()


def patiently(load):
    """Loads again what the browser gives up because an interface of the machine comes or goes, as those of containers do."""
    for attempt in range(20):
        try:
            return load()
        except Error as error:
            if "ERR_NETWORK_CHANGED" not in str(error) or attempt == 19:
                raise
            time.sleep(0.3)


@contextlib.contextmanager
def page_of(world, browser, allowed=(), **options):
    """The page, opened. Fails if anything ran that should not, or if the page reports an error that is not allowed."""
    served = []

    def opened(page):
        # The token in an address is good once, so each attempt has its own.
        ui = world.start("ui", "--no-open", "--json")
        served.append(ui)
        page.goto(json.loads(ui.stdout.readline())["url"])

    context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
    context.set_default_timeout(PATIENCE)
    context.set_default_navigation_timeout(PATIENCE)
    page = context.new_page()
    faults = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: faults.append("a dialog of the browser"))
    try:
        patiently(lambda: opened(page))
        reload = page.reload
        page.reload = lambda **options: patiently(lambda: reload(**options))
        page.get_by_role("navigation", name="Views").wait_for()
        yield page
        assert "owned" not in page.title(), "markup ran"
        # The browser's own complaint about interfaces of the machine that come and go, as those of containers do.
        bad = [fault for fault in faults if not any(word in fault for word in (*allowed, "ERR_NETWORK_CHANGED"))]
        assert not bad, bad[:3]
    finally:
        context.close()
        for ui in served:
            ui.terminate()
            ui.wait()
            ui.stdout.close()


def go(page, name):
    page.get_by_role("navigation", name="Views").get_by_role("link", name=name, exact=True).click()
    page.get_by_role("heading", name=name, exact=True, level=1).wait_for()


VIEWS = ["Services", "Logs", "Events", "Traces", "Metrics", "Data", "Topics", "Chaos", "Operations", "Environments"]


def pretend(page, text="plain"):
    """Answers for services that this environment does not have; `text` is in every name and value."""
    item = lambda name, kind, **more: {"name": name, "kind": kind, "detail": text, **more}
    groups = [
        {"name": "app", "kind": "database", "items": [item("public.item", "table", rows=501), item("audit." + text, "table", rows=3)], "more": True},
        {"name": "0", "kind": "keys", "items": [item("session:" + text, "key", bytes=12)], "more": False},
        {"name": "topics", "kind": "topics", "items": [item("orders", "topic", rows=4, bytes=4096), item(text, "topic", rows=1)], "more": False},
        {"name": "groups", "kind": "consumer-groups", "items": [item("billing", "consumer-group"), item(text, "consumer-group")], "more": False},
        {"name": "files", "kind": "buckets", "items": [item("uploads", "bucket", bytes=99)], "more": False},
    ]
    span = lambda id, parent, name, begin, length, **more: {"id": id, "parent": parent, "service": "checkout " + text, "operation": name, "start_us": 1764370800000000 + begin, "duration_us": length, "error": False, "tags": {"http.url": text}, **more}
    trace = {"id": "5b8efff798038103d269b633813fc60c", "start_us": 1764370800000000, "duration_us": 90000, "spans": [span("a", None, "POST /pay", 0, 90000), span("b", "a", "charge " + text, 10000, 60000, error=True), span("c", "b", "insert", 20000, 9000, service="bank " + text)]}
    rows = lambda body: {"columns": [{"name": name} for name in ("topic", "partition", "committed", "end", "lag")], "rows": [["orders", "0", "3", "7", "4"], [text, "1", "0", "0", "0"]], "more": False} if body["item"] in ("billing", text) and body["group"] == "groups" else {
        "columns": [{"name": "id", "type": "int4"}, {"name": "name " + text, "type": text}, {"name": "note"}], "rows": [[str(n), f"item {n}", text if n % 3 else None] for n in range(100)], "more": True, "message": text}
    count = iter(range(10**6))
    answers = {
        "data/outline": lambda body: {"groups": groups} if body["service"] == "store" else {"error": {"code": "usage", "message": "holds nothing"}},
        "data/rows": rows,
        "ledger": lambda body: {"entries": [{"service": "store", "database": "app", "path": "db/01.sql", "checksum": "a" * 64, "mode": "once", "state": "changed", "applied_at": "2026-11-28T10:00:00Z", "duration_ms": 12}]},
        "ledger/changes": lambda body: changes(text),
        "data/query": lambda body: {"error": {"code": "failed", "message": "cannot execute DELETE in a read-only transaction " + text}},
        "traces": lambda body: {"services": ["checkout", text], "traces": [trace]},
        "metrics": lambda body: {"samples": [{"service": "store", "name": name, "labels": {"state": label}, "value": next(count) * factor} for name, factor in (("cpu_seconds_total", 0.1), ("memory_bytes", 2**20), ("connections", 1)) for label in ("one", text)]},
    }
    for path, answer in answers.items():
        page.route(f"**/api/v1/environment/{path}", answering(answer))
    scenarios = [{"name": "outage", "built_in": False, "profile": "p", "description": "The store stops " + text, "faults": [{"id": "cut", "fault": "stop", "on": text}], "workloads": ["jobs"], "checks": ["jobs.lost " + text], "deadline_ms": 60_000},
                 {"name": text, "built_in": True, "profile": text, "description": None, "faults": [], "workloads": [], "checks": [], "deadline_ms": None, "problem": text}]
    kept = [{"run": run, "scenario": name, "seed": 7, "project": text, "instance": text, "began_at": "2026-11-28T10:00:00Z", "pid": 1, "state": state, **more} for run, name, state, more in (
        ("abc", "outage", "completed", {"end": {"at": "2026-11-28T10:00:09Z", "verdict": "fail", "healed": False, "reason": text}}), ("def", text, "running", {"last": text}), ("ghi", text, "interrupted", {}))]
    alert = {"state": "firing", "since": "2026-11-28T10:00:00Z", "value": text, "labels": {"service": text}, "summary": "the store is down " + text}
    rules = [{"group": text, "name": name, "expression": "up == 0 " + text, "for_s": 10, "state": state, "labels": {text: text}, "summary": text, "alerts": alerts} for name, state, alerts in (("StoreDown", "firing", [alert]), (text, "inactive", []))]
    past = lambda body: [{"service": "store", "name": name, "labels": {"state": label}, "times": [1764370800 + 15 * n for n in range(240)], "values": [n % 40 + 1 for n in range(240)]} for name in body["names"] for label in ("one", text)]
    more = {"chaos/scenarios": lambda _: {"scenarios": scenarios}, "chaos/runs": lambda _: {"runs": kept, "asked": {"scenario": text, "is_running": False, "error": {"message": text, "hint": text}}},
            "chaos/report": lambda body: {"report": report(text), "html": text if body.get("html") else None}, "metrics/alerts": lambda _: rules, "metrics/history": past}
    for path, answer in more.items():
        page.route(f"**/api/{path}", answering(answer))


def changes(text):
    """Of a script with a changed line, an added one, and another place where nothing is known."""
    line = lambda change, applied, present, what: {"change": change, "applied": applied, "present": present, "text": what}
    lines = [line("same", 1, 1, "create table item (" + text), line("removed", 2, None, "  id int"), line("added", None, 2, "  id bigint"), line("same", 3, 3, ");"), line("added", None, 4, text)]
    return {"scripts": [{"service": "store", "database": "app", "path": "db/01.sql", "checksum": "a" * 64, "lines": lines}, {"service": text, "path": "db/01.sql", "checksum": "b" * 64, "lines": [], "incomplete": "the text that was applied is not known " + text}]}


def report(text):
    """Of a run: 12 s with a fault from 3 s to 6 s."""
    event = lambda second, kind, at: {"sequence": second + 1, "time": f"2026-11-28T10:00:{second:02}.000000Z", "environment": text, "kind": kind, "message": text, "data": {"at_ms": at}}
    fault = {"id": "cut", "fault": "stop " + text, "service": text, "parameters": {text: text}, "injected_at": "2026-11-28T10:00:05.000000Z", "healed_at": "2026-11-28T10:00:08.000000Z", "witness": {"observed": True, "what": "nothing answers " + text, "after_ms": 12}}
    workload = {"name": "jobs " + text, "kind": text, "service": text, "attempted": 1200, "acknowledged": 900, "failed": 300, "unknown": 0, "p50_ms": 0.4, "p99_ms": 40.0,
                "tenths": [[0, 10] if 50 <= n < 80 else [10, 0] for n in range(120)], "latency_ms": [None if 50 <= n < 80 else [0.4, 90.0 if n == 80 else 2.0] for n in range(120)]}
    return {"scenario": "outage", "seed": 7, "verdict": "fail", "healed": True, "reason": "3 jobs were lost " + text, "timeline": [event(0, "run.began", -2000), event(2, "timeline.began", 0), event(12, text, 10_000)], "faults": [fault],
            "checks": [{"name": "jobs.lost " + text, "verdict": "fail", "detail": "3 of 900 " + text, "figures": {}}], "recovery": [{"fault": "cut", "service": text, "fault_at": "2026-11-28T10:00:05.000000Z", "first_error_ms": 3.2, "heal_ms": 3000, "ready_ms": 3100, "ok_ms": 3200}],
            "workloads": [workload], "prober_period_ms": 20, "about": {"description": "The store stops " + text, "began_at": "2026-11-28T10:00:00.000000Z", "ended_at": "2026-11-28T10:00:12.000000Z", "project": text, "instance": text, "profile": text, "devenv": text, "services": [{"name": text, "kind": text, "image": text}]}}


def answering(answer):
    return lambda route: route.fulfill(status=200, content_type="application/json", body=json.dumps(answer(route.request.post_data_json)))


def pretend_all(page, text):
    """An environment in which everything that has a name has this one."""
    service = {"name": text, "kind": text, "state": text, "reason": text, "restarts": 3, "image": text, "container": text, "ports": [{"container": 1, "host": 2, "address": text}], "urls": {text: text, "x": "javascript:" + text, "y": "http://x/" + text}, "depends_on": {text: text}}
    event = lambda n: {"sequence": n, "time": "2026-11-28T10:00:00.000000Z", "service": text, "kind": text, "message": text, "data": {"cause": n - 1}}
    fault = {"id": text, "fault": text, "service": text, "parameters": {text: text}, "injected_at": text, "heals_at": text, "witness": {"observed": True, "what": text}}
    status = {"environment": text, "project": text, "instance": text, "profile": text, "phase": text, "services": [service, {**service, "name": "store", "state": "ready"}], "faults": [fault], "operations": []}
    operation = {"id": text, "kind": text, "state": "running", "environment": text, "asked_at": text, "asked_by": {"command": text}, "message": text, "progress": {"done": 1, "total": 2, "unit": text}}
    live = "".join(f"event: {kind}\nid: {n}\ndata: {json.dumps(data)}\n\n" for n, (kind, data) in enumerate([("status", status), ("operation", operation), *(("event", event(n)) for n in (1, 2, 3))]))
    lines = "".join(json.dumps({"time": f"2026-11-28T10:00:0{n}.000000Z", "service": text, "stream": "stdout", "text": line, "run": 1}) + "\n" for n, line in enumerate((text, json.dumps({"message": text, text: text}), f"\u001b[31m{text}\u001b[0m")))
    pretend(page, text)
    page.route("**/api/live", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=live))
    page.route("**/api/logs", lambda route: route.fulfill(status=200, content_type="application/x-ndjson", body=lines))
    answers = {"v1/environments": [status], "v1/environment/why": {"events": [event(n) for n in range(12)]}, "variables": {"variables": {text: {"value": text, "secret": False}, "x": {"value": text, "secret": True}}},
               "v1/environment/snapshots": {"snapshots": [{"name": text, "created_at": text, "services": [{"name": text}], "size": 1}]}, "v1/environment/backups": {"backups": [{"id": text, "created_at": text, "services": [{"service": text, "skipped": text}], "size": 1}]},
               "v1/environments/usage": [{"environment": text, "memory": 5 * 2**20, "volumes": None, "files": 2**20}], "v1/environment/ledger/changes": changes(text),
               "v1/environment/ledger": {"entries": [{"service": text, "database": text, "path": text, "state": "changed", "error": text}]}, "v1/environment/chaos/status": {"faults": [{**fault, "healed_at": text}]},
               "faults": {"faults": [{"name": text, "about": text, "undone_by": text, "parameters": [{"name": text, "form": text, "about": text}]}]}}
    for path, answer in answers.items():
        page.route(f"**/api/{path}", answering(lambda body, answer=answer: answer))
