"""The daemon's answers are those of its OpenAPI document: schemathesis asks every route with right and wrong requests.

`make test` runs the cases that schemathesis derives from the document, and a few random ones from a fixed seed. More, from a new seed:
`INTERFACE_SECONDS=600 DEVENV=target/debug/devenv $(scripts/setup interface) -m unittest discover -s tests/interface -p test_described.py`.
"""
import os
import re
import select
import socket
import socketserver
import subprocess
import sys
import threading
import time
import unittest
from pathlib import Path

from world import DEADLINE, World

HERE = Path(__file__).parent
SECONDS = os.environ.get("INTERFACE_SECONDS")
# Answers that last as long as the connection. The bridge ends them after the first lines.
ENDLESS = ("/v1/operations/follow", "/v1/ui")
# Ends the daemon. The bridge starts the next one.
STOP = "/v1/daemon/stop"
# Seconds without another line, after which an endless answer ends.
QUIET = 0.3
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,each_line_fits"


class Bridge(socketserver.ThreadingTCPServer):
    """The daemon's socket as a port, because schemathesis knows no Unix sockets. For as long as the test runs."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, world, path):
        super().__init__(("127.0.0.1", 0), None)
        self.world = world
        self.path = path
        # Held while there is no daemon.
        self.present = threading.Lock()

    def finish_request(self, request, address):
        with self.present:
            daemon = socket.socket(socket.AF_UNIX)
            daemon.connect(self.path)
        with daemon:
            path, streams = "", False
            while True:
                ready = select.select([request, daemon], [], [], QUIET if streams else None)[0]
                if not ready:
                    # The end of an answer in chunks.
                    request.sendall(b"0\r\n\r\n")
                    return
                for side in ready:
                    data = side.recv(65536)
                    if not data:
                        return
                    if side is request:
                        if found := re.match(rb"[A-Z]+ (/[^ ?]*)", data):
                            path = found[1].decode()
                        daemon.sendall(data)
                    elif path == STOP and re.match(rb"HTTP/1.1 2", data):
                        with self.present:
                            request.sendall(last(data))
                            self.next_daemon()
                        return
                    elif path in ENDLESS and re.match(rb"HTTP/1.1 2", data):
                        streams = True
                        request.sendall(last(data))
                    else:
                        request.sendall(data)

    def next_daemon(self):
        """Waits for the end of the daemon, and starts the next."""
        for _ in range(100):
            # It may be gone in the middle of an answer.
            self.world.run("daemon", "stop", check=False)
            if self.world.run("status", check=False):
                return
            time.sleep(0.2)

    def handle_error(self, request, address):
        pass


def last(answer):
    """An answer after which the client does not use the connection again."""
    return answer.replace(b"\r\n", b"\r\nconnection: close\r\n", 1)


class Described(unittest.TestCase):
    def test_no_answer_is_undocumented(self):
        world = World()
        self.addCleanup(world.close)
        status = world.json("up", "--yes")
        bridge = Bridge(world, world.json("daemon", "status")["socket"])
        self.addCleanup(bridge.server_close)
        self.addCleanup(bridge.shutdown)
        threading.Thread(target=bridge.serve_forever, daemon=True).start()
        document = world.root / "openapi.json"
        document.write_text(world.run("openapi"))
        words = ["run", document, "--url", f"http://127.0.0.1:{bridge.server_address[1]}", "--checks", CHECKS, "--request-timeout", "60", "--warnings", "off", "--no-color"]
        # A busy machine generates slowly.
        words += ["--suppress-health-check", "all"]
        words += ["--phases", "coverage,fuzzing", *(["--max-time", SECONDS] if SECONDS else ["--max-examples", "5", "--seed", "1"])]
        target = f'{{"project": "{status["project"]}", "instance": "{status["instance"]}"}}'
        variables = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "TARGET": target, "ARCHIVES": str(world.root)}
        done = subprocess.run([Path(sys.executable).with_name("schemathesis"), *words], cwd=world.root, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=3 * DEADLINE + int(SECONDS or 0))
        self.assertEqual(done.returncode, 0, done.stdout)
        selected, total = map(int, re.search(r"(\d+) selected / (\d+) total", done.stdout).groups())
        self.assertEqual(selected, total, done.stdout)
        print(*re.findall(r"Test cases:\n +(.*)", done.stdout), file=sys.stderr)
        # It is alive, and what it runs too.
        self.assertNotEqual(world.json("status")["phase"], "absent", world.run("operations"))


if __name__ == "__main__":
    unittest.main()
