#!/usr/bin/env python3
"""Hot reload, measured: how long a save takes to become a new process, how many requests it costs, how many log lines.

    benches/reload.py [--binary target/release/devenv] [--rounds 30] [--reloads 200] [--restarts 100]

Beside watchexec on the same command in the same run, if it is installed. Each figure is printed as one line of JSON.
"""
import argparse, http.client, json, os, re, shutil, signal, statistics, subprocess, sys, tempfile, threading, time, urllib.request
from pathlib import Path

SERVER = '''\
import http.server, os
VERSION = b"0"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", str(len(VERSION))); self.end_headers(); self.wfile.write(VERSION)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
'''
# Says when it runs, without the time that an interpreter of this size takes to start.
STAMP = "#!/bin/sh\n# {}\necho started $(date +%s.%N)\nexec sleep 1000\n"


class Project:
    """A project of its own with a daemon of its own."""

    def __init__(self, binary, profile, files):
        self.root = Path(tempfile.mkdtemp(prefix="devenv-bench-"))
        self.project = self.root / "project"
        self.environment = dict(os.environ, DEVENV_STATE_DIR=str(self.root / "state"), DEVENV_RUNTIME_DIR=str(self.root / "run"), NO_COLOR="1")
        self.binary = str(Path(binary).resolve())
        for name, text in {"profiles/default.yaml": profile, **files}.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def run(self, *arguments):
        done = subprocess.run([self.binary, *arguments], cwd=self.project, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"devenv {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def __enter__(self):
        self.run("up")
        return self

    def __exit__(self, *_):
        self.run("down", "--volumes")
        self.run("daemon", "stop")
        shutil.rmtree(self.root, ignore_errors=True)


def told(**figures):
    print(json.dumps(figures), flush=True)


def percentiles(delays):
    delays = sorted(delays)
    return {"p50_ms": round(statistics.median(delays), 1), "p95_ms": round(delays[int(len(delays) * 0.95) - 1], 1), "rounds": len(delays)}


def stamps_of(stream, into):
    for line in stream:
        if found := re.search(r"started (\d+\.\d+)", line):
            into.append(float(found[1]))


def saves(path, stamps, rounds):
    """From each save to the first word of the process that follows it."""
    delays = []
    for turn in range(rounds):
        seen, began = len(stamps), time.time()
        path.write_text(STAMP.format(f"{turn} {began}"))
        end = began + 10
        while len(stamps) == seen and time.time() < end:
            time.sleep(0.002)
        if len(stamps) == seen:
            sys.exit("a save was not answered")
        delays.append((stamps[seen] - began) * 1000)
        time.sleep(0.3)
    return delays


def save_to_process(binary, rounds):
    profile = 'services:\n  api:\n    process: { command: [sh, app/run.sh] }\n    probe: { log: started }\n    stop: { grace: 1s }\n    watch: [{ paths: [app], on_change: restart }]\n'
    with Project(binary, profile, {"app/run.sh": STAMP.format("")}) as project:
        stamps = []
        logs = subprocess.Popen([project.binary, "logs", "-f", "api"], cwd=project.project, env=project.environment, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=stamps_of, args=(logs.stdout, stamps), daemon=True).start()
        time.sleep(0.5)
        told(measure="save to new process", tool="devenv", **percentiles(saves(project.project / "app/run.sh", stamps, rounds)))
        logs.kill()
        watchexec = shutil.which("watchexec")
        if not watchexec:
            return told(measure="save to new process", tool="watchexec", missing="not installed: cargo install watchexec-cli")
        stamps = []
        for extra in ([], ["--debounce", "20ms"]):
            stamps.clear()
            command = [watchexec, "--watch", "app", "--restart", *extra, "--", "sh", "app/run.sh"]
            peer = subprocess.Popen(command, cwd=project.project, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            threading.Thread(target=stamps_of, args=(peer.stdout, stamps), daemon=True).start()
            time.sleep(1)
            told(measure="save to new process", tool=" ".join(["watchexec", *extra]), **percentiles(saves(project.project / "app/run.sh", stamps, rounds)))
            peer.send_signal(signal.SIGTERM)
            peer.wait()


def under_load(binary, how, reloads, rate=200):
    profile = f'services:\n  api:\n    process: {{ command: [python3, app/server.py], port: 0 }}\n    probe: {{ http: {{ path: / }} }}\n    watch: [{{ paths: [app], on_change: {how} }}]\n'
    with Project(binary, profile, {"app/server.py": SERVER}) as project:
        url = json.loads(project.run("env", "--format", "json"))["API_URL"]
        answered, failed, served, stop, lock = [0], [0], [b"0"], threading.Event(), threading.Lock()

        def load(share):
            due = time.monotonic()
            while not stop.is_set():
                due += share
                time.sleep(max(0, due - time.monotonic()))
                try:
                    with urllib.request.urlopen(url, timeout=30) as reply:
                        served[0] = reply.read()
                    good = True
                except (OSError, http.client.HTTPException):
                    good = False
                with lock:
                    (answered if good else failed)[0] += 1

        threads = [threading.Thread(target=load, args=(8 / rate,), daemon=True) for _ in range(8)]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        for turn in range(1, reloads + 1):
            (project.project / "app/server.py").write_text(SERVER.replace('b"0"', f'b"{turn}"'))
            # The next save comes when this one is served.
            end = time.monotonic() + 30
            while served[0] != str(turn).encode():
                if time.monotonic() > end:
                    sys.exit(f"save {turn} was not answered: {project.run('events')[-800:]}")
                time.sleep(0.01)
            time.sleep(0.1)
        took = time.monotonic() - began
        stop.set()
        for thread in threads:
            thread.join()
        told(measure="reloads under load", on_change=how, reloads=reloads, answered=answered[0], failed=failed[0], requests_per_s=round((answered[0] + failed[0]) / took), seconds=round(took))


def log_lines(binary, restarts, lines=10_000):
    talk = f'import sys, time\nrun = time.time_ns()\nsys.stdout.write("".join(f"{{run}} {{i}}\\n" for i in range({lines})))\nprint("end", flush=True)\ntime.sleep(1000)\n'
    profile = "services:\n  api:\n    process: { command: [python3, app/talk.py] }\n    probe: { log: end }\n"
    with Project(binary, profile, {"app/talk.py": talk}) as project:
        began = time.monotonic()
        for _ in range(restarts):
            project.run("restart", "api")
        took = time.monotonic() - began
        # History is kept to a size; what is kept must be whole and in order.
        runs = {}
        for line in project.run("logs", "api").splitlines():
            if found := re.search(r"(\d{15,}) (\d+)$", line):
                runs.setdefault(found[1], []).append(int(found[2]))
        whole = [numbers for numbers in runs.values() if numbers == list(range(lines))]
        kept = sum(map(len, runs.values()))
        oldest = next(iter(runs.values()))
        # The oldest may have been rotated away in part, from its beginning.
        broken = len(runs) - len(whole) - (oldest not in whole and oldest == list(range(lines - len(oldest), lines)))
        told(measure="log lines through restarts", restarts=restarts, lines_each=lines, written=lines * (restarts + 1), kept=kept, runs_whole=len(whole), runs_broken=broken, seconds=round(took, 1))

    rate = f'import sys, time\nline = "x" * 80\nbegan = time.time()\nfor second in range(30):\n    sys.stdout.write("".join(f"{{second * 10000 + i}} {{line}}\\n" for i in range(10000)))\nsys.stdout.flush()\nprint("end", time.time() - began, flush=True)\ntime.sleep(1000)\n'
    with Project(binary, profile, {"app/talk.py": rate}) as project:
        seconds = float(re.search(r"end (\d+\.\d+)", project.run("logs", "--grep", "^end", "api"))[1])
        told(measure="log throughput", lines=300_000, lines_per_s=round(300_000 / seconds))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--reloads", type=int, default=200)
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("measure", nargs="*", help="save, swap, restart, logs; default: all")
    options = parser.parse_args()
    measures = {
        "save": lambda: save_to_process(options.binary, options.rounds),
        "swap": lambda: under_load(options.binary, "swap", options.reloads),
        "restart": lambda: under_load(options.binary, "restart", options.reloads),
        "logs": lambda: log_lines(options.binary, options.restarts),
    }
    for name in options.measure or measures:
        measures[name]()


if __name__ == "__main__":
    main()
