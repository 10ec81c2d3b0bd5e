#!/usr/bin/env python3
"""Hot reload, measured: how long a save takes to become a new process, how many requests it costs, how many log lines,
what a large project costs, and what a daemon that dies in the middle leaves.

    benches/reload.py [--binary target/release/devenv] [--rounds 30] [--reloads 200] [--restarts 100] [--kills 50] [--files 100000]

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



def log_rate(binary, restarts, rate=100_000, seconds=2):
    """A steady rate through restarts, checked line by line as it is followed: history is kept to a size, a follower sees all."""
    talk = f'''\
import os, sys, time
rate, run, tick = {rate}, time.time_ns(), 100
piece, line, due = rate // tick, 0, time.monotonic()
print("serving", run, flush=True)
for _ in range({seconds} * tick):
    sys.stdout.write("".join(f"{{run}} {{line + i}}\\n" for i in range(piece)))
    sys.stdout.flush()
    line += piece
    due += 1 / tick
    time.sleep(max(0, due - time.monotonic()))
print("end", run, line, time.monotonic() - due + {seconds}, flush=True)
time.sleep(1000)
'''
    profile = "services:\n  api:\n    process: { command: [python3, app/talk.py] }\n    probe: { log: \"^end\" }\n"
    expected = rate * seconds
    with Project(binary, profile, {"app/talk.py": talk}) as project:
        runs, rates, trouble, done = {}, [], [], threading.Event()
        follower = subprocess.Popen([project.binary, "logs", "-f", "api"], cwd=project.project, env=project.environment, stdout=subprocess.PIPE, text=True)

        def read():
            for text in follower.stdout:
                words = text.split()[-4:]
                if len(words) >= 4 and words[-4] == "end":
                    rates.append(int(words[-2]) / float(words[-1]))
                    if len(rates) == restarts + 1:
                        done.set()
                elif len(words) >= 2 and words[-2].isdigit() and words[-1].isdigit():
                    run, line = words[-2:]
                    if (wanted := runs.get(run, 0)) != int(line):
                        trouble.append(f"run {run}: {line} where {wanted} was due")
                    runs[run] = int(line) + 1

        threading.Thread(target=read, daemon=True).start()
        began = time.monotonic()
        for _ in range(restarts):
            project.run("restart", "api")
        done.wait(60)
        took = time.monotonic() - began
        follower.kill()
        told(measure="log lines at a steady rate through restarts", restarts=restarts, written=expected * (restarts + 1), followed=sum(runs.values()),
             runs_whole=sum(count == expected for count in runs.values()), out_of_place=len(trouble), first_trouble=trouble[:1],
             lines_per_s_p50=round(statistics.median(rates)) if rates else None, seconds=round(took, 1))


def log_peak(binary):
    profile = "services:\n  api:\n    process: { command: [python3, app/talk.py] }\n    probe: { log: end }\n"
    rate = f'import sys, time\nline = "x" * 80\nbegan = time.time()\nfor second in range(30):\n    sys.stdout.write("".join(f"{{second * 10000 + i}} {{line}}\\n" for i in range(10000)))\nsys.stdout.flush()\nprint("end", time.time() - began, flush=True)\ntime.sleep(1000)\n'
    with Project(binary, profile, {"app/talk.py": rate}) as project:
        seconds = float(re.search(r"end (\d+\.\d+)", project.run("logs", "--grep", "^end", "api"))[1])
        told(measure="log throughput", lines=300_000, lines_per_s=round(300_000 / seconds))


PROCESS = """\
services:
  api:
    process: {{ command: [python3, app/server.py], port: 0 }}
    probe: {{ http: {{ path: / }} }}
    stop: {{ grace: 1s }}
    watch: [{{ paths: [app], on_change: {how} }}]
