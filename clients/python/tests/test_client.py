"""The protocol, against a daemon of this file: needs neither devenv nor an engine. Python's own test runner runs it."""
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from devenv_testing import DevenvError, Environment, Leases  # noqa: E402
from devenv_testing import environment as environments  # noqa: E402
from devenv_testing.connection import Connection  # noqa: E402

TARGET = {"project": "/p", "instance": "default"}
SERVICES = [
    {"name": "my-db", "kind": "postgres", "ports": [{"container": 5432, "host": 1234, "address": "127.0.0.1"}]},
    {"name": "bus", "kind": "redpanda", "ports": []},
]
FAULT = {"id": "f1", "fault": "latency", "service": "my-db", "injected_at": "now"}
# For what happens at once unless something is wrong.
DEADLINE = 60


class Daemon:
    """Answers each path with what `answers` holds, and records requests. A lease is held until its connection ends."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="devenv-py-")
        self.path = os.path.join(self.directory, "devenv.sock")
        self.requests, self.answers = [], {"/v1/environment/status": (200, {"services": SERVICES})}
        self.granted = {"granted": {"id": "1", "services": ["my-db"], "database": "copy", "variables": {"MY_DB_URL": "postgres://u%40:s@h:5/copy"}}}
        self.over, self.ended = b'"over"\n', threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as reader, contextlib.suppress(OSError):
            method, path, _ = reader.readline().decode().split(" ")
            headers = {}
            while (line := reader.readline()) != b"\r\n":
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = reader.read(int(headers.get("content-length", 0)))
            self.requests.append((path, json.loads(body) if body else None))
            if path == "/v1/environment/lease" and path not in self.answers:
                # In one piece: the first message is read together with the head.
                connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n" + json.dumps(self.granted).encode() + b"\n")
                if reader.readline() == b'"release"\n':
                    connection.sendall(self.over)
                self.ended.set()
                return
            status, answer = self.answers[path]
            sent = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            connection.sendall(f"HTTP/1.1 {status} X\r\ncontent-length: {len(sent)}\r\nconnection: close\r\n\r\n".encode() + sent)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        shutil.rmtree(self.directory)


class Case(unittest.TestCase):
    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.close)
        self.environment = Environment(Connection(self.daemon.path, DEADLINE), TARGET, False)


class LeaseTests(Case):
    def test_a_lease_is_asked_for_by_the_kind_of_service_and_ends_when_it_is_released(self):
        with self.environment.postgres("app") as database:
            self.assertEqual((database.url, database.name, database.user, database.host, database.port), ("postgres://u%40:s@h:5/copy", "copy", "u@", "h", 5))
            self.assertFalse(self.daemon.ended.is_set())
        self.assertTrue(self.daemon.ended.wait(DEADLINE))
        self.assertEqual(self.daemon.requests[-1], ("/v1/environment/lease", {"target": TARGET, "services": ["my-db"], "database": "app"}))
        database.release()

    def test_a_refused_lease_raises_what_the_daemon_says(self):
        self.daemon.granted = {"failed": {"code": "not-found", "message": "no database `x`", "hint": "there is `app`"}}
        with self.assertRaises(DevenvError) as raised:
            self.environment.postgres("x")
        self.assertEqual((raised.exception.code, str(raised.exception)), ("not-found", "no database `x` (there is `app`)"))

    def test_a_refused_request_raises_what_the_daemon_says(self):
        self.daemon.answers["/v1/environment/lease"] = (404, {"error": {"code": "not-found", "message": "no environment"}})
        with self.assertRaisesRegex(DevenvError, "no environment"):
            self.environment.lease()

    def test_a_lease_whose_daemon_has_died_says_so_when_it_is_released(self):
        self.daemon.over = b""
        lease = self.environment.lease("my-db")
        with self.assertRaises(DevenvError) as raised:
            lease.release()
        self.assertEqual(raised.exception.code, "lost")

    def test_a_lease_that_nobody_refers_to_ends(self):
        self.environment.lease("my-db")
        self.assertTrue(self.daemon.ended.wait(DEADLINE))

    def test_the_leases_of_a_test_end_with_it(self):
        leases = Leases(self.environment)
        leases.postgres()
        leases.release()
        self.assertTrue(self.daemon.ended.wait(DEADLINE))

    def test_a_forked_child_does_not_keep_a_lease(self):
        lease = self.environment.lease("my-db")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        # As the kernel does when the parent is killed: nothing is said, and the child lives on.
        lease._close()
        ended = self.daemon.ended.wait(DEADLINE)
        os.close(writer)
        os.waitpid(child, 0)
        self.assertTrue(ended)

    def test_a_kind_that_the_environment_does_not_have_is_named(self):
        with self.assertRaisesRegex(DevenvError, "no mariadb service"):
            self.environment.mariadb()

    def test_topics_of_redpanda_are_found_as_those_of_kafka(self):
        self.daemon.granted["granted"].update(services=["bus"], variables={"BUS_TOPIC_PREFIX": "p.", "BUS_GROUP_PREFIX": "p.", "BUS_BROKERS": "h:1"})
        with self.environment.kafka() as topics:
            self.assertEqual((topics.brokers, topics.topic("a"), topics.group("b")), ("h:1", "p.a", "p.b"))


class EnvironmentTests(Case):
    def test_addresses_are_found_by_service_and_port(self):
        self.assertEqual(self.environment.address("my-db"), ("127.0.0.1", 1234))
        for words in [("other",), ("bus",), ("my-db", 1)]:
            with self.assertRaises(DevenvError) as raised:
                self.environment.address(*words)
            self.assertEqual(raised.exception.code, "not-found")

    def test_a_fault_is_healed_at_the_end_of_the_block_unless_it_has_healed(self):
        self.daemon.answers["/v1/environment/chaos/inject"] = (200, {**FAULT, "witness": {"observed": True, "what": "slow"}})
        self.daemon.answers["/v1/environment/chaos/status"] = (200, {"faults": [FAULT]})
        self.daemon.answers["/v1/environment/chaos/heal"] = (200, {"faults": [FAULT]})
        with self.assertRaises(ZeroDivisionError), self.environment.fault("latency", "my-db", "30s", restart_after="1s", from_="host", all=True):
            raise ZeroDivisionError
        sent = dict(self.daemon.requests)
        self.assertEqual(sent["/v1/environment/chaos/heal"]["ids"], ["f1"])
        self.assertEqual(sent["/v1/environment/chaos/inject"]["parameters"], {"restart-after": "1s", "from": "host", "all": "true"})
        self.daemon.requests.clear()
        self.daemon.answers["/v1/environment/chaos/status"] = (200, {"faults": []})
        with self.environment.fault("latency", "my-db"):
            pass
        self.assertNotIn("/v1/environment/chaos/heal", dict(self.daemon.requests))

    def test_a_fault_without_effect_is_healed_and_raised(self):
        self.daemon.answers["/v1/environment/chaos/inject"] = (200, {**FAULT, "witness": {"observed": False, "what": "nothing"}})
        self.daemon.answers["/v1/environment/chaos/heal"] = (200, {"faults": []})
        with self.assertRaises(DevenvError) as raised:
            self.environment.inject("latency", "my-db")
        self.assertEqual(raised.exception.code, "not-observed")
        self.assertIn("/v1/environment/chaos/heal", dict(self.daemon.requests))

    def test_durations_are_those_of_the_command_line(self):
        self.assertEqual([environments.milliseconds(value) for value in (0.5, 2, "300ms", "2s", "5m", "1h")], [500, 2000, 300, 2000, 300_000, 3_600_000])
        with self.assertRaises(ValueError):
            environments.milliseconds("5 days")

    def test_waiting_raises_the_failure_in_the_stream(self):
        self.daemon.answers["/v1/environment/wait"] = (200, b'{"progress": {}}\n{"failed": {"code": "timed-out", "message": "not ready"}}\n')
        with self.assertRaisesRegex(DevenvError, "not ready"):
            self.environment.wait()

    def test_closing_takes_the_environment_down_but_not_that_of_devenv_test(self):
        self.daemon.answers["/v1/operations/submit"] = (200, b'{"accepted": {}}\n{"done": {"operation": {}, "result": {}}}\n')
        Environment(Connection(self.daemon.path), TARGET, True).close()
        self.assertEqual(self.daemon.requests, [])
        self.environment.close()
        self.assertEqual(self.daemon.requests[0][1]["request"], {"down": {"target": TARGET, "volumes": True}})


class PlaceTests(Case):
    def test_a_socket_in_a_directory_that_others_can_write_is_sent_nothing(self):
        os.chmod(self.daemon.directory, 0o777)
        with self.assertRaises(DevenvError) as raised:
            self.environment.status()
        self.assertEqual((raised.exception.code, self.daemon.requests), ("foreign-socket", []))

    def test_a_missing_daemon_and_an_answer_of_something_else_are_reported(self):
        with self.assertRaises(DevenvError) as raised:
            Environment(Connection(self.daemon.directory + "/none"), TARGET, False).status()
        self.assertEqual(raised.exception.code, "no-daemon")
        self.daemon.answers["/v1/environment/status"] = (200, b"<html>")
        with self.assertRaises(DevenvError) as raised:
            self.environment.status()
        self.assertEqual(raised.exception.code, "unexpected")


class ProgramTests(Case):
    def program(self, text):
        path = Path(self.daemon.directory, "devenv")
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DEVENV_")}
        self.enterContextOf(mock.patch.dict(os.environ, {**clean, "DEVENV_BIN": str(path)}, clear=True))

    def enterContextOf(self, context):
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def test_an_environment_is_started_once_for_each_request(self):
        record = f"{self.daemon.directory}/calls"
        self.program(f"""echo "$@" >> {record}
