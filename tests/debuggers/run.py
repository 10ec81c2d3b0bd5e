#!/usr/bin/env python3
"""Breakpoints across reloads, with the real debuggers: hit, file saved, reloaded, hit again on the same port.

    tests/debuggers/run.py [--binary target/debug/devenv]

Python's needs `debugpy`, in the interpreter that DEBUGPY_PYTHON names (else a virtual environment is made for it);
Node's needs `node`. No client library is used: this speaks both protocols by hand.
"""
import argparse, base64, json, os, shutil, socket, struct, subprocess, sys, tempfile, threading, time, urllib.request
from pathlib import Path

PYTHON = '''\
import http.server, os
VERSION = 1
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        answer = f"version {VERSION}"
        self.send_response(200); self.end_headers(); self.wfile.write(answer.encode())
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
'''
NODE = '''\
const VERSION = 1
require('node:http').createServer((request, response) => {
  const answer = `version ${VERSION}`
  response.end(answer)
}).listen(process.env.PORT, '127.0.0.1')
'''
PROFILE = """\
services:
  api:
    process: {{ command: [sh, -c, '{command}'], port: 0, debug_port: 0 }}
    probe: {{ tcp: {{}} }}
    stop: {{ grace: 2s }}
    watch: [{{ paths: [app], on_change: {on_change} }}]
"""


