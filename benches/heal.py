#!/usr/bin/env python3
"""SIGKILL of the daemon, of the holder, and of both, during each fault: how soon it has healed, and whether anything is left.

    benches/heal.py --binary target/release/devenv [-k latency] [--json FILE]

What is observed is observed by clients of the services and in the kernel's own books, not through devenv: no command of devenv
runs between the kill and the healing. Needs root on the engine's host, for the containers' namespaces.
"""
import argparse, contextlib, json, os, socket, struct, subprocess, sys, time
from pathlib import Path
from urllib.parse import urlsplit

from corner import Corner, Failed, Machine, sh

LASTING = 7
GRACE = 2
"""By which the lease of a fault that the kernel does not hold comes after its time."""
STARTING = 13
"""For a daemon that is called on a busy machine, and what it has to start again."""
PROFILE = """\
services:
  db:
    postgres: { version: "17", databases: { app: { owner: app } } }
  cache:
    redis: { version: "8.0", persistence: { aof: everysec, rdb: never } }
    storage: { faultable: true, size: 256MiB }
"""
KAFKA = """\
services:
  events: { kafka: {} }
"""
PATIENCE = 1.0


class World:
    """What clients and the kernel see of the services."""

    def __init__(self, corner):
        self.corner, self.variables = corner, corner.environment()
        self.unlimited = {service["name"]: self.limits(service["name"]) for service in corner.json("status")["services"]}
        if "CACHE_PASSWORD" in self.variables:
            self.address = urlsplit(self.variables["REDIS_URL"])

    def container(self, service):
        label = f"label=dev.devenv.service={service}"
        ids = sh(["docker", "ps", "-q", "--no-trunc", "--filter", label, "--filter", f"label=dev.devenv.owner={self.corner.owner()}"]).stdout.split()
        named = [one for one in ids if "holder" not in sh(["docker", "inspect", "-f", "{{.Config.Image}}", one]).stdout]
        return named[0] if named else None

    def inspect(self, service, form):
        container = self.container(service)
        return sh(["docker", "inspect", "-f", form, container]).stdout.strip() if container else ""

    def pid(self, service):
        return int(self.inspect(service, "{{.State.Pid}}") or 0)

    def within(self, service, *command):
        return sh(["nsenter", "-t", str(self.pid(service)), "-n", *command], timeout=20)

    # Each says whether the fault bites: true or false.

    def connect(self):
        stream = socket.create_connection((self.address.hostname, self.address.port), timeout=PATIENCE)
        stream.settimeout(PATIENCE)
        return stream

    def redis(self, *words, patience=PATIENCE):
        with self.connect() as stream:
            stream.settimeout(patience)
            reader = stream.makefile("rb")
            for command in (("AUTH", "default", self.variables["CACHE_PASSWORD"]), words):
                stream.sendall(b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in command))
                answer = reader.readline()
                if not answer:
                    raise ConnectionError("closed")
            if answer[:1] == b"$":
                return reader.read(int(answer[1:]) + 2).decode()
            return answer.decode()

    def silent(self):
        try:
            return not self.redis("PING").startswith("+PONG")
        except OSError:
            return True

    def slower_than(self, seconds, *words):
        began = time.monotonic()
        with contextlib.suppress(OSError):
            self.redis(*words, patience=10)
        return time.monotonic() - began > seconds

    def closes_late(self):
        with self.connect() as stream:
            stream.settimeout(10)
            began = time.monotonic()
            stream.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                stream.recv(1)
            return time.monotonic() - began > 1.5

    def limited(self):
        try:
            return not self.redis("ECHO", "x" * 5000, patience=5).startswith("xxx")
        except OSError:
            return True

    def harmed(self, figure):
        """Whether TCP here, which receives what the service sends, counts more of these than happen by themselves."""
        before = counted(figure)
        for words in (("SETRANGE", "load", "3999999", "x"), ("GET", "load"), ("DEL", "load")):
            self.redis(*words, patience=10)
        return counted(figure) - before > 40

    def limited_more(self):
        return self.limits("cache") != self.unlimited["cache"]

    def nameless(self):
        query = struct.pack("!HHHHHH", 7, 256, 1, 0, 0, 0) + b"\x05cache\x00\x00\x01\x00\x01"
        program = f"import socket;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout(1);s.sendto({query!r},('127.0.0.11',53));s.recv(512)"
        return self.within("cache", "python3", "-c", program).returncode != 0

    def psql(self, sql, patience=3):
        return sh(["psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", sql, self.variables["DB_APP_URL"]], timeout=30, env={**os.environ, "PGCONNECT_TIMEOUT": str(patience)})

    def mountpoint(self):
        return self.inspect("cache", '{{range .Mounts}}{{if eq .Destination "/data"}}{{.Source}}{{end}}{{end}}')

    def full(self):
        point = self.mountpoint()
        return bool(point) and os.statvfs(point).f_bavail * os.statvfs(point).f_frsize < 1 << 20

    def read_only(self):
        point = self.mountpoint()
        lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
        return any(line[1] == point and {"ro", "emergency_ro"} & set(line[3].split(",")) for line in lines)

    def snapshot_fails(self):
        with contextlib.suppress(OSError):
            self.redis("BGSAVE")
            time.sleep(0.3)
            return "rdb_last_bgsave_status:err" in self.redis("INFO", "persistence")
        return True

    def topics(self):
        listed = sh(["kcat", "-L", "-b", self.variables["KAFKA_BROKERS"], "-m", "2"], timeout=20)
        return None if listed.returncode else listed.stdout

    def left(self, service):
        """What is there of a fault in the kernel's books and the engine's."""
        found = []
        pid = self.pid(service)
        if not pid:
            return ["it does not run"]
        tables = self.within(service, "nft", "list", "tables").stdout
        found += [f"rules: {line.strip()}" for line in tables.splitlines() if "devenv" in line]
        links = self.within(service, "ip", "-br", "link").stdout
        found += [f"a device: {line.split()[0]}" for line in links.splitlines() if line.startswith("devenv")]
        if self.inspect(service, "{{.State.Paused}}") == "true":
            found.append("paused by the engine")
        held = [task.name for task in Path(f"/proc/{pid}/task").glob("*") if state(task) in "tT"]
        found += [f"{len(held)} threads held"] if held else []
        limits = self.limits(service)
        found += [f"limits {limits}"] if limits != self.unlimited[service] else []
        return found

    def limits(self, service):
        """An engine cannot take a limit away again; one of all that the machine has is none."""
        processors, memory = map(int, (self.inspect(service, "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}}") or "0 0").split())
        return processors % (os.cpu_count() * 10**9), 0 if memory >= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") else memory

    def holders(self):
        owner = f"label=dev.devenv.owner={self.corner.owner()}"
        return sh(["docker", "ps", "-aq", "--no-trunc", "--filter", owner, "--filter", "label=dev.devenv.role=holder"]).stdout.split()


