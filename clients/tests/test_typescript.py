"""The Node package as a user has it: packed, installed in an empty project, with real servers."""
import json
import subprocess
import unittest

from world import CLIENTS, GUIDE, World, copied

HOLDER = """import { Environment } from "devenv-testing";
const database = await (await Environment.shared("ci")).postgres("orders");
console.log(database.name);
setInterval(() => {}, 1000);
"""
UNHELD = """import { Environment } from "devenv-testing";
await (await Environment.shared("ci")).redis();
"""


class TypeScriptPackage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        source = copied("typescript", cls.world.root / "source")
        cls.npm(source, "ci")
        packed = cls.npm(source, "pack", "--json").stdout
        cls.packed = json.loads(packed[packed.rindex("\n[\n") if "\n[\n" in packed else packed.index("["):])[0]
        versions = json.loads((source / "package.json").read_text())["devDependencies"]
        used = {name: versions[name] for name in ("jest", "pg", "redis", "vitest")}
        (cls.world.project / "package.json").write_text(json.dumps({"private": True, "devDependencies": used}))
        cls.npm(cls.world.project, "install", "--save-dev", str(source / cls.packed["filename"]))
        cls.names = [name for page in (CLIENTS / "typescript/README.md", GUIDE) for name in cls.world.write_samples(page, cls.world.project)]

    @classmethod
    def npm(cls, where, *words):
        return cls.world.run("npm", *words, "--no-fund", "--no-audit", "--loglevel", "error", where=where)

    def test_the_package_holds_what_is_needed_and_no_more(self):
        files = {file["path"] for file in self.packed["files"]}
        self.assertLessEqual({"LICENSE", "README.md", "package.json", "dist/esm/index.js", "dist/esm/index.d.ts", "dist/cjs/index.js", "dist/cjs/package.json"}, files)
        self.assertFalse([name for name in files if not name.startswith("dist/") and name not in ("LICENSE", "README.md", "package.json")])

    def test_the_samples_for_vitest_run(self):
        # The samples for Jest are in the same project.
        self.world.run("npx", "vitest", "run", "orders.test.ts", "private.test.ts")

    def test_the_samples_for_jest_run(self):
        self.world.run("npx", "jest")

    def test_the_sample_without_a_runner_runs_and_ends(self):
        self.assertIn("connect to", self.world.run("node", "script.mjs").stdout)

    def test_a_lease_that_is_held_does_not_keep_a_program_from_ending(self):
        (self.world.project / "unheld.mjs").write_text(UNHELD)
        self.world.run("node", "unheld.mjs")

    def test_a_killed_process_leaves_no_database(self):
        (self.world.project / "holder.mjs").write_text(HOLDER)
        with subprocess.Popen(["node", "holder.mjs"], cwd=self.world.project, env=self.world.variables, stdout=subprocess.PIPE, text=True) as holder:
            name = holder.stdout.readline().strip()
            held = name in self.world.databases()
            holder.kill()
        self.assertTrue(name and held)
        self.world.until_gone(name)


if __name__ == "__main__":
    unittest.main()
