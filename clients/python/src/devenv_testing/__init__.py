"""Real services for tests: one devenv environment for all test processes, and a private part of it for each test.

    from devenv_testing import Environment

    environment = Environment.shared("ci")
    with environment.postgres("orders") as orders:
        print("connect to", orders.url)

With pytest, the fixtures of `devenv_testing.pytest_plugin` are there without an import. `devenv` is found by `DEVENV_BIN`,
else in `PATH`.
"""
from . import types
from .api import Api
from .environment import Address, Environment
from .errors import DevenvError
from .leases import Lease, Leases, PrivateDatabase, PrivateRedis, PrivateTopics, PrivateVirtualHost

__all__ = [
    "Address",
    "Api",
    "DevenvError",
    "Environment",
    "Lease",
    "Leases",
    "PrivateDatabase",
    "PrivateRedis",
    "PrivateTopics",
    "PrivateVirtualHost",
    "types",
]
