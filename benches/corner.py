"""A private corner to measure `devenv` in: own state, runtime and project directory; nothing of it is left afterwards.

Also what the harnesses share: timing, order statistics, what a machine was like meanwhile, and servers started by hand.
"""
import contextlib, json, os, shutil, signal, socket, subprocess, sys, tempfile, time
from pathlib import Path

ENGINE = ["docker"]
OWNER = "dev.devenv.owner"


class Failed(Exception):
    pass


def sh(command, timeout=120, ok=None, **kw):
    done = subprocess.run(command, shell=isinstance(command, str), capture_output=True, text=True, timeout=timeout, **kw)
    if ok is not None and done.returncode != ok:
        raise Failed(f"{command} exited {done.returncode}, not {ok}: {(done.stdout + done.stderr)[-1500:]}")
    return done


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, probe, seconds=60, every=0.01):
    """Asks until the answer is true; the answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            answer = probe()
            if answer:
                return answer
        time.sleep(every)
    raise Failed(f"{what}: not within {seconds} s")


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(values):
    return {"min": round(min(values), 1), "median": round(quantile(values, 0.5), 1), "max": round(max(values), 1), "n": len(values), "values": [round(value, 1) for value in values]}


def cpu_seconds(pid):
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def burning(count):
    """Keeps so many processes busy meanwhile."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


class RedisClient:
    """One connection, logged in as the default user. An answer is its first line."""

    def __init__(self, port, password, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", int(port)), timeout=timeout)
        self.reader = self.socket.makefile("rb")
        answer = self.ask("AUTH", "default", password)
        if answer != "+OK":
            self.socket.close()
            raise OSError(f"AUTH answers {answer}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.reader.close()
        self.socket.close()

    def ask(self, *words):
        self.socket.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words))
        return self.reader.readline().decode().strip()


class Machine:
    """How busy the machine was with other things while something was measured."""

    def __init__(self):
        self.began, self.before = time.monotonic(), self.busy()

    @staticmethod
    def busy():
        user, nice, system, idle, waiting, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
        return user + nice + system, idle + waiting

    def describe(self):
        busy, idle = (now - then for now, then in zip(self.busy(), self.before))
        return {"cores": os.cpu_count(), "load": os.getloadavg()[0], "busy_share": round(busy / max(1, busy + idle), 2), "seconds": round(time.monotonic() - self.began, 1)}


class Corner:
    def __init__(self, binary, files=None):
        self.binary = str(Path(binary).resolve())
        self.root = Path(tempfile.mkdtemp(prefix="devenv-bench-"))
        self.project = self.root / "project"
        (self.project / "profiles").mkdir(parents=True)
        for name, text in (files or {}).items():
            (self.project / name).parent.mkdir(parents=True, exist_ok=True)
            (self.project / name).write_text(text)
        self.variables = dict(os.environ, DEVENV_STATE_DIR=str(self.root / "state"), DEVENV_RUNTIME_DIR=str(self.root / "run"), NO_COLOR="1")

    def command(self, *arguments):
        return [self.binary, *arguments]

    def run(self, *arguments, ok=0, timeout=300):
        return sh(self.command(*arguments), timeout=timeout, ok=ok, env=self.variables, cwd=self.project)

    def timed(self, *arguments, timeout=300):
        """Milliseconds of a whole process."""
        began = time.monotonic()
        self.run(*arguments, timeout=timeout)
        return (time.monotonic() - began) * 1000

    def start(self, *arguments):
        return subprocess.Popen(self.command(*arguments), env=self.variables, cwd=self.project, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def json(self, *arguments, **kw):
        return json.loads(self.run(*arguments, "--json", **kw).stdout)

    def events(self):
        return [json.loads(line) for line in self.run("events", "--json").stdout.splitlines()]

    def environment(self):
        return json.loads(self.run("env", "--format", "json").stdout)

    def daemon(self):
        return self.json("daemon", "status").get("pid")

    def kill_daemon(self):
        pid = self.daemon()
        if pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return pid

    def owner(self):
        """The label value of everything this corner's daemon makes."""
        return next((path.read_text().strip() for path in (self.root / "state").glob("owner*")), None)

    def processes(self):
        """Processes whose variables name this corner's state directory, or that run its keeper."""
        mine = str(self.root).encode()
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdigit() or int(process.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                if mine in (process / "environ").read_bytes() or mine in (process / "cmdline").read_bytes():
                    found.append((int(process.name), (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()))
        return found

    def objects(self):
        """What the engine has of this corner, by kind, found by the label of the state directory's owner."""
        owner = self.owner()
        if not owner:
            return []
        found = []
        for kind, command in (("container", ["ps", "-aq"]), ("network", ["network", "ls", "-q"]), ("volume", ["volume", "ls", "-q"])):
            listed = sh([*ENGINE, *command, "--filter", f"label={OWNER}={owner}"], ok=0).stdout.split()
            found += [(kind, name) for name in listed]
        return found

    def close(self):
        with contextlib.suppress(Exception):
            self.run("down", "--all", "--volumes", ok=None)
            self.run("gc", "--all", ok=None)
        with contextlib.suppress(Exception):
            self.run("daemon", "stop", ok=None)
        shutil.rmtree(self.root, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
