"""A devenv of its own for the tests of the packages: a project, its environments, and what tests see of its servers."""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

CLIENTS = Path(__file__).resolve().parents[1]
GUIDE = CLIENTS.parent / "docs/guide/clients.md"
BINARY = os.environ.get("DEVENV", str(CLIENTS.parent / "target/debug/devenv"))
# Seconds; for what takes a few on an idle machine.
DEADLINE = 600


class World:
    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="devenv-clients-"))
        self.project = self.root / "project"
        shutil.copytree(CLIENTS / "fixture", self.project)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DEVENV_")}
        self.variables = {**clean, "DEVENV_BIN": BINARY, "DEVENV_STATE_DIR": str(self.root / "state"), "DEVENV_RUNTIME_DIR": str(self.root / "run")}

    def run(self, *command, where=None, check=True):
        """In a terminal's place: its output, and its exit code if that may be another than 0."""
        done = subprocess.run(command, cwd=where or self.project, env=self.variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE)
        assert not check or done.returncode == 0, f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}"
        return done

    def devenv(self, *words):
        done = subprocess.run([BINARY, *words, "--json", "--quiet"], cwd=self.project, env=self.variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=DEADLINE)
        assert done.returncode == 0, f"devenv {' '.join(words)}: {done.stdout}"
        return json.loads(done.stdout)

    def write_samples(self, readme, into):
        """The samples of a page whose first line names their file."""
        into.mkdir(parents=True, exist_ok=True)
        names = []
        for _, text in re.findall(r"^```(\w+)\n(.*?)^```", readme.read_text(encoding="utf-8"), re.S | re.M):
            if named := re.match(r"(?:#|//) (\S+\.\w+)\n", text):
                (into / named[1]).write_text(text, encoding="utf-8")
                names.append(named[1])
        return names

    def databases(self):
        with psycopg.connect(self.devenv("env", "--format", "json")["DATABASE_URL"]) as connection:
            return {name for name, in connection.execute("SELECT datname FROM pg_database")}

    def until_gone(self, name):
        ends = time.monotonic() + 120
        while name in self.databases():
            assert time.monotonic() < ends, f"the database {name} is still there, two minutes after its process was killed"
            time.sleep(0.2)

    def close(self):
        for words in [["down", "--all", "--volumes"], ["gc", "--all"], ["daemon", "stop"]]:
            self.run(BINARY, *words, check=False)
        shutil.rmtree(self.root, ignore_errors=True)


def copied(package, into):
    """A package's sources without what builds leave in them."""
    shutil.copytree(CLIENTS / package, into, ignore=shutil.ignore_patterns("node_modules", "dist", "build", "*.egg-info", "__pycache__"))
    # The licence's file is this one.
    assert (into / "LICENSE").read_text() == (CLIENTS.parent / "LICENSE").read_text(), f"clients/{package}/LICENSE is not the project's"
    return into


def python(*words):
    return [sys.executable, *words]
