"""The generated files are those of the daemon's interface of today."""
import subprocess
import sys
import unittest

from world import BINARY, CLIENTS


class Generated(unittest.TestCase):
    def test_types_and_routes_are_those_of_the_interface(self):
        done = subprocess.run([sys.executable, CLIENTS / "generate.py", BINARY, "--check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout)


if __name__ == "__main__":
    unittest.main()
