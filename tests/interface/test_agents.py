"""`devenv mcp` with the client of the protocol's own authors (`mcp` on PyPI): every tool of the default scopes, and what is refused."""
import contextlib
import json
import unittest
import urllib.parse

from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.types import Implementation

from world import BINARY, DEADLINE, World

AGENT = "agent-of-another-author"
DEFAULT = {
    "status", "logs", "events", "why", "env", "outline", "query", "traces", "up", "down", "start", "stop", "restart",
    "snapshot_save", "inject_fault", "heal", "run_scenario",
}


class Agents(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.world = World()
        cls.addClassCleanup(cls.world.close)
        # The profile runs a program on the host, which a person allows.
        cls.world.run("up", "--yes")

    @contextlib.asynccontextmanager
    async def session(self, *words):
        server = StdioServerParameters(command=str(BINARY), args=["mcp", *words], env=self.world.variables, cwd=self.world.project)
        async with stdio_client(server) as (read, write), ClientSession(read, write, client_info=Implementation(name=AGENT, version="1")) as session:
            await session.initialize()
            yield session

    async def call(self, session, tool, **arguments):
        """The document of a call that succeeds."""
        return json.loads(await self.text(session, tool, **arguments))

    async def text(self, session, tool, **arguments):
        result = await session.call_tool(tool, arguments, read_timeout_seconds=DEADLINE)
        text = "".join(part.text for part in result.content)
        self.assertFalse(result.is_error, f"{tool}: {text}")
        return text

    async def refusal(self, session, tool, **arguments):
        """The text of a call that fails."""
        result = await session.call_tool(tool, arguments, read_timeout_seconds=DEADLINE)
        text = "".join(part.text for part in result.content)
        self.assertTrue(result.is_error, f"{tool}: {text}")
        return text

    async def test_an_agent_reads_starts_breaks_and_heals(self):
        async with self.session() as session:
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            self.assertEqual(set(tools), DEFAULT)
            self.assertTrue(all(tool.description and tool.input_schema["type"] == "object" for tool in tools.values()))
            status = await self.call(session, "status")
            self.assertEqual({service["name"]: service["state"] for service in status["services"]}, {"db": "ready", "web": "ready"})
            self.assertIn("ready", await self.text(session, "logs", services=["web"]))
            variables = await self.call(session, "env")
            self.assertIn("DATABASE_URL", json.dumps(variables))
            password = urllib.parse.urlsplit(self.world.json("env")["DATABASE_URL"]).password
            self.assertNotIn(password, json.dumps(variables))
            self.assertIn("app", json.dumps(await self.call(session, "outline", service="db")))
            rows = await self.call(session, "query", service="db", sql="SELECT 6 * 7 AS answer")
            self.assertEqual(rows["rows"], [["42"]])
            self.assertIn("read-only", await self.refusal(session, "query", service="db", sql="CREATE TABLE t (a int)"))
            self.assertIn("no service", await self.refusal(session, "traces"))
            await self.call(session, "stop", services=["web"])
            await self.call(session, "start", services=["web"])
            await self.call(session, "restart", services=["web"])
            fault = await self.call(session, "inject_fault", fault="pause", service="db", seconds=60)
            self.assertTrue(fault["witness"]["observed"], fault)
            await self.call(session, "heal", ids=[fault["id"]])
            await self.call(session, "up")
            await self.call(session, "snapshot_save", name="by-an-agent")
            why = await self.text(session, "why", service="web")
            self.assertIn("restart was requested", why)
            self.assertIn(f"restart, asked by agent {AGENT}", why)
            self.assertIn(AGENT, await self.text(session, "events", count=500))
        events = self.world.run("events")
        self.assertIn(f"asked by agent {AGENT}", events)

    async def test_what_is_not_allowed_is_neither_listed_nor_done(self):
        async with self.session("--allow", "read") as session:
            names = {tool.name for tool in (await session.list_tools()).tools}
            self.assertEqual(names, {"status", "logs", "events", "why", "env", "outline", "query", "traces"})
            self.assertIn("lifecycle", await self.refusal(session, "stop", services=["web"]))
        async with self.session() as session:
            self.assertIn("destroy", await self.refusal(session, "down", volumes=True))
            self.assertIn("destroy", await self.refusal(session, "snapshot_restore", name="x"))
        self.assertEqual(self.world.json("status")["phase"], "ready")

    async def test_wrong_arguments_and_unknown_tools_are_errors_and_the_session_goes_on(self):
        async with self.session() as session:
            self.assertIn("srevice", await self.refusal(session, "why", srevice="web"))
            self.assertIn("there is no tool `explode`", await self.refusal(session, "explode"))
            await session.send_ping()
            self.assertEqual((await self.call(session, "status"))["phase"], "ready")


if __name__ == "__main__":
    unittest.main()