def counted(name):
    for file in ("snmp", "netstat"):
        lines = [line.split() for line in Path(f"/proc/net/{file}").read_text().splitlines()]
        for names, figures in zip(lines[::2], lines[1::2]):
            if names[0] in ("Tcp:", "TcpExt:") and name in names:
                return int(figures[names.index(name)])
    raise KeyError(name)


def state(task):
    with contextlib.suppress(OSError):
        return (task / "stat").read_text().rpartition(") ")[2][:1]
    return "-"


class Case:
    def __init__(self, fault, service, bites, holder=True, **settings):
        self.fault, self.service, self.bites, self.holder, self.settings = fault, service, bites, holder, settings


def kernel(fault, bites=World.silent, **settings):
    return Case(fault, "cache", bites, True, **settings)


def lease(fault, service, bites, **settings):
    return Case(fault, service, bites, False, **settings)


CASES = [
    kernel("partition"),
    kernel("refuse"),
    kernel("reset"),
    kernel("loss", probability="100%"),
    kernel("latency", lambda w: w.slower_than(0.4, "PING"), delay="500ms"),
    kernel("bandwidth", lambda w: w.slower_than(0.8, "ECHO", "x" * 2000), rate="1KiB/s"),
    kernel("slow-close", World.closes_late, delay="2s"),
    kernel("limit-data", World.limited, bytes="1KiB"),
    kernel("blackhole"),
    kernel("dns", World.nameless),
    kernel("corrupt", lambda w: w.harmed("InCsumErrors")),
    kernel("duplicate", lambda w: w.harmed("TCPDSACKOldSent")),
    kernel("reorder", lambda w: w.harmed("TCPOFOQueue")),
    kernel("pause"),
    kernel("freeze"),
    kernel("disk-full", World.full),
    lease("disk-read-only", "cache", World.read_only),
    lease("cpu", "cache", World.limited_more, cpus="0.3"),
    lease("memory", "cache", World.limited_more, limit="256MiB"),
    lease("stop", "cache", World.silent),
    lease("crash-loop", "cache", World.silent, every="50ms"),
    lease("power-cut", "cache", World.silent, **{"restart-after": "4s"}),
    lease("redis-pause", "cache", World.silent),
    lease("redis-memory", "cache", lambda w: "OOM" in w.redis("SET", "k", "v")),
    lease("redis-save-failure", "cache", World.snapshot_fails),
    lease("postgres-lock", "db", lambda w: w.psql("set lock_timeout = '300ms'; select count(*) from t").returncode != 0, table="t", database="app"),
    lease("postgres-exhaust", "db", lambda w: w.psql("select 1").returncode != 0),
    lease("postgres-read-only", "db", lambda w: w.psql("create temp table x(); insert into t values (1)").returncode != 0),
    lease("monkey", "cache", World.silent, faults="partition,pause", every="3s", lasting="5s", services="cache"),
    Case("kafka-pause", "events", lambda w: w.topics() is None),
    Case("kafka-fill", "events", lambda w: "devenv-fill" in (w.topics() or ""), False, bytes="1MiB", topic="devenv-fill"),
]


