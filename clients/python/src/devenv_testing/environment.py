"""The environment that tests share: found or started once for each process, used by all."""
import os
import re
import threading
from contextlib import contextmanager
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, Type, TypeVar, Union

from . import program, types
from .api import Api
from .connection import Connection
from .errors import DevenvError
from .leases import Lease, PrivateDatabase, PrivateRedis, PrivateTopics, PrivateVirtualHost

# Seconds for `up`, in which images may be pulled.
UP_TIMEOUT = 600.0
UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}

Kind = TypeVar("Kind", bound=Lease)
_known: "Dict[Tuple[Optional[str], ...], Environment]" = {}
_lock = threading.Lock()


class Address(NamedTuple):
    """Where a service listens on this machine."""

    host: str
    port: int


class Environment:
    """One environment that is up."""

    def __init__(self, connection: Connection, target: types.EnvironmentTarget, given: bool) -> None:
        #: Every route of the daemon, typed.
        self.api = Api(connection)
        self.target = target
        #: It belongs to the `devenv test` that this process runs under.
        self.given = given
        self._connection = connection

    @classmethod
    def shared(
        cls, profile: Optional[str] = None, *, project: Optional[str] = None, instance: Optional[str] = None, timeout: float = UP_TIMEOUT
    ) -> "Environment":
        """The environment of that profile: under `devenv test` the one that the command runs in, else the project's own,
        started if it is not up. Several processes that ask at once share one start."""
        key = (profile, project, instance, *(os.environ.get(name) for name in ("DEVENV_PROJECT", "DEVENV_INSTANCE", "DEVENV_RUNTIME_DIR")), os.getcwd())
        with _lock:
            if key not in _known:
                _known[key] = cls._find(profile, project, instance, timeout)
            return _known[key]

    @classmethod
    def _find(cls, profile: Optional[str], project: Optional[str], instance: Optional[str], timeout: float) -> "Environment":
        given_project, given_instance = os.environ.get("DEVENV_PROJECT"), os.environ.get("DEVENV_INSTANCE")
        if given_project and given_instance and project is None and instance is None:
            return cls(Connection(program.socket_path()), {"project": given_project, "instance": given_instance}, True)
        arguments = ["up", *([profile] if profile else []), "--timeout", f"{max(1, round(timeout))}s"]
        arguments += ["--project", project] if project else []
        arguments += ["--instance", instance] if instance else []
        status = program.run(arguments, timeout)
        return cls(Connection(program.socket_path()), {"project": status["project"], "instance": status["instance"]}, False)

    # --- What it is ---------------------------------------------------------------------------------------------------

    def status(self) -> types.Status:
        return self.api.environment_status(self.target)

    def variables(self, service: Optional[str] = None) -> Dict[str, str]:
        """What `devenv env` prints: the variables of the shared services, or those that one service gets."""
        answer = self.api.environment_variables({"target": self.target, "for": "host", "service": service})
        return {name: variable["value"] for name, variable in answer["variables"].items()}

    def address(self, service: str, container_port: Optional[int] = None) -> Address:
        """Where the service listens: its first port, or the one that is `container_port` in its container."""
        found = self._service(service)
        for port in found["ports"]:
            if container_port in (None, port["container"]):
                return Address(port["address"], port["host"])
        what = "no port" if container_port is None else f"no port {container_port}"
        raise DevenvError("not-found", f"the service `{service}` publishes {what}")

    def _service(self, name: str) -> types.Service:
        services = self.status()["services"]
        for service in services:
            if service["name"] == name:
                return service
        raise DevenvError("not-found", f"there is no service `{name}`", f"there are {', '.join(service['name'] for service in services)}")

    def wait(self, *services: str, timeout: float = 60.0) -> None:
        """Returns when these services (all, unless said) are ready."""
        request: types.WaitRequest = {"target": self.target, "services": list(services), "timeout_ms": round(timeout * 1000)}
        for message in self.api.environment_wait(request):
            if "failed" in message:
                raise DevenvError.of(message["failed"])

    # --- Private parts ------------------------------------------------------------------------------------------------

    def lease(self, *services: str, database: Optional[str] = None) -> Lease:
        """Private parts of these services, or of all that support it."""
        return Lease(self._connection, {"target": self.target, "services": list(services), "database": database})

    def postgres(self, database: Optional[str] = None) -> PrivateDatabase:
        """A copy of a database as it was seeded: the one of that name, or the first of the first PostgreSQL service."""
        return self._private(PrivateDatabase, ["postgres"], database)

    def mariadb(self, database: Optional[str] = None) -> PrivateDatabase:
        """As `postgres`, of MariaDB."""
        return self._private(PrivateDatabase, ["mariadb"], database)

    def redis(self) -> PrivateRedis:
        """An empty numbered database of the first Redis service."""
        return self._private(PrivateRedis, ["redis"])

    def kafka(self) -> PrivateTopics:
        """A private prefix on the first Kafka or Redpanda service."""
        return self._private(PrivateTopics, ["kafka", "redpanda"])

    def rabbitmq(self) -> PrivateVirtualHost:
        """A private virtual host on the first RabbitMQ service."""
        return self._private(PrivateVirtualHost, ["rabbitmq"])

    def _private(self, kind: Type[Kind], kinds: List[str], database: Optional[str] = None) -> Kind:
        services = [service["name"] for service in self.status()["services"] if service["kind"] in kinds]
        if not services:
            raise DevenvError("no-service", f"the environment has no {kinds[0]} service", "add one to the profile")
        # With a database's name, the daemon finds the server that has it.
        return kind(self._connection, {"target": self.target, "services": services if database else services[:1], "database": database})

    # --- Faults -------------------------------------------------------------------------------------------------------

    def inject(self, fault: str, service: str, duration: Union[str, float, None] = None, **parameters: object) -> types.Fault:
        """Injects a fault, and raises unless its effect was observed. `duration` is seconds, or text such as `"300ms"`;
        without it, the fault's own default. It heals then at the latest, also if this process is killed. In the names of
        parameters `_` stands for `-`."""
        request: types.InjectRequest = {
            "target": self.target,
            "fault": fault,
            "service": service,
            "for_ms": None if duration is None else milliseconds(duration),
            "parameters": {name.rstrip("_").replace("_", "-"): text(value) for name, value in parameters.items()},
        }
        injected = self.api.environment_chaos_inject(request)
        witness = injected.get("witness")
        if witness is None or not witness["observed"]:
            self.heal(injected["id"])
            detail = "" if witness is None else f": {witness['what']}"
            raise DevenvError("not-observed", f"the fault `{fault}` of `{service}` had no effect that devenv observed{detail}")
        return injected

    def heal(self, *ids: str) -> List[types.Fault]:
        """Undoes these faults, or all, and returns those that it undid."""
        return self.api.environment_chaos_heal({"target": self.target, "ids": list(ids)})["faults"]

    def faults(self) -> List[types.Fault]:
        """Those that are not healed."""
        return self.api.environment_chaos_status({"target": self.target})["faults"]

    @contextmanager
    def fault(self, fault: str, service: str, duration: Union[str, float, None] = None, **parameters: object) -> Iterator[types.Fault]:
        """`inject`, and heals at the end of the block. Everyone who shares the environment meets the fault."""
        injected = self.inject(fault, service, duration, **parameters)
        try:
            yield injected
        finally:
            if any(active["id"] == injected["id"] for active in self.faults()):
                self.heal(injected["id"])

    # --- Its end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stops the environment for everyone who shares it; its volumes stay in the trash for a day. Nothing happens under
        `devenv test`, whose environment it is. Without this it stays up, for the next run to find."""
        if self.given:
            return
        with _lock:
            for key in [key for key, known in _known.items() if known.target == self.target]:
                del _known[key]
        submission: types.Submission = {
            "request": {"down": {"target": self.target, "volumes": True}},
            "asked_by": {"command": "devenv_testing (Python)", "pid": os.getpid()},
        }
        for message in self.api.operations_submit(submission):
            if "failed" in message:
                raise DevenvError.of(message["failed"]["error"])
            if "done" in message:
                return
        raise DevenvError("lost", "the daemon stopped before it answered")


def milliseconds(duration: Union[str, float]) -> int:
    """Of seconds, or of what the command line takes (`300ms`, `30s`, `5m`, `24h`)."""
    if not isinstance(duration, str):
        return round(duration * 1000)
    if match := re.fullmatch(r"(\d+)(ms|s|m|h)", duration):
        return int(match[1]) * UNITS[match[2]]
    raise ValueError(f"{duration!r} is no duration: write 300ms, 30s, 5m or 24h, or a number of seconds")


def text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