"""


def kills(binary, how, rounds):
    """The daemon is killed at another moment of a reload each time. The next one must serve the newest version, by one process."""
    with Project(binary, PROCESS.format(how=how), {"app/server.py": SERVER}) as project:
        url = json.loads(project.run("env", "--format", "json"))["API_URL"]

        def servers():
            found = []
            for entry in Path("/proc").iterdir():
                try:
                    if entry.name.isdigit() and b"server.py" in (entry / "cmdline").read_bytes() and str(project.root) in os.readlink(entry / "cwd"):
                        found.append(int(entry.name))
                except OSError:
                    pass
            return found

        twins, stale, delays = 0, 0, []
        for turn in range(1, rounds + 1):
            (project.project / "app/server.py").write_text(SERVER.replace('b"0"', f'b"{turn}"'))
            time.sleep(0.6 * turn / rounds)
            os.kill(json.loads(project.run("daemon", "status", "--json"))["pid"], signal.SIGKILL)
            began = time.monotonic()
            project.run("status")
            end, good = began + 30, False
            while not good and time.monotonic() < end:
                try:
                    good = urllib.request.urlopen(url, timeout=2).read() == str(turn).encode()
                except (OSError, http.client.HTTPException):
                    pass
                time.sleep(0.02)
            delays.append((time.monotonic() - began) * 1000)
            stale += not good
            project.run("wait", "--timeout", "20s")
            # An old version that a swap retired ends within its grace.
            end = time.monotonic() + 5
            while len(servers()) != 1 and time.monotonic() < end:
                time.sleep(0.05)
            twins += len(servers()) != 1
        told(measure="daemon killed during a reload", on_change=how, kills=rounds, twins=twins, stale=stale, **percentiles(delays))


def many_files(binary, count):
    """The product's own daemon with one process that watches so many files: until they are watched, and what it weighs."""
    def weight(pid):
        return {key: int(value) for key, value in re.findall(r"(VmRSS|VmHWM):\s+(\d+)", Path(f"/proc/{pid}/status").read_text())}

    with Project(binary, PROCESS.format(how="restart"), {"app/server.py": SERVER}) as project:
        pid = json.loads(project.run("daemon", "status", "--json"))["pid"]
        bare = weight(pid)["VmRSS"]
        project.run("down")
        for index in range(count):
            directory = project.project / f"app/d{index // 1000}/e{index // 20 % 50}"
            if index % 20 == 0:
                directory.mkdir(parents=True, exist_ok=True)
            (directory / f"f{index}.py").write_text(f"x = {index}\n")
        began = time.monotonic()
        project.run("up")
        up = time.monotonic() - began
        watched = [event for line in project.run("events", "--json").splitlines() if (event := json.loads(line))["kind"].startswith("watch.")]
        url = json.loads(project.run("env", "--format", "json"))["API_URL"]
        delays = []
        for turn in range(1, 11):
            path = project.project / f"app/server.py"
            path.write_text(SERVER.replace('b"0"', f'b"{turn}"'))
            began = time.monotonic()
            while True:
                try:
                    if urllib.request.urlopen(url, timeout=2).read() == str(turn).encode():
                        break
                except (OSError, http.client.HTTPException):
                    pass
                if time.monotonic() - began > 60:
                    sys.exit(f"save {turn} was not answered")
                time.sleep(0.01)
            delays.append((time.monotonic() - began) * 1000)
        after = weight(pid)
        time.sleep(2)
        ticks = lambda: sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]))
        before = ticks()
        time.sleep(5)
        told(measure="watched files", files=watched[-1]["data"]["files"], directories=watched[-1]["data"]["directories"], polled=watched[-1]["data"]["polled"],
             up_s=round(up, 2), rss_without_mib=round(bare / 1024, 1), rss_mib=round(after["VmRSS"] / 1024, 1), peak_mib=round(after["VmHWM"] / 1024, 1),
             idle_cpu_percent=round((ticks() - before) / os.sysconf("SC_CLK_TCK") / 5 * 100, 1), limited=[event["message"] for event in watched if event["kind"] == "watch.limited"],
             save_to_served=percentiles(delays))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--reloads", type=int, default=200)
    parser.add_argument("--restarts", type=int, default=100)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("measure", nargs="*", help="save, swap, restart, logs, rate, kills, files; default: all")
    options = parser.parse_args()
    measures = {
        "save": lambda: save_to_process(options.binary, options.rounds),
        "swap": lambda: under_load(options.binary, "swap", options.reloads),
        "restart": lambda: under_load(options.binary, "restart", options.reloads),
        "logs": lambda: (log_lines(options.binary, options.restarts), log_peak(options.binary)),
        "rate": lambda: log_rate(options.binary, options.restarts),
        "kills": lambda: [kills(options.binary, how, options.kills // 2) for how in ("restart", "swap")],
        "files": lambda: many_files(options.binary, options.files),
    }
    for name in options.measure or measures:
        measures[name]()


if __name__ == "__main__":
    main()
