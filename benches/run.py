#!/usr/bin/env python3
"""Measures the promises, each side by side with what a user would pick instead, in interleaved rounds of one run.

    benches/run.py [--binary PATH] [--only NAME]... [--rounds 5] [--list]

NAME is any part of a figure's name. Prints a table (min / median / max) and writes benches/results.json, with how busy the machine was.
Needs a container engine with the images (scripts/setup images --all) and psql, redis-cli, kcat. Exit status: 0 every figure was
taken, 1 one could not be; a missed goal is told in the table, for a busy machine misses goals too.
"""
import argparse, calendar, datetime, json, random, re, shutil, sys, time
from pathlib import Path

from corner import Corner, Failed, Machine, cpu_seconds, quantile, sh, summary
from peers import ByHand, Compose, compose_binary

HERE = Path(__file__).resolve().parent


class Options:
    binary, rounds, compose, compose_missing = None, 5, None, None


# --- the life of a stack -------------------------------------------------------------------------------------------------

def stack(options, profile):
    """First up on new volumes, an up that has nothing to do, down, up on kept volumes; of devenv, of Compose, and by hand.

    By hand, alone, is the floor of a first up: what the engine and the image's own initialisation take, and a client that asks
    every 10 ms. Compose sees a server at the first of its checks after that, which the engine makes a second apart.
    """
    times = {}

    def note(figure, who, took):
        times.setdefault(figure, {}).setdefault(who, []).append(took)

    def devenv(corner):
        note("up-new", "devenv", corner.timed("up", profile))
        note("up-again", "devenv", corner.timed("up", profile))
        note("down", "devenv", corner.timed("down"))
        note("up-kept", "devenv", corner.timed("up", profile))
        corner.run("down", "--volumes")
        # What any further environment of the project begins with: the volumes are new, and filled from a golden one.
        note("up-new", "devenv, golden volume kept", corner.timed("up", profile))
        corner.run("down", "--volumes")
        corner.run("gc", "--all")
        # The corner's environment, its daemon too, is as it was: warm, and without volumes.
        corner.run("daemon", "start")

    def compose(peer):
        note("up-new", "compose", peer.up())
        peer.answers()
        note("up-again", "compose", peer.up())
        note("down", "compose", peer.down())
        note("up-kept", "compose", peer.up())
        peer.down(volumes=True)

    def by_hand(peer):
        note("up-new", "by hand, slowest", peer.alone())
        note("up-new", "by hand, together", peer.together())
        note("down", "docker stop + rm", peer.stop(volumes=False))
        note("up-kept", "by hand, together", peer.together())
        peer.stop(volumes=True)

    peer, hand = options.compose and Compose(options.compose, profile), ByHand(profile)
    with Corner(options.binary) as corner:
        corner.run("daemon", "start")
        contenders = [lambda: devenv(corner), lambda: by_hand(hand)] + ([lambda: compose(peer)] if peer else [])
        try:
            for number in range(options.rounds):
                # Whoever comes first in one round comes last in another.
                for contender in contenders[number % len(contenders):] + contenders[:number % len(contenders)]:
                    contender()
        finally:
            hand.stop(volumes=True)
            if peer:
                peer.close()
    goals = {
        "up-new": [("by hand, slowest", 1.2)] + ([("compose", 0.5)] if profile == "data" else []),
        "up-kept": [("by hand, together", 1.15)] + ([("compose", 0.5)] if profile == "data" else []),
    }
    return [figure(f"{profile}-{name}", "ms", who, relative=goals.get(name, []), below=3000 if name == "down" else None) for name, who in times.items()]


# --- from truly ready to seen ready ------------------------------------------------------------------------------------

