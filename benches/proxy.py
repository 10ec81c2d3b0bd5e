#!/usr/bin/env python3
"""What the proxy of a fault costs: added latency and throughput against the direct path and against toxiproxy, in one run.

    benches/proxy.py --binary target/release/devenv [--rounds 6] [--toxiproxy PATH] [--json FILE]

All paths lead to the same Redis, and are measured in turns of fifty questions in an order drawn anew each time. The direct connection and
those of toxiproxy are made before the fault is injected, which leaves connections that exist alone. toxiproxy is built from its Go module
once, listens on loopback only, and has to be given its own port, which is what devenv's redirect is there to avoid.
"""
import argparse, contextlib, json, os, random, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from corner import Corner, Machine, cpu_seconds, free_port, quantile, sh, until
from heal import World

TOXIPROXY = "github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0"
PROFILE = """\
services:
  cache:
    redis: { persistence: { aof: never, rdb: never } }
"""
TURN, TURNS = 50, 24
LARGE, LARGE_TURNS = 1 << 20, 12


class Connection:
    def __init__(self, address, port):
        self.stream = socket.create_connection((address.hostname, port), timeout=20)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.stream.makefile("rb", buffering=1 << 16)
        self.ask(b"AUTH default %s\r\n" % address.password.encode())

    def ask(self, words):
        self.stream.sendall(words)
        return self.reader.readline()

    def round_trips(self, count):
        times = []
        for _ in range(count):
            began = time.perf_counter()
            self.ask(b"PING\r\n")
            times.append((time.perf_counter() - began) * 1e6)
        return times

    def megabytes_a_second(self):
        began = time.perf_counter()
        length = int(self.ask(b"GET large\r\n")[1:])
        self.reader.read(length + 2)
        return length / 1e6 / (time.perf_counter() - began)

    def close(self):
        self.reader.close()
        self.stream.close()


