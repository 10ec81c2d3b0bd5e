"""A devenv of its own for the tests of its interfaces: a project with a database and a process. Nothing of it is left."""
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The tests run it in directories of their own.
BINARY = Path(os.environ.get("DEVENV", ROOT / "target/debug/devenv")).resolve()
# Seconds; for what takes a few on an idle machine.
DEADLINE = 600
PROFILE = """\
services:
  db:
    postgres: { databases: { app: {} } }
  web:
    process: { command: [python3, -u, -c, "import time; print('ready', flush=True); time.sleep(1e6)"] }
    probe: { log: ready }
"""


class World:
    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="devenv-interface-"))
        self.project = self.root / "project"
        (self.project / "profiles").mkdir(parents=True)
        (self.project / "profiles/default.yaml").write_text(PROFILE)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DEVENV_")}
        self.variables = {**clean, "DEVENV_STATE_DIR": str(self.root / "state"), "DEVENV_RUNTIME_DIR": str(self.root / "run")}

    def run(self, *words, check=True):
        done = subprocess.run([BINARY, *words], cwd=self.project, env=self.variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE)
        assert not check or done.returncode == 0, f"devenv {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words):
        return json.loads(self.run(*words, "--json"))

    def close(self):
        for words in [["down", "--all", "--volumes"], ["gc", "--all"], ["daemon", "stop"]]:
            self.run(*words, check=False)
        shutil.rmtree(self.root, ignore_errors=True)
