"""HTTP over the daemon's Unix socket. It never starts a daemon and never retries."""
import http.client
import json
import os
import socket
import stat
import struct
import sys
from typing import Any, BinaryIO, Dict, Iterator, Optional, Tuple, cast

from .errors import DevenvError

# Seconds without a byte. Long operations report progress, and the daemon limits each of its own steps.
TIMEOUT = 600.0
# In bytes, as the daemon's own client has it.
LONGEST_LINE = 16 << 20


class Connection:
    """Talks to the daemon at one socket. Every request has a connection of its own, so threads may share this."""

    def __init__(self, path: str, timeout: float = TIMEOUT) -> None:
        self.path = path
        self.timeout = timeout

    def call(self, method: str, path: str, request: Optional[object] = None) -> Any:
        """One document for another."""
        client, response = self._ask(method, path, request)
        try:
            return decoded(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise lost(error) from error
        finally:
            client.close()

    def lines(self, method: str, path: str, request: Optional[object] = None) -> Iterator[Any]:
        """One document a line. Closing the iterator closes the connection."""
        client, response = self._ask(method, path, request)
        try:
            while line := response.readline(LONGEST_LINE):
                yield decoded(line)
        except (OSError, http.client.HTTPException) as error:
            raise lost(error) from error
        finally:
            client.close()

    def upgrade(self, path: str, protocol: str, request: object) -> Tuple[socket.socket, BinaryIO]:
        """A connection that speaks another protocol from here on, and what to read it from."""
        body = json.dumps(request).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: devenv\r\nconnection: upgrade\r\nupgrade: {protocol}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        connected = connect(self.path, self.timeout)
        try:
            connected.sendall(head.encode() + body)
            reader = cast(BinaryIO, connected.makefile("rb"))
            status, headers = read_head(reader)
            if status == 101:
                return connected, reader
            raise refusal(status, reader.read(min(int(headers.get("content-length", "0")), LONGEST_LINE)))
        except OSError as error:
            connected.close()
            raise lost(error) from error
        except BaseException:
            connected.close()
            raise

    def _ask(self, method: str, path: str, request: Optional[object]) -> "Tuple[UnixClient, http.client.HTTPResponse]":
        client = UnixClient(self.path, self.timeout)
        try:
            body = None if request is None else json.dumps(request)
            client.request(method, path, body, {} if body is None else {"content-type": "application/json"})
            response = client.getresponse()
            if response.status >= 400:
                raise refusal(response.status, response.read(LONGEST_LINE))
            return client, response
        except (OSError, http.client.HTTPException) as error:
            client.close()
            raise lost(error) from error
        except BaseException:
            client.close()
            raise


class UnixClient(http.client.HTTPConnection):
    """The standard library's client on another kind of socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("devenv", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = connect(self.path, self.timeout or TIMEOUT)


def connect(path: str, timeout: float) -> socket.socket:
    """Sends nothing to a socket that another user could own: the runtime directory is often below /tmp."""
    check_place(path)
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connected.settimeout(timeout)
        connected.connect(path)
        check_peer(connected, path)
        return connected
    except (FileNotFoundError, ConnectionRefusedError) as error:
        connected.close()
        raise DevenvError("no-daemon", f"no daemon answers at {path}", "`devenv up` starts one") from error
    except BaseException:
        connected.close()
        raise


def check_place(path: str) -> None:
    directory = os.path.dirname(path) or "."
    for place in (directory, path):
        try:
            found = os.stat(place)
        except OSError:
            # Nothing is there to connect to, which `connect` reports.
            return
        if found.st_uid != os.geteuid() or os.lstat(place).st_uid != os.geteuid():
            raise DevenvError("foreign-socket", f"{place} belongs to another user (user id {found.st_uid}): it is not used")
        if place == directory and found.st_mode & 0o022:
            raise DevenvError("foreign-socket", f"{place} is writable by other users (mode {stat.S_IMODE(found.st_mode):04o}): it is not used")


def check_peer(connected: socket.socket, path: str) -> None:
    """Who accepted. Other systems than Linux have only the check of the place."""
    if sys.platform == "linux":
        _, user, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user != os.geteuid():
            raise DevenvError("foreign-socket", f"{path} is served by a process of another user (user id {user}): it is not used")


def read_head(reader: BinaryIO) -> Tuple[int, Dict[str, str]]:
    words = reader.readline(16 << 10).split(b" ", 2)
    if not words[0]:
        raise lost(None)
    if len(words) < 2 or not words[1].isdigit():
        raise DevenvError("unexpected", "not an HTTP response")
    headers: Dict[str, str] = {}
    while (line := reader.readline(16 << 10)) not in (b"\r\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(words[1]), headers


def decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DevenvError("unexpected", f"cannot decode the daemon's answer: {text[:200]!r}") from error


def refusal(status: int, body: bytes) -> DevenvError:
    try:
        return DevenvError.of(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return DevenvError("unexpected", f"the daemon answered with status {status}: {body[:200]!r}")


def lost(error: Optional[BaseException]) -> DevenvError:
    if isinstance(error, TimeoutError) or isinstance(error, socket.timeout):
        return DevenvError("timed-out", "the daemon did not answer in time", "`devenv operations` shows what it does")
    return DevenvError("lost", "the daemon stopped before it answered", "`devenv daemon status` checks it")