case $1 in up) echo '{{"project": "/p", "instance": "i"}}';; *) echo '{{"running": true, "socket": "{self.daemon.path}"}}';; esac""")
        one, two = (Environment.shared("ci", project="/p", instance="i", timeout=90) for _ in range(2))
        self.assertIs(one, two)
        self.assertEqual(one.target, {"project": "/p", "instance": "i"})
        calls = Path(record).read_text().splitlines()
        self.assertEqual(calls, ["up ci --timeout 90s --project /p --instance i --json --quiet", "daemon status --json --quiet"])

    def test_under_devenv_test_the_environment_is_the_given_one(self):
        self.program(f"""[ "$1" = daemon ] && echo '{{"running": true, "socket": "{self.daemon.path}"}}'""")
        with mock.patch.dict(os.environ, {"DEVENV_PROJECT": "/given", "DEVENV_INSTANCE": "test-1"}):
            found = Environment.shared("ci")
        self.assertEqual((found.target, found.given), ({"project": "/given", "instance": "test-1"}, True))

    def test_what_devenv_reports_is_raised_with_its_place(self):
        problem = '{"file": "a.yaml", "line": 2, "column": 3, "message": "unknown field", "severity": "error", "code": "x"}'
        self.program(f"""echo '{{"error": {{"code": "invalid-profile", "message": "bad", "problems": [{problem}]}}}}'; exit 2""")
        with self.assertRaises(DevenvError) as raised:
            Environment.shared("broken")
        self.assertEqual((raised.exception.code, str(raised.exception)), ("invalid-profile", "bad\na.yaml:2:3: unknown field"))

    def test_a_program_that_is_missing_or_prints_no_json_is_reported(self):
        self.program("echo what >&2; exit 1")
        with self.assertRaisesRegex(DevenvError, "what"):
            Environment.shared("one")
        os.environ["DEVENV_BIN"] = "/nowhere/devenv"
        with self.assertRaises(DevenvError) as raised:
            Environment.shared("two")
        self.assertEqual(raised.exception.code, "no-program")


if __name__ == "__main__":
    unittest.main()
