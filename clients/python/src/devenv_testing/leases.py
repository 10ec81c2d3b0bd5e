"""Leases: private parts of services. The connection is the claim, and the kernel closes it however this process ends."""
import json
import os
import socket
import threading
import weakref
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Dict, List, Optional, Type, TypeVar, cast
from urllib.parse import unquote, urlsplit

from . import types
from .connection import LONGEST_LINE, Connection, decoded, lost
from .errors import DevenvError

if TYPE_CHECKING:
    from .environment import Environment

PROTOCOL = "devenv-lease"
ROUTE = "/v1/environment/lease"

# Those of this process. A process that it forks must not keep them alive.
_held: "weakref.WeakSet[Lease]" = weakref.WeakSet()
Self = TypeVar("Self", bound="Lease")


class Lease:
    """Private parts of services, until it is released, collected, or this process ends."""

    #: The lease's id.
    id: str
    #: The services that it is of.
    services: List[str]
    #: The name of the private database, if it has one.
    database: Optional[str]
    #: All variables of the environment, with the values of the private parts: for a program that the test starts. devenv
    #: ends programs that have them and still run when the lease ends.
    variables: Dict[str, str]

    def __init__(self, connection: Connection, request: types.LeaseRequest) -> None:
        self._lock = threading.Lock()
        self._socket: Optional[socket.socket]
        self._socket, self._reader = connection.upgrade(ROUTE, PROTOCOL, request)
        try:
            message = self._receive()
            if isinstance(message, str) or "granted" not in message:
                raise answered(message)
            lease = message["granted"]
            self.id, self.services, self.database = lease["id"], lease["services"], lease.get("database")
            self.variables = lease["variables"]
        except BaseException:
            self._close()
            raise
        _held.add(self)

    def variable(self, suffix: str) -> str:
        """`SERVICE_SUFFIX` of the (first) service."""
        name = f"{self.services[0].upper().replace('-', '_')}_{suffix}"
        try:
            return self.variables[name]
        except KeyError:
            raise DevenvError("unexpected", f"the lease of `{self.services[0]}` has no variable `{name}`") from None

    def release(self) -> None:
        """Ends the lease, and returns when all of it is removed. Released twice, it does nothing."""
        with self._lock:
            if self._socket is None:
                return
            try:
                command: types.LeaseCommand = "release"
                self._socket.sendall(json.dumps(command).encode() + b"\n")
                ended = self._receive()
                if ended != "over":
                    raise answered(ended)
            except OSError as error:
                raise lost(error) from error
            finally:
                self._close()

    def _receive(self) -> types.LeaseMessage:
        try:
            line = self._reader.readline(LONGEST_LINE)
        except OSError as error:
            raise lost(error) from error
        if not line:
            raise lost(None)
        return cast("types.LeaseMessage", decoded(line))

    def _close(self) -> None:
        """Without a word to the daemon: it ends the lease when no process has the connection any more."""
        if self._socket is not None:
            self._reader.close()
            self._socket.close()
            self._socket = None

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} of {', '.join(self.services)}>"


class PrivateDatabase(Lease):
    """A copy of a PostgreSQL or MariaDB database as it was initialised and seeded."""

    @property
    def url(self) -> str:
        return self.variable("URL")

    @property
    def name(self) -> str:
        return self.database or unquote(urlsplit(self.url).path[1:])

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def user(self) -> str:
        return unquote(urlsplit(self.url).username or "")

    @property
    def password(self) -> str:
        return unquote(urlsplit(self.url).password or "")


class PrivateRedis(Lease):
    """An empty numbered database of Redis, with a user that can select no other."""

    @property
    def url(self) -> str:
        return self.variable("URL")


class PrivateTopics(Lease):
    """Private names on Kafka or Redpanda. Topics are made at their first use, and removed with the lease."""

    @property
    def brokers(self) -> str:
        return self.variable("BROKERS")

    def topic(self, name: str) -> str:
        return self.variable("TOPIC_PREFIX") + name

    def group(self, name: str) -> str:
        return self.variable("GROUP_PREFIX") + name


class PrivateVirtualHost(Lease):
    """A virtual host of RabbitMQ with a user of its own: the exchanges, queues and bindings of the first one, no messages."""

    @property
    def url(self) -> str:
        return self.variable("URL")

    @property
    def name(self) -> str:
        return unquote(urlsplit(self.url).path[1:])


class Leases:
    """The leases of one test: what is asked of it ends with it."""

    def __init__(self, environment: "Environment") -> None:
        self._environment = environment
        self._stack = ExitStack()

    def lease(self, *services: str, database: Optional[str] = None) -> Lease:
        return self._stack.enter_context(self._environment.lease(*services, database=database))

    def postgres(self, database: Optional[str] = None) -> PrivateDatabase:
        return self._stack.enter_context(self._environment.postgres(database))

    def mariadb(self, database: Optional[str] = None) -> PrivateDatabase:
        return self._stack.enter_context(self._environment.mariadb(database))

    def redis(self) -> PrivateRedis:
        return self._stack.enter_context(self._environment.redis())

    def kafka(self) -> PrivateTopics:
        return self._stack.enter_context(self._environment.kafka())

    def rabbitmq(self) -> PrivateVirtualHost:
        return self._stack.enter_context(self._environment.rabbitmq())

    def release(self) -> None:
        """Releases all, the last one first."""
        self._stack.close()


def answered(message: types.LeaseMessage) -> DevenvError:
    if not isinstance(message, str) and "failed" in message:
        return DevenvError.of(message["failed"])
    return DevenvError("unexpected", f"unexpected message of the daemon: {json.dumps(message)[:200]}")


def _forget_in_child() -> None:
    for lease in list(_held):
        if lease._socket is not None:
            lease._reader.close()
            lease._socket.close()
            lease._socket = None


os.register_at_fork(after_in_child=_forget_in_child)
