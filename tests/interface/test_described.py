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
import unittest
from pathlib import Path

from world import DEADLINE, World

HERE = Path(__file__).parent
SECONDS = os.environ.get("INTERFACE_SECONDS")
# Asked by tests of their own: they end the daemon, never end, or read and write the file that they name.
LEFT_OUT = ["/v1/daemon/stop", "/v1/operations/follow", "/v1/ui", "/v1/images/save", "/v1/images/load"]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,each_line_fits"


class Bridge(socketserver.ThreadingTCPServer):
    """The daemon's socket as a port, because schemathesis knows no Unix sockets. For as long as the test runs."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, path):
        super().__init__(("127.0.0.1", 0), None)
        self.path = path

    def finish_request(self, request, address):
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.connect(self.path)
            while True:
                for ready in select.select([request, daemon], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    (daemon if ready is request else request).sendall(data)

    def handle_error(self, request, address):
        pass


class Described(unittest.TestCase):
    def test_no_answer_is_undocumented(self):
        world = World()
        self.addCleanup(world.close)
        status = world.json("up", "--yes")
        bridge = Bridge(world.json("daemon", "status")["socket"])
        self.addCleanup(bridge.server_close)
        self.addCleanup(bridge.shutdown)
        threading.Thread(target=bridge.serve_forever, daemon=True).start()
        document = world.root / "openapi.json"
        document.write_text(world.run("openapi"))
        words = ["run", document, "--url", f"http://127.0.0.1:{bridge.server_address[1]}", "--checks", CHECKS, "--request-timeout", "60", "--warnings", "off", "--no-color"]
        # A busy machine generates slowly.
        words += ["--suppress-health-check", "all"]
        words += [word for path in LEFT_OUT for word in ("--exclude-path", path)]
        words += ["--phases", "coverage,fuzzing", *(["--max-time", SECONDS] if SECONDS else ["--max-examples", "5", "--seed", "1"])]
        target = f'{{"project": "{status["project"]}", "instance": "{status["instance"]}"}}'
        variables = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "TARGET": target}
        done = subprocess.run([Path(sys.executable).with_name("schemathesis"), *words], cwd=world.root, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE + int(SECONDS or 0))
        self.assertEqual(done.returncode, 0, done.stdout)
        selected, total = map(int, re.search(r"(\d+) selected / (\d+) total", done.stdout).groups())
        self.assertEqual(selected, total - len(LEFT_OUT), done.stdout)
        print(*re.findall(r"Test cases:\n +(.*)", done.stdout), file=sys.stderr)
        # It is alive, and what it runs too.
        self.assertNotEqual(world.json("status")["phase"], "absent", world.run("operations"))


if __name__ == "__main__":
    unittest.main()
