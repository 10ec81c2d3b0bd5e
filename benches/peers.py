"""What a user would pick instead: the same images by `docker run`, and Docker Compose with health checks every second.

Both get the settings that devenv gives the same images where these decide how fast a server starts (Kafka's JVM), so that what is
compared is the supervising. Containers are named `bench-…`; nothing else of this engine is touched.
"""
import contextlib, json, os, shutil, socket, struct, subprocess, tempfile, time, urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from corner import Failed, free_port, sh, until

COMPOSE = "github.com/docker/compose/v5/cmd@v5.0.2"
KAFKA = {
    "CLUSTER_ID": "4L6g3nShT-eMCtK--X86sw",
    "KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m",
    "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.awt.headless=true",
    "KAFKA_NODE_ID": "1",
    "KAFKA_PROCESS_ROLES": "broker,controller",
    "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@127.0.0.1:9093",
    "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
    "KAFKA_INTER_BROKER_LISTENER_NAME": "HOST",
    "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,HOST:PLAINTEXT",
    "KAFKA_LISTENERS": "HOST://:9094,CONTROLLER://:9093",
    "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
    "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
}


def asks(port, request, prefix):
    """Whether a server on the port answers the bytes with these: what a client's first packet would meet, for the price of a socket."""
    with socket.create_connection(("127.0.0.1", port), 1) as stream:
        stream.settimeout(1)
        stream.sendall(request)
        return stream.recv(16).startswith(prefix)


def postgres_answers(port):
    # SSLRequest first, so that psql is not started over and over on a machine that is busy starting servers.
    return asks(port, struct.pack("!ii", 8, 80877103), b"N") and sh(["psql", "-XqAt", "-c", "select 1", f"postgres://postgres:bench@127.0.0.1:{port}/postgres"]).stdout.strip() == "1"


def redis_answers(port):
    return asks(port, b"PING\r\n", b"+PONG") and sh(["redis-cli", "-p", str(port), "set", "k", "v"]).stdout.strip() == "OK"


def kafka_answers(port):
    # ApiVersions: null client id, correlation 7.
    request = struct.pack("!hhih", 18, 0, 7, -1)
    if not asks(port, struct.pack("!i", len(request)) + request, b"\0\0"):
        return False
    return "1 brokers" in sh(["kcat", "-L", "-b", f"127.0.0.1:{port}", "-m", "5"]).stdout


def jaeger_answers(port):
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/services", timeout=1) as reply:
        return reply.status == 200
    return False


class Server:
    def __init__(self, image, port, answers, environment=(), command=(), data=None, memory=(), check=None):
        self.image, self.port, self.answers = image, port, answers
        self.environment, self.command, self.data, self.memory, self.check = dict(environment), list(command), data, list(memory), check


SERVERS = {
    "db": Server("postgres:17", 5432, postgres_answers, {"POSTGRES_PASSWORD": "bench"}, data="/var/lib/postgresql/data", check=["CMD", "pg_isready", "-h", "127.0.0.1", "-U", "postgres"]),
    "cache": Server("redis:8.0", 6379, redis_answers, command=["redis-server", "--appendonly", "yes"], data="/data", check=["CMD", "redis-cli", "ping"]),
    # A Java client as health check would cost more than the broker.
    "events": Server("apache/kafka:4.3.1", 9094, kafka_answers, KAFKA, data="/var/lib/kafka/data", memory=["/etc/kafka/secrets", "/mnt/shared/config"], check=["CMD", "bash", "-c", ": > /dev/tcp/127.0.0.1/9094"]),
    # Its image has no shell and no client to check with: Compose takes it for up once it runs.
    "tracing": Server("jaegertracing/jaeger:2.13.0", 16686, jaeger_answers),
}
PROFILES = {"data": ["db", "cache"], "default": ["db", "cache", "events", "tracing"]}


def environment_of(server, port):
    extra = {"KAFKA_ADVERTISED_LISTENERS": f"HOST://127.0.0.1:{port}"} if server.environment is SERVERS["events"].environment else {}
    return {**server.environment, **extra}


