"""Fixtures for pytest. All workers of pytest-xdist share one environment, and each test has leases of its own.

The daemon makes the sharing safe: every worker asks for `up`, one start serves all of them, and a lease belongs to the
connection of one worker. So nothing is coordinated here, and nothing is left when a worker is killed.
"""
import os
from typing import Any, Iterator, Optional

import pytest

from .environment import Environment
from .leases import Leases, PrivateDatabase, PrivateRedis, PrivateTopics, PrivateVirtualHost

# In the name of an instance: replaced by the worker's name, so that each has an environment of its own.
WORKER = "{worker}"
# In what a worker tells the process that started it.
USED = "devenv_used"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("devenv", "devenv: real services for tests")
    group.addoption("--devenv-profile", metavar="PROFILE", help="the profile to start (default: ini devenv_profile, else the one that runs, else default)")
    group.addoption("--devenv-instance", metavar="NAME", help="the instance; {worker} in it stands for the xdist worker (default: ini devenv_instance, else default)")
    group.addoption("--devenv-close", action="store_true", help="stop the environment when the run is over (default: it stays up for the next run)")
    parser.addini("devenv_profile", "the profile to start")
    parser.addini("devenv_instance", "the instance; {worker} in it stands for the xdist worker")
    parser.addini("devenv_project", "the directory that holds profiles/, from the ini file's directory (default: found upwards from there)")


@pytest.fixture(scope="session")
def devenv(pytestconfig: pytest.Config) -> Iterator[Environment]:
    """The environment, up. Without an engine, or if it does not start, the tests that need it fail."""
    environment = _environment(pytestconfig)
    if hasattr(pytestconfig, "workeroutput"):
        pytestconfig.workeroutput[USED] = True
    yield environment
    # One of its own is closed by its worker; a shared one by the process that outlives all workers.
    if pytestconfig.getoption("devenv_close") and (not _is_worker(pytestconfig) or _is_own(pytestconfig)):
        environment.close()


@pytest.fixture
def leases(devenv: Environment) -> Iterator[Leases]:
    """What the test asks of this belongs to it alone, and ends with it: `leases.postgres("orders").url`."""
    leases = Leases(devenv)
    try:
        yield leases
    finally:
        leases.release()


@pytest.fixture
def devenv_postgres(leases: Leases) -> PrivateDatabase:
    """A copy of the first database of the first PostgreSQL service, as it was seeded."""
    return leases.postgres()


@pytest.fixture
def devenv_mariadb(leases: Leases) -> PrivateDatabase:
    """A copy of the first database of the first MariaDB service, as it was seeded."""
    return leases.mariadb()


@pytest.fixture
def devenv_redis(leases: Leases) -> PrivateRedis:
    """An empty database of the first Redis service."""
    return leases.redis()


@pytest.fixture
def devenv_kafka(leases: Leases) -> PrivateTopics:
    """Private names of topics and groups on the first Kafka or Redpanda service."""
    return leases.kafka()


@pytest.fixture
def devenv_rabbitmq(leases: Leases) -> PrivateVirtualHost:
    """A virtual host on the first RabbitMQ service."""
    return leases.rabbitmq()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Optional[object]) -> None:
    """A worker has ended. One that was killed does not say whether it used the environment."""
    if error or getattr(node, "workeroutput", {}).get(USED):
        setattr(node.config, USED, True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Closes the environment that workers shared, if that is wanted. They have all ended."""
    config = session.config
    if config.getoption("devenv_close") and getattr(config, USED, False) and not _is_own(config):
        _environment(config).close()


def _environment(config: pytest.Config) -> Environment:
    project = config.getini("devenv_project")
    instance = _instance(config)
    if instance is None and os.environ.get("DEVENV_PROJECT") and os.environ.get("DEVENV_INSTANCE"):
        # The one of `devenv test` has another project directory only if that is meant.
        project = None
    elif project:
        project = os.path.normpath(os.path.join(str(config.inipath.parent if config.inipath else config.rootpath), project))
    return Environment.shared(
        config.getoption("devenv_profile") or config.getini("devenv_profile") or None,
        project=project or None,
        instance=instance.replace(WORKER, _worker(config)) if instance else None,
    )


def _instance(config: pytest.Config) -> Optional[str]:
    return config.getoption("devenv_instance") or config.getini("devenv_instance") or None


def _is_own(config: pytest.Config) -> bool:
    return WORKER in (_instance(config) or "")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def _worker(config: pytest.Config) -> str:
    return str(config.workerinput["workerid"]) if hasattr(config, "workerinput") else "main"
