"""A private database for each test, from one environment that all workers share. Copy this file, or import it in conftest.py."""
import json
import os
import subprocess

import pytest

DEVENV = os.environ.get("DEVENV_BIN", "devenv")
PROJECT = os.environ.get("DEVENV_PROJECT") or os.path.join(os.path.dirname(__file__), "..", "project")
INSTANCE = os.environ.get("DEVENV_INSTANCE", "default")
PLACE = ["--project", PROJECT, "--instance", INSTANCE]


@pytest.fixture(scope="session")
def environment():
    """Up, whoever came first: with pytest-xdist every worker asks, and the daemon does it once."""
    if "DEVENV_INSTANCE" not in os.environ:  # under `devenv test` it is up already
        subprocess.run([DEVENV, *PLACE, "up", "ci", "--quiet"], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def lease(environment):
    """All variables, with values that are this test's alone. The pipe is the claim: if this process dies, the lease ends."""
    holder = subprocess.Popen([DEVENV, *PLACE, "lease", "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    granted = json.loads(holder.stdout.readline())
    if "error" in granted:
        pytest.fail(granted["error"]["message"])
    yield granted["variables"]
    holder.communicate()  # closes stdin, which gives the lease back


@pytest.fixture
def database_url(lease):
    return lease["DATABASE_URL"]