class ByHand:
    """`docker run` for each service, alone; the slowest decides. `together` runs them at once."""

    def __init__(self, profile):
        self.names = PROFILES[profile]
        self.prefix = f"bench-{os.getpid()}"
        self.ports = {name: free_port() for name in self.names}

    def start(self, name):
        server, port = SERVERS[name], self.ports[name]
        command = ["docker", "run", "-d", "--name", f"{self.prefix}-{name}", "-p", f"127.0.0.1:{port}:{server.port}"]
        for key, value in environment_of(server, port).items():
            command += ["-e", f"{key}={value}"]
        if server.data:
            command += ["-v", f"{self.prefix}-{name}:{server.data}"]
        for path in server.memory:
            command += ["--tmpfs", path]
        began = time.monotonic()
        sh([*command, server.image, *server.command], ok=0)
        until(f"{name} by hand", lambda: server.answers(port), 60)
        return (time.monotonic() - began) * 1000

    def stop(self, volumes):
        began = time.monotonic()
        containers = [f"{self.prefix}-{name}" for name in self.names]
        sh(["docker", "stop", *containers])
        sh(["docker", "rm", "-f", "-v", *containers])
        took = (time.monotonic() - began) * 1000
        if volumes:
            sh(["docker", "volume", "rm", "-f", *containers])
        return took

    def alone(self):
        """Each service by itself, with the others stopped: the floor."""
        slowest = 0
        for name in self.names:
            slowest = max(slowest, self.start(name))
            sh(["docker", "rm", "-f", "-v", f"{self.prefix}-{name}"], ok=0)
            sh(["docker", "volume", "rm", "-f", f"{self.prefix}-{name}"])
        return slowest

    def together(self):
        with ThreadPoolExecutor(len(self.names)) as pool:
            began = time.monotonic()
            list(pool.map(self.start, self.names))
            return (time.monotonic() - began) * 1000


def compose_binary():
    """Docker Compose, built from its Go module into a cache outside the checkout; None and the reason if it cannot be had."""
    directory = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "devenv-bench" / "bin"
    binary = directory / "cmd"
    if binary.exists():
        return binary, None
    if not shutil.which("go"):
        return None, "no Go toolchain to build it with"
    print(f"building {COMPOSE} into {directory}, a few minutes once", flush=True)
    done = sh(["go", "install", COMPOSE], timeout=1800, env=dict(os.environ, GOBIN=str(directory)))
    return (binary, None) if binary.exists() else (None, done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "go install failed")


class Compose:
    def __init__(self, binary, profile):
        self.binary, self.names = str(binary), PROFILES[profile]
        self.directory = Path(tempfile.mkdtemp(prefix="bench-compose-"))
        self.ports = {name: free_port() for name in self.names}
        services, volumes = {}, {}
        for name in self.names:
            server, port = SERVERS[name], self.ports[name]
            service = {"image": server.image, "environment": environment_of(server, port), "ports": [f"127.0.0.1:{port}:{server.port}"]}
            if server.command:
                service["command"] = server.command
            if server.data:
                service["volumes"] = [f"{name}:{server.data}"]
                volumes[name] = {}
            if server.memory:
                service["tmpfs"] = server.memory
            if server.check:
                service["healthcheck"] = {"test": server.check, "interval": "1s", "timeout": "5s", "retries": 60}
            services[name] = service
        document = {"name": f"bench{os.getpid()}{profile}", "services": services, "volumes": volumes}
        (self.directory / "compose.yaml").write_text(json.dumps(document).replace("$", "$$"))

    def run(self, *arguments):
        began = time.monotonic()
        sh([self.binary, "--project-directory", str(self.directory), "-f", str(self.directory / "compose.yaml"), *arguments], ok=0, timeout=300)
        return (time.monotonic() - began) * 1000

    def up(self):
        return self.run("up", "-d", "--wait")

    def answers(self):
        """Whether what it calls up does answer: it may not be asked to lie."""
        return all(until(name, lambda name=name: SERVERS[name].answers(self.ports[name])) for name in self.names)

    def down(self, volumes=False):
        return self.run("down", *(["-v"] if volumes else []))

    def close(self):
        with contextlib.suppress(Failed, subprocess.TimeoutExpired):
            self.down(volumes=True)
        shutil.rmtree(self.directory, ignore_errors=True)