class Toxiproxy:
    def __init__(self, program, upstream):
        self.api, self.ports, self.upstream = free_port(), {}, upstream
        self.process = subprocess.Popen([str(program), "-host", "127.0.0.1", "-port", str(self.api)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("toxiproxy answers", lambda: self.call("GET", "/version") is not None, 20)

    def call(self, method, path, body=None):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.api}{path}", data=data, method=method)
        with contextlib.suppress(ConnectionError), urllib.request.urlopen(request, timeout=5) as reply:
            return reply.read()

    def proxy(self, name, latency=None):
        self.ports[name] = free_port()
        self.call("POST", "/proxies", {"name": name, "listen": f"127.0.0.1:{self.ports[name]}", "upstream": self.upstream, "enabled": True})
        if latency is not None:
            for stream in ("upstream", "downstream"):
                self.call("POST", f"/proxies/{name}/toxics", {"type": "latency", "stream": stream, "attributes": {"latency": latency}})
        return self.ports[name]

    def close(self):
        self.process.terminate()
        self.process.wait()


def toxiproxy_binary():
    directory = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "devenv-bench" / "toxiproxy"
    binary = directory / "server"
    if not binary.exists() and shutil.which("go"):
        print(f"building {TOXIPROXY} into {directory}, a few minutes once", flush=True)
        sh(["go", "install", TOXIPROXY], timeout=1800, env=dict(os.environ, GOBIN=str(directory)))
    return binary if binary.exists() else None


def compare(paths, figures):
    for _ in range(TURNS):
        for name in random.sample(list(paths), len(paths)):
            figures.setdefault(name, {"us": [], "mbs": []})["us"] += paths[name].round_trips(TURN)
    for _ in range(LARGE_TURNS):
        for name in random.sample(list(paths), len(paths)):
            figures[name]["mbs"].append(paths[name].megabytes_a_second())


def milliseconds(work):
    began = time.perf_counter()
    result = work()
    return (time.perf_counter() - began) * 1000, result


def idle(corner, world):
    """An environment in which nothing is broken: what of ours is there, and what the daemon does meanwhile."""
    time.sleep(3)
    before, began = cpu_seconds(corner.daemon()), time.monotonic()
    time.sleep(10)
    used = (cpu_seconds(corner.daemon()) - before) / (time.monotonic() - began)
    return {"holders": len(world.holders()), "rules": [one for one in world.left("cache") if one.startswith("rules")], "daemon_share_of_a_core": round(used, 4)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=Path(__file__).resolve().parent.parent / "target/release/devenv")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--toxiproxy", type=Path, help="a toxiproxy server that is there already")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    program = options.toxiproxy or toxiproxy_binary()
    machine, figures, injected, healed, toxic_on, toxic_off = Machine(), {}, [], [], [], []
    variants = {"devenv, 0 ms": ["delay=0ms"], "devenv, not hit": ["delay=50ms", "probability=0.01%"]}
    with Corner(options.binary, {"profiles/proxy.yaml": PROFILE}) as corner, contextlib.ExitStack() as stack:
        corner.run("up", "proxy")
        world, address = World(corner), urlsplit(corner.environment()["REDIS_URL"])
        quiet = idle(corner, world)
        direct = Connection(address, address.port)
        direct.stream.sendall(b"*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n$%d\r\n" % LARGE + b"x" * LARGE + b"\r\n")
        direct.reader.readline()
        fixed = {"direct": direct}
        if program:
            toxiproxy = Toxiproxy(program, f"127.0.0.1:{address.port}")
            stack.callback(toxiproxy.close)
            fixed["toxiproxy, no toxic"] = Connection(address, toxiproxy.proxy("plain"))
            fixed["toxiproxy, 0 ms"] = Connection(address, toxiproxy.proxy("zero", 0))
        for _ in range(options.rounds):
            for name, settings in variants.items():
                words = [word for setting in settings for word in ("--set", setting)]
                corner.run("chaos", "inject", "latency", "cache", "--for", "120s", *words, ok=None)
                through = Connection(address, address.port)
                compare({**fixed, name: through}, figures)
                through.close()
                corner.run("chaos", "heal")
            took, _ = milliseconds(lambda: corner.run("chaos", "inject", "latency", "cache", "--for", "60s", "--set", "delay=20ms"))
            injected.append(took)
            healed.append(milliseconds(lambda: corner.run("chaos", "heal"))[0])
            if program:
                body = {"name": "slow", "type": "latency", "attributes": {"latency": 20}}
                toxic_on.append(milliseconds(lambda: toxiproxy.call("POST", "/proxies/plain/toxics", body))[0])
                toxic_off.append(milliseconds(lambda: toxiproxy.call("DELETE", "/proxies/plain/toxics/slow"))[0])
    base = figures["direct"]
    rows = {}
    print(f"{'path':22} {'p50 us':>8} {'p99 us':>8} {'added p50':>10} {'added p99':>10} {'MB/s':>8}")
    for name, figure in figures.items():
        p50, p99, speed = quantile(figure["us"], 0.5), quantile(figure["us"], 0.99), quantile(figure["mbs"], 0.5)
        rows[name] = {"p50_us": p50, "p99_us": p99, "added_p50_us": p50 - quantile(base["us"], 0.5), "added_p99_us": p99 - quantile(base["us"], 0.99), "mb_s": speed, "n": len(figure["us"])}
        print(f"{name:22} {p50:8.0f} {p99:8.0f} {rows[name]['added_p50_us']:10.0f} {rows[name]['added_p99_us']:10.0f} {speed:8.0f}")
    spans = {"inject, witnessed": injected, "heal": healed, "toxiproxy: toxic on": toxic_on, "toxiproxy: toxic off": toxic_off}
    for name, times in spans.items():
        if times:
            print(f"{name:22} median {quantile(times, 0.5):7.1f} ms, max {max(times):7.1f} ms (n={len(times)})")
    print(f"idle: {quiet}; {machine.describe()}" + ("" if program else "; toxiproxy could not be had"))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine.describe(), "paths": rows, "spans_ms": spans, "idle": quiet}, indent=1))
    sys.exit(0 if program else 1)


if __name__ == "__main__":
    main()