class DebugAdapter:
    """As much of the Debug Adapter Protocol as a breakpoint needs."""

    def __init__(self, port, file, line):
        self.socket = connect(port)
        self.reader, self.sequence, self.waiting = self.socket.makefile("rb"), 0, []
        self.ask("initialize", adapterID="devenv", pathFormat="path")
        self.send("attach", justMyCode=True)
        self.await_event("initialized")
        placed = self.ask("setBreakpoints", source={"path": str(file)}, breakpoints=[{"line": line}])
        assert placed["breakpoints"][0]["verified"], placed
        self.ask("configurationDone")

    def paused_at(self):
        thread = self.await_event("stopped")["threadId"]
        frame = self.ask("stackTrace", threadId=thread)["stackFrames"][0]
        self.ask("continue", threadId=thread)
        return frame["line"]

    def close(self):
        self.socket.close()

    def send(self, command, **arguments):
        self.sequence += 1
        body = json.dumps({"seq": self.sequence, "type": "request", "command": command, "arguments": arguments}).encode()
        self.socket.sendall(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return self.sequence

    def ask(self, command, **arguments):
        sequence = self.send(command, **arguments)
        answer = self.take(lambda message: message["type"] == "response" and message["request_seq"] == sequence)
        assert answer["success"], answer
        return answer.get("body") or {}

    def await_event(self, name):
        return self.take(lambda message: message["type"] == "event" and message["event"] == name).get("body") or {}

    def take(self, wanted):
        for index, message in enumerate(self.waiting):
            if wanted(message):
                return self.waiting.pop(index)
        while True:
            length = 0
            while (line := self.reader.readline().strip()):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            if not length:
                raise OSError("the debugger closed the connection")
            message = json.loads(self.reader.read(length))
            if wanted(message):
                return message
            self.waiting.append(message)


class Inspector:
    """As much of Node's inspector protocol as a breakpoint needs."""

    def __init__(self, port, file, line):
        target = until("the inspector's list", lambda: json.loads(get(f"http://127.0.0.1:{port}/json/list")))[0]
        self.socket = connect(port)
        path = target["webSocketDebuggerUrl"].split(str(port), 1)[1]
        key = base64.b64encode(os.urandom(16)).decode()
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        self.socket.sendall(head.encode())
        self.reader, self.sequence, self.waiting = self.socket.makefile("rb"), 0, []
        assert b"101" in self.reader.readline()
        while self.reader.readline().strip():
            pass
        self.ask("Runtime.enable")
        self.ask("Debugger.enable")
        placed = self.ask("Debugger.setBreakpointByUrl", url=f"file://{file}", lineNumber=line - 1)
        assert placed["locations"], placed

    def paused_at(self):
        frame = self.take(lambda message: message.get("method") == "Debugger.paused")["params"]["callFrames"][0]
        self.ask("Debugger.resume")
        return frame["location"]["lineNumber"] + 1

    def close(self):
        self.socket.close()

    def ask(self, method, **parameters):
        self.sequence += 1
        sequence = self.sequence
        body, mask = json.dumps({"id": sequence, "method": method, "params": parameters}).encode(), os.urandom(4)
        length = bytes([0x80 | len(body)]) if len(body) < 126 else bytes([0x80 | 126]) + struct.pack(">H", len(body))
        self.socket.sendall(b"\x81" + length + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(body)))
        answer = self.take(lambda message: message.get("id") == sequence)
        assert "result" in answer, answer
        return answer["result"]

    def take(self, wanted):
        for index, message in enumerate(self.waiting):
            if wanted(message):
                return self.waiting.pop(index)
        while True:
            kind, length = self.reader.read(2)
            if length == 126:
                length = struct.unpack(">H", self.reader.read(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", self.reader.read(8))[0]
            data = self.reader.read(length)
            if kind != 0x81:
                continue
            message = json.loads(data)
            if wanted(message):
                return message
            self.waiting.append(message)


def connect(port):
    def attempt():
        return socket.create_connection(("127.0.0.1", port), timeout=20)

    return until(f"a debugger on port {port}", attempt)


def get(url):
    with urllib.request.urlopen(url, timeout=30) as reply:
        return reply.read().decode()


def until(what, probe, seconds=20):
    end = time.monotonic() + seconds
    while True:
        try:
            if found := probe():
                return found
        except (OSError, ValueError):
            pass
        if time.monotonic() > end:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def case(binary, name, on_change, command, file, source, marked, debugger):
    root = Path(tempfile.mkdtemp(prefix="devenv-debuggers-"))
    project = root / "project"
    environment = dict(os.environ, DEVENV_STATE_DIR=str(root / "state"), DEVENV_RUNTIME_DIR=str(root / "run"), NO_COLOR="1")

    def devenv(*arguments):
        done = subprocess.run([binary, *arguments], cwd=project, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"devenv {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    (project / "profiles").mkdir(parents=True)
    (project / "app").mkdir()
    (project / "profiles/default.yaml").write_text(PROFILE.format(command=command, on_change=on_change))
    path = project / "app" / file
    path.write_text(source)
    try:
        devenv("up")
        url = json.loads(devenv("env", "--format", "json"))["API_URL"]
        ports = set()
        for version in (1, 2, 3):
            service = json.loads(devenv("status", "--json"))["services"][0]
            ports.add(port := service["ports"][1]["host"])
            line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if marked in text)
            attached = debugger(port, path, line)
            answers = []
            asking = threading.Thread(target=lambda: answers.append(get(url)), daemon=True)
            asking.start()
            hit = attached.paused_at()
            asking.join(20)
            attached.close()
            assert hit == line and answers == [f"version {version}"], (hit, line, answers)
            # Saved with a line more above the breakpoint, so that an old place would not do.
            comment = "#" if file.endswith(".py") else "//"
            path.write_text(comment + "\n" + path.read_text().replace(f"VERSION = {version}", f"VERSION = {version + 1}"))
            until(f"version {version + 1}", lambda: get(url) == f"version {version + 1}")
        assert len(ports) == 1, ports
        print(f"ok    {name}, {on_change}: hit in three versions on port {ports.pop()}")
    finally:
        subprocess.run([binary, "down"], cwd=project, env=environment, capture_output=True)
        subprocess.run([binary, "daemon", "stop"], cwd=project, env=environment, capture_output=True)
        shutil.rmtree(root, ignore_errors=True)


def python_with_debugpy(scratch):
    if given := os.environ.get("DEBUGPY_PYTHON"):
        return given
    subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
    subprocess.run([f"{scratch}/bin/pip", "-q", "install", "debugpy"], check=True)
    return f"{scratch}/bin/python"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", default="target/debug/devenv")
    binary = str(Path(parser.parse_args().binary).resolve())
    with tempfile.TemporaryDirectory() as scratch:
        python = python_with_debugpy(scratch)
        debugpy = f"exec {python} -Xfrozen_modules=off -m debugpy --listen 127.0.0.1:$$DEBUG_PORT app/server.py"
        inspect = "exec node --inspect=127.0.0.1:$$DEBUG_PORT app/server.js"
        for on_change in ("restart", "swap"):
            case(binary, "Python with debugpy", on_change, debugpy, "server.py", PYTHON, "answer = ", DebugAdapter)
            case(binary, "Node with its inspector", on_change, inspect, "server.js", NODE, "response.end", Inspector)


main()