# Sleeps, listens, and says on which microsecond it did; then answers every request.
HOST_SERVER = """\
import http.server, os, sys, time
time.sleep(float(sys.argv[1]))
class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('content-length', '2'); self.end_headers(); self.wfile.write(b'ok')
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), Ok)
print('LISTENING %.6f' % time.time(), flush=True)
server.serve_forever()
"""
# The slim image has Perl without Time::HiRes: 228 is clock_gettime on x86-64, 113 on arm64.
CONTAINER_SERVER = r"""
use IO::Socket::INET; $| = 1; $SIG{PIPE} = 'IGNORE';
select(undef, undef, undef, $ARGV[0]);
my $listener = IO::Socket::INET->new(LocalPort => 8080, Listen => 16, ReuseAddr => 1) or die;
my $time = pack('qq', 0, 0); syscall(`uname -m` =~ /x86/ ? 228 : 113, 0, $time); my ($s, $ns) = unpack('qq', $time);
printf "LISTENING %d.%06d\n", $s, $ns / 1000;
while (my $client = $listener->accept) { sysread $client, my $request, 4096; print $client "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"; close $client; }
"""


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def detection(options):
    """A server's own word for when it was ready, against the time of the `service.ready` event."""
    delays, dice, count = {}, random.Random(4711), 4
    for _ in range(max(2, options.rounds)):
        services = {}
        for number in range(count):
            late = f"{dice.uniform(0.05, 4):.3f}"
            services[f"host-{number}"] = {"process": {"command": [sys.executable, "-c", HOST_SERVER, late], "port": 0}, "probe": {"http": {"path": "/"}}}
            services[f"box-{number}"] = {"container": {"image": "debian:trixie-slim", "command": ["perl", "-e", CONTAINER_SERVER, late], "expose": [8080]}, "probe": {"http": {"path": "/"}}}
        services |= {"db": {"postgres": {}}, "cache": {"redis": {}}}
        # JSON is YAML; `$` is the profile's own sign.
        with Corner(options.binary, {"profiles/late.yaml": json.dumps({"services": services}).replace("$", "$$")}) as corner:
            corner.run("up", "late")
            for _ in range(3):
                corner.run("restart", "db", "cache")
            events = corner.events()
            ready = [(event["service"], moment(event["time"])) for event in events if event["kind"] == "service.ready"]
            said = {}
            for line in map(json.loads, corner.run("logs", "--json").stdout.splitlines()):
                if match := re.search(r"LISTENING ([\d.]+)", line["text"]):
                    said.setdefault(line["service"], []).append(float(match[1]))
                # Redis stamps its lines in the container's time, which is UTC.
                elif match := re.search(r"\d+:M (\d+ \w+ \d+ [\d:]+)\.(\d+) \* Ready to accept connections", line["text"]):
                    said.setdefault("cache", []).append(calendar.timegm(time.strptime(match[1], "%d %b %Y %H:%M:%S")) + int(match[2]) / 1000)
                elif match := re.search(r"^(\S+ \S+) UTC .*database system is ready to accept connections", line["text"]):
                    said.setdefault("db", []).append(moment(match[1] + "+00:00"))
            for service, at in ready:
                # The last word before it was seen: PostgreSQL's first boot says it twice, once too early.
                before = [word for word in said.get(service, []) if word <= at]
                if not before:
                    raise Failed(f"{service} was called ready before it said so: {said.get(service)}, seen {at}")
                name = {"h": "http in a process", "b": "http in a container", "c": "redis", "d": "postgres, restarted"}[service[0]]
                if service == "db" and at == next(seen for other, seen in ready if other == "db"):
                    name = "postgres, first boot with its roles made"
                delays.setdefault(name, []).append((at - max(before)) * 1000)
    everything = [delay for name, values in delays.items() if "first boot" not in name for delay in values]
    result = figure("ready-detection", "ms", {"all but first boots": everything, **delays})
    for values in result["contenders"].values():
        values["p95"] = round(quantile(values["values"], 0.95), 1)
    p95 = result["contenders"]["all but first boots"]["p95"]
    goal = 25
    result["verdicts"] = [f"p95 {p95} ms (goal < {goal}): {'met' if p95 < goal else 'MISSED'}"]
    return [result]


# --- status, idle --------------------------------------------------------------------------------------------------------

def status(options):
    """`devenv status` as a whole process, against `compose ps` of the same stack, and the floor: a process that does nothing."""
    peer, times = options.compose and Compose(options.compose, "data"), {}
    with Corner(options.binary) as corner:
        try:
            corner.run("up", "data")
            if peer:
                peer.up()
            for _ in range(20 * options.rounds):
                times.setdefault("devenv", []).append(corner.timed("status"))
                times.setdefault("devenv --version", []).append(corner.timed("--version"))
                if peer:
                    times.setdefault("compose ps", []).append(peer.run("ps"))
        finally:
            if peer:
                peer.close()
    return [figure("status", "ms", times, below=20)]


