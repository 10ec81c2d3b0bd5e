"""The Python package as a user has it: built, installed in an empty project, with real servers."""
import sys
import unittest
from pathlib import Path

from world import BINARY, CLIENTS, GUIDE, World, copied, python

FORTY = """import pytest, psycopg

@pytest.mark.parametrize("number", range(40))
def test_one_of_forty(devenv_postgres, number, tmp_path_factory):
    with psycopg.connect(devenv_postgres.url) as connection:
        connection.execute("DELETE FROM item WHERE id = 1")
        assert connection.execute("SELECT count(*) FROM item").fetchone() == (2,)
    with open("names", "a") as names:
        names.write(devenv_postgres.name + "\\n")
"""
KILLED = """import os, signal

def test_its_worker_is_killed(devenv_postgres):
    with open("killed", "w") as file:
        file.write(devenv_postgres.name)
    os.kill(os.getpid(), signal.SIGKILL)

def test_another_goes_on(devenv_postgres):
    assert devenv_postgres.name
"""
KINDS = """import os

def test_every_kind(leases):
    topics, database, queue = leases.kafka(), leases.mariadb("app"), leases.rabbitmq()
    assert topics.topic("a") != "a" and ":" in topics.brokers
    assert database.url.startswith("mysql://") and database.name in database.url
    assert queue.url.startswith("amqp://") and queue.name in queue.url

def test_the_instance_is_the_workers(devenv):
    assert devenv.target["instance"] == "all-main"
"""


class PythonPackage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        source = copied("python", cls.world.root / "source")
        cls.world.run(*python("-m", "build", "--outdir", cls.world.root / "built"), where=source)
        wheel, = (cls.world.root / "built").glob("*.whl")
        cls.sdist = list((cls.world.root / "built").glob("*.tar.gz"))
        cls.world.run(*python("-m", "venv", cls.world.root / "venv"))
        cls.python = str(cls.world.root / "venv/bin/python")
        cls.world.run(cls.python, "-m", "pip", "install", "--quiet", wheel, "--requirement", CLIENTS / "tests/requirements.txt")

    def pytest(self, *words, check=True):
        return self.world.run(self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, check=check)

    def test_the_types_hold(self):
        self.world.run(sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--cache-dir", str(self.world.root / "mypy"), where=CLIENTS / "python")
        self.assertEqual(len(self.sdist), 1)

    def test_the_samples_of_the_readme_and_of_the_guide_run(self):
        names = self.world.write_samples(CLIENTS / "python/README.md", self.world.project)
        self.assertEqual(names, ["pytest.ini", "test_orders.py", "test_slow_cache.py", "script.py"])
        self.pytest("-n", "4", "test_orders.py")
        self.assertIn("test_private.py", self.world.write_samples(GUIDE, self.world.project))
        self.pytest("test_private.py")
        self.pytest("test_slow_cache.py")
        self.assertIn("ready", self.world.run(self.python, "script.py").stdout)

    def test_forty_tests_of_four_workers_have_forty_databases(self):
        (self.world.project / "test_forty.py").write_text(FORTY)
        # One that is not up: all workers ask for its start at once.
        self.pytest("-n", "4", "--devenv-profile", "ci", "--devenv-instance", "forty", "--devenv-close", "test_forty.py")
        names = (self.world.project / "names").read_text().split()
        self.assertEqual((len(names), len(set(names))), (40, 40))
        self.assertEqual(self.world.devenv("status", "--instance", "forty")["phase"], "absent")

    def test_a_killed_worker_leaves_no_database(self):
        (self.world.project / "test_killed.py").write_text(KILLED)
        done = self.pytest("-n", "2", "--devenv-profile", "ci", "test_killed.py", check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("1 failed, 1 passed", done.stdout)
        self.world.until_gone((self.world.project / "killed").read_text())

    def test_under_devenv_test_the_environment_is_the_given_one(self):
        (self.world.project / "test_given.py").write_text("def test_it(devenv):\n    assert devenv.given and devenv.target['instance'] != 'default'\n")
        self.world.run(BINARY, "test", "ci", "--", self.python, "-m", "pytest", "-q", "-n", "2", "test_given.py")

    def test_every_kind_has_leases(self):
        (self.world.project / "test_kinds.py").write_text(KINDS)
        self.pytest("--devenv-profile", "all", "--devenv-instance", "all-{worker}", "--devenv-close", "test_kinds.py")

    def test_an_environment_that_does_not_start_fails_the_test_with_the_reason(self):
        (self.world.project / "profiles/broken.yaml").write_text("services: { db: { postgres: { nonsense: 1 } } }\n")
        (self.world.project / "test_broken.py").write_text("def test_it(devenv):\n    pass\n")
        done = self.pytest("--devenv-profile", "broken", "test_broken.py", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"profiles/broken.yaml:1:\d+: .*nonsense")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    unittest.main()