def run(corner, world, case, killed):
    began = time.monotonic()
    arguments = [word for key, value in case.settings.items() for word in ("--set", f"{key}={value}")]
    fault = corner.json("chaos", "inject", case.fault, case.service, "--for", f"{LASTING}s", *arguments, ok=None)
    injected = time.monotonic()
    result = {"fault": case.fault, "killed": killed, "witnessed": bool(fault.get("witness", {}).get("observed")), "healed_s": None, "left": []}
    if not result["witnessed"]:
        return {**result, "left": [f"not witnessed: {fault.get('error', fault.get('witness'))}"]}
    # Else that it is gone would mean nothing.
    if not case.bites(world):
        corner.run("chaos", "heal")
        return {**result, "left": ["a client sees nothing of it"]}
    holders = world.holders()
    if "daemon" in killed:
        corner.kill_daemon()
    if "holder" in killed:
        for holder in holders:
            sh(["docker", "kill", "-s", "KILL", holder])
    # The kernel lets go at once if the holder is dead; else the fault ends at its own time.
    limit = LASTING + GRACE + STARTING
    while time.monotonic() - injected < limit + 10:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if not case.bites(world) and not world.left(case.service):
                result["healed_s"] = round(time.monotonic() - injected, 1)
                break
        time.sleep(0.1)
    result["left"] += world.left(case.service)
    result["within"] = result["healed_s"] is not None and result["healed_s"] <= limit
    # Only now devenv is asked; what nobody needed to undo is gone from its books as well.
    def settled():
        status = corner.json("status")
        return status["phase"] == "ready" and not status["faults"]
    end = time.monotonic() + 45
    while not settled() and time.monotonic() < end:
        time.sleep(0.3)
    if not settled():
        result["left"].append(f"faults on the books: {[fault['id'] for fault in corner.json('status')['faults']]}")
        corner.run("chaos", "heal", ok=None)
    # An ended holder is removed by the engine itself, a moment later.
    end = time.monotonic() + 5
    while world.holders() and time.monotonic() < end:
        time.sleep(0.1)
    result["left"] += [f"holder {holder[:12]}" for holder in world.holders()]
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def table(binary, cases, profile, results):
    with Corner(binary, {"profiles/heal.yaml": profile}) as corner:
        corner.run("up", "heal")
        world = World(corner)
        if "db" in profile:
            world.psql("create table t(i int)")
        loops = sh("losetup -a").stdout.count(str(corner.root))
        for case in cases:
            for killed in ("daemon", "holder", "daemon and holder") if case.holder else ("daemon",):
                try:
                    result = run(corner, world, case, killed)
                except (Failed, ValueError, OSError, subprocess.TimeoutExpired) as error:
                    result = {"fault": case.fault, "killed": killed, "left": [f"{type(error).__name__}: {str(error)[:300]}"], "healed_s": None}
                    corner.run("chaos", "heal", ok=None)
                if (now := sh("losetup -a").stdout.count(str(corner.root))) != loops:
                    result["left"].append(f"{now} loop devices, and there were {loops}")
                result["ok"] = bool(result.get("within")) and not result["left"]
                results.append(result)
                print(f"{'ok   ' if result['ok'] else 'WRONG'} {case.fault:20} {killed:18} healed {result['healed_s']} s after it was witnessed  {'; '.join(result['left'])}", flush=True)
        leases = [pid for pid, words in corner.processes() if "devenv-lease" in words]
        root = corner.root
    left = [line for line in sh("losetup -a").stdout.splitlines() if str(root) in line] + corner.objects()
    if left or leases:
        results.append({"fault": "all", "killed": "", "left": [str(one) for one in left + leases], "ok": False})
        print(f"WRONG left in the end: {left} {leases}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=Path(__file__).resolve().parent.parent / "target/release/devenv")
    parser.add_argument("-k", default="", help="only these faults, with commas between")
    parser.add_argument("--json", type=Path, help="write the table there as well")
    options = parser.parse_args()
    machine, results = Machine(), []
    wanted = [case for case in CASES if not options.k or case.fault in options.k.split(",")]
    for profile, services in ((PROFILE, ("db", "cache")), (KAFKA, ("events",))):
        cases = [case for case in wanted if case.service in services]
        if cases:
            table(options.binary, cases, profile, results)
    wrong = [result for result in results if not result["ok"]]
    print(f"{len(results) - len(wrong)} of {len(results)} healed in time with nothing left; {machine.describe()}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine.describe(), "rows": results}, indent=1))
    sys.exit(1 if wrong or not results else 0)


if __name__ == "__main__":
    main()