def memory(pid):
    """Resident and proportional set, in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return [int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1]) / 1024 for name in ("Rss", "Pss")]


def engine_processes():
    names = ("dockerd", "containerd", "containerd-shim")
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if (process / "comm").read_text().strip().startswith(names):
                    found.append(int(process.name))
            except OSError:
                pass
    return found


def engine_cpu(seconds):
    before = {pid: cpu_seconds(pid) for pid in engine_processes()}
    time.sleep(seconds)
    after = {pid: cpu_seconds(pid) for pid in engine_processes() if pid in before}
    return 100 * sum(after[pid] - before[pid] for pid in after) / seconds


def idle(options, seconds=30):
    """An idle daemon with `default` up; and what the engine itself burns then, against a Compose stack whose health checks run every second."""
    with Corner(options.binary) as corner:
        corner.run("up", "default")
        pid = corner.daemon()
        time.sleep(5)
        before, engine = cpu_seconds(pid), engine_cpu(seconds)
        share = 100 * (cpu_seconds(pid) - before) / seconds
        resident, proportional = memory(pid)
        others = [(process, words) for process, words in corner.processes() if process != pid]
        keepers = sum(memory(process)[1] for process, _ in others)
    engines = {"with devenv": [engine]}
    if options.compose:
        peer = Compose(options.compose, "default")
        try:
            peer.up()
            time.sleep(5)
            engines["with compose"] = [engine_cpu(seconds)]
        finally:
            peer.close()
    return [
        figure("idle-memory", "MB", {"devenv": [resident], "devenv, proportional": [proportional], f"its {len(others)} other processes": [keepers]}, below=30),
        figure("idle-cpu", "% of a core", {"devenv": [share]}, below=0.5),
        figure("idle-engine-cpu", "% of a core", engines),
    ]


# --- telling -------------------------------------------------------------------------------------------------------------

def figure(name, unit, contenders, relative=(), below=None):
    """One figure: everybody's values, and whether ours meets its goals (by the median)."""
    result = {"name": name, "unit": unit, "contenders": {who: summary(values) for who, values in contenders.items()}, "verdicts": []}
    ours = result["contenders"].get("devenv", {}).get("median")
    for who, factor in relative:
        if who in result["contenders"]:
            ratio = ours / result["contenders"][who]["median"]
            result["verdicts"].append(f"{ratio:.2f}x of {who} (goal {factor}x): {'met' if ratio <= factor else 'MISSED'}")
    if below is not None:
        result["verdicts"].append(f"{ours} {unit} (goal < {below}): {'met' if ours < below else 'MISSED'}")
    return result


def tell(figures):
    for one in figures:
        print(f"{one['name']} ({one['unit']})")
        for who, values in one["contenders"].items():
            p95 = f"   p95 {values['p95']}" if "p95" in values else ""
            print(f"    {who:44} {values['min']:9.1f} {values['median']:9.1f} {values['max']:9.1f}   n={values['n']}{p95}")
        for verdict in one["verdicts"]:
            print(f"    -> {verdict}")
    sys.stdout.flush()


FIGURES = {
    "stack-data": lambda options: stack(options, "data"),
    "stack-default": lambda options: stack(options, "default"),
    "ready-detection": detection,
    "status": status,
    "idle": idle,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="figures whose name contains this")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default=str(HERE / "results.json"))
    parser.add_argument("--list", action="store_true", help="the figures' names")
    options = parser.parse_args(namespace=Options())
    if options.list:
        return print("\n".join(FIGURES))
    missing = [tool for tool in ("docker", "psql", "redis-cli", "kcat") if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)} (scripts/setup tests)")
    chosen = {name: take for name, take in FIGURES.items() if not options.only or any(part in name for part in options.only)}
    if not chosen:
        sys.exit(f"no figure's name contains {' or '.join(options.only)}; there are: {', '.join(FIGURES)}")
    options.compose, reason = compose_binary()
    if reason:
        print(f"Docker Compose cannot be measured against: {reason}")
    print(f"{options.binary}: {sh([options.binary, '--version'], ok=0).stdout.strip()}; columns: min, median, max")
    taken, failed, machine = [], [], Machine()
    for name, take in chosen.items():
        round_machine = Machine()
        try:
            figures = take(options)
        except Exception as error:
            failed.append(name)
            print(f"{name}: NOT TAKEN: {type(error).__name__}: {error}", flush=True)
            continue
        for one in figures:
            one["machine"] = round_machine.describe()
        taken += figures
        tell(figures)
    print(f"machine: {machine.describe()}")
    output = Path(options.output)
    # Figures that were not asked for this time stay as they were.
    former = json.loads(output.read_text())["figures"] if output.exists() and options.only else []
    names = {one["name"] for one in taken}
    document = {
        "taken_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "engine": sh(["docker", "version", "--format", "{{.Server.Version}} (API {{.Server.APIVersion}})"]).stdout.strip(),
        "compose": sh([str(options.compose), "version"]).stdout.strip() if options.compose else reason,
        "machine": machine.describe(),
        "figures": [one for one in former if one["name"] not in names] + taken,
    }
    output.write_text(json.dumps(document, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
