"""The page in a real browser. `make test` runs it; by hand: `DEVENV=target/debug/devenv python3 -m unittest discover -s tests/ui -v`."""
import json, re, sys, unittest, urllib.error, urllib.parse, urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from playwright.sync_api import expect
from world import AXE, HOSTILE, PATIENCE, VIEWS, answering, browser, go, page_of, patiently, pretend, pretend_all, world

# Of a daemon that is gone.
LOST = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")


SCENARIO = """\
description: The program of the web service is stopped for two seconds
profile: p
deadline: 100s
workload:
  visits: { http: { service: web, path: /, rate: 20/s } }
timeline:
  - { id: hold, at: 500ms, for: 2s, fault: stop, on: web }
checks:
  web.available: { min: 1% }
"""


class Shared(unittest.TestCase):
    """One browser and one environment for all tests that only look."""

    @classmethod
    def setUpClass(cls):
        cls.browser = cls.enterClassContext(browser())
        cls.world = cls.enterClassContext(world())

    def page(self, **options):
        return page_of(self.world, self.browser, **options)


class Looks(Shared):
    def test_services_follow_and_can_be_stopped_started_and_restarted(self):
        with self.page() as page:
            row = lambda name: page.get_by_role("table", name="Services").get_by_role("row").filter(has=page.get_by_role("cell", name=name, exact=True))
            row("web").get_by_text("ready").wait_for()
            row("once").get_by_text("completed").wait_for()
            page.get_by_role("button", name="Stop web").click()
            row("web").get_by_text("stopped").wait_for()
            page.get_by_role("button", name="Start web", exact=True).click()
            row("web").get_by_text("ready").wait_for()
            before = self.world.service("web")["pid"]
            page.get_by_role("button", name="Restart web").click()
            self.world.until("web has another process", lambda: self.world.service("web").get("pid") not in (None, before))

    def test_variables_are_masked_and_revealed_one_at_a_time(self):
        with self.page() as page:
            page.get_by_role("table", name="Services").get_by_role("link", name="web", exact=True).click()
            about = page.get_by_role("region", name="About web")
            about.get_by_text("PORT", exact=True).wait_for()
            about.get_by_role("heading", name="Why it is in this state").wait_for()

    def test_the_graph_shows_what_waits_for_what(self):
        with self.page() as page:
            page.get_by_role("button", name="Graph").click()
            page.get_by_text("Critical path").wait_for()
            expect(page.locator("svg .edge")).to_have_count(1, timeout=PATIENCE)

    def test_logs_are_filtered_by_text_expression_and_level_and_fold_json(self):
        with self.page() as page:
            go(page, "Logs")
            page.get_by_text(re.compile(r"tock \d+")).first.wait_for()
            page.get_by_label("Filter").fill("/^.*json .ine/")
            page.get_by_text("json line").first.wait_for()
            expect(page.get_by_role("main")).not_to_contain_text("tock", timeout=PATIENCE)
            page.get_by_text("json line").first.click()
            page.get_by_text('"user": 7').wait_for()
            page.get_by_label("Filter").fill("red and")
            self.assertEqual(page.locator(".a-red").first.inner_text(), "red")
            page.get_by_label("Filter").fill("/(/")
            expect(page.get_by_label("Filter")).to_have_attribute("aria-invalid", "true", timeout=PATIENCE)
            page.get_by_label("Filter").fill("")
            page.get_by_label("Level").select_option("error")
            page.get_by_text("json line").first.wait_for()
            page.get_by_label("Level").select_option("")
            self.world.until("there are more lines than fit", lambda: page.evaluate("(box => box.scrollHeight > 2 * box.clientHeight)(document.querySelector('.lines'))"))
            first = page.evaluate("document.querySelector('.lines').scrollTop = 0, new Promise(done => setTimeout(() => done(document.querySelector('.line time').textContent.slice(0, 8)), 500))")
            page.get_by_role("button", name="Paused").click()
            page.get_by_label("Go to").fill(first)
            page.get_by_label("Go to").press("Enter")
            page.get_by_role("button", name="Paused").wait_for()
            page.locator(".line time").filter(has_text=first).first.wait_for()

    def test_data_topics_traces_and_metrics_are_shown(self):
        with self.page() as page:
            pretend(page)
            go(page, "Data")
            page.get_by_text("item", exact=True).first.click()
            page.get_by_text("item 17", exact=True).first.wait_for()
            page.get_by_text("session:plain").wait_for()
            page.get_by_label("SQL").fill("delete from item")
            page.get_by_role("button", name="Run", exact=True).click()
            page.get_by_text("read-only transaction").wait_for()
            go(page, "Topics")
            page.get_by_role("table", name="Topics").get_by_text("orders").first.click()
            page.get_by_role("table", name="Messages").get_by_text("item 3", exact=True).wait_for()
            page.get_by_role("table", name="Consumer groups").get_by_role("cell", name="billing", exact=True).wait_for()
            go(page, "Traces")
            page.get_by_text("POST /pay").first.click()
            page.get_by_text("charge plain").first.click()
            page.get_by_text("http.url").wait_for()
            page.get_by_role("link", name="All traces").click()
            page.get_by_role("button", name="Map").click()
            call = page.get_by_role("table", name="Calls").get_by_role("row").filter(has_text="bank plain")
            call.wait_for()
            self.assertEqual(call.get_by_role("cell").all_inner_texts()[:3], ["checkout plain", "bank plain", "1"])
            page.get_by_role("link", name="Traces of bank plain").click()
            self.assertIn("service=bank", page.url)
            go(page, "Metrics")
            page.locator(".plot canvas").first.wait_for()

    def test_a_fault_can_be_injected_and_healed(self):
        with self.page() as page:
            go(page, "Chaos")
            page.get_by_role("button", name="Inject fault").first.click()
            page.get_by_label("Fault").select_option("stop")
            page.get_by_label("Service").select_option("web")
            page.get_by_role("dialog").get_by_role("button", name="Inject fault").click()
            page.get_by_role("table", name="Chaos").get_by_role("button", name="Heal").click()
            self.world.until("it is healed", lambda: not self.world.json("chaos", "status")["faults"])

    def test_scenarios_are_listed_run_and_reported_with_plots(self):
        with self.page() as page:
            pretend(page)
            asked = []
            page.route("**/api/chaos/run", answering(lambda body: asked.append(body)))
            page.route("**/api/chaos/end", answering(lambda body: asked.append("end")))
            go(page, "Chaos")
            page.get_by_role("link", name="Scenarios").click()
            row = page.get_by_role("table", name="Scenarios").get_by_role("row").filter(has_text="The store stops plain")
            row.get_by_text("stop on plain").wait_for()
            # One is running: another cannot be started.
            expect(row.get_by_role("button", name="Run outage")).to_be_disabled(timeout=PATIENCE)
            page.get_by_role("button", name="Stop the scenario").click()
            self.world.until("it is asked to end", lambda: page.wait_for_timeout(50) or asked == ["end"])
            page.route("**/api/chaos/runs", answering(lambda _: {"runs": [], "asked": {"scenario": "outage", "is_running": False, "error": {"message": "no such thing"}}}))
            page.get_by_text("outage: no such thing").wait_for()
            row.get_by_role("button", name="Run outage").click()
            dialog = page.get_by_role("dialog", name="Run outage?")
            dialog.get_by_text("jobs.lost plain").wait_for()
            dialog.get_by_label("Seed").fill("42")
            dialog.get_by_role("button", name="Run it").click()
            self.world.until("it is asked to run", lambda: page.wait_for_timeout(50) or len(asked) == 2)
            self.assertEqual((asked[1]["scenario"], asked[1]["seed"]), ("outage", 42))
            page.evaluate("location.hash = '#/chaos/abc'")
            page.get_by_text("3 jobs were lost plain").wait_for()
            page.get_by_role("img", name="Operations per second of jobs plain").locator("canvas").wait_for()
            page.get_by_role("img", name="Latency of jobs plain").locator("canvas").wait_for()
            page.get_by_text("cut from 3.0 to 6.0 s").wait_for()
            page.get_by_role("table", name="Recovery").get_by_role("cell", name="3.1 s").wait_for()
            # The band of the fault is drawn behind the lines: there, the plot is not as empty as before it.
            band = "plot => { const at = (part) => [...plot.getContext('2d').getImageData(Math.round(plot.width * part), Math.round(plot.height / 2), 1, 1).data]; return [at(0.52), at(0.93)]; }"
            inside, outside = page.get_by_role("img", name="Operations per second of jobs plain").locator("canvas").evaluate(band)
            self.assertNotEqual(inside[3], outside[3], "the fault is a band")
            with page.expect_download() as download:
                page.get_by_role("button", name="Download report").click()
            self.assertEqual(download.value.suggested_filename, "outage-abc.html")

    def test_metrics_of_the_past_and_firing_alerts_come_from_prometheus(self):
        with self.page() as page:
            pretend(page)
            asked = []
            page.on("request", lambda request: asked.append(request.post_data_json) if request.url.endswith("metrics/history") else None)
            go(page, "Metrics")
            rules = page.get_by_role("table", name="Alert rules").get_by_role("row")
            rules.nth(1).get_by_text("the store is down plain").wait_for()
            page.get_by_text("1 firing").wait_for()
            page.locator(".plot canvas").first.wait_for()
            self.world.until("the last hour is asked for", lambda: page.wait_for_timeout(50) or any(one["seconds"] == 3600 for one in asked))
            page.get_by_label("Time").select_option("1 day")
            self.world.until("a day is asked for", lambda: page.wait_for_timeout(50) or any(one["seconds"] == 86400 for one in asked))
            self.assertIn("over=86400", page.url)
            self.assertEqual(asked[0]["names"], sorted(set(asked[0]["names"])))

    def test_the_daemon_shows_its_own_last_hour_where_nothing_keeps_metrics(self):
        with self.page() as page:
            go(page, "Metrics")
            for title in ("CPU of web", "Memory of web"):
                page.get_by_role("img", name=title).locator("canvas").wait_for()
            expect(page.get_by_label("Time").locator("option")).to_have_text(["since this page is open", "15 minutes", "1 hour"], timeout=PATIENCE)
            # Another page, which has not measured anything itself.
            with self.page() as other:
                kept = lambda: other.evaluate("""async () => {
                    const target = (await (await fetch('/api/page', {method: 'POST', headers: {'content-type': 'application/json'}, body: '{}'})).json()).target;
                    const asked = {target, names: ['devenv_service_memory_bytes'], seconds: 3600};
                    return (await fetch('/api/metrics/history', {method: 'POST', headers: {'content-type': 'application/json'}, body: JSON.stringify(asked)})).json();
                }""")
                self.world.until("the daemon measures by itself", lambda: any(len(one["times"]) > 1 for one in kept() if one["service"] == "web"))
                for one in kept():
                    self.assertEqual(one["times"], sorted(one["times"]))
                    self.assertTrue(all(value > 2**18 for value in one["values"]), one)

    def test_one_moment_is_shown_in_the_timeline_plots_and_traces(self):
        with self.page() as page:
            pretend(page)
            page.unroute("**/api/metrics/history")
            page.route("**/api/metrics/history", answering(lambda body: [{"service": "store", "name": name, "labels": {}, "times": [begin / 1000 + n for n in range(0, 10)], "values": [0.1] * 10} for name in body["names"]] if begin else []))
            begin = 0
            go(page, "Events")
            page.get_by_role("table", name="Events").wait_for()
            begin = page.evaluate("Math.min(...[...document.querySelectorAll('.events tr[id] time')].map(time => Date.parse(time.dateTime)))")
            page.reload()
            # The plots are below the timeline, over the same time.
            plots = page.locator(".timeline .plot")
            plots.nth(1).locator("canvas").wait_for()
            lines = page.locator(".timeline .cursor:not(.chosen):not([hidden])")
            page.locator(".timeline .under > svg").hover(position={"x": 300, "y": 10})
            expect(lines).to_have_count(3, timeout=PATIENCE)
            places = page.evaluate("[...document.querySelectorAll('.timeline .cursor:not(.chosen):not([hidden])')].map(line => line.getBoundingClientRect().left)")
            self.assertLess(max(places) - min(places), 3, f"one vertical line: {places}")
            plots.first.hover(position={"x": 400, "y": 40})
            self.world.until("the line follows the pointer over a plot", lambda: abs(page.evaluate("document.querySelector('.timeline .under .cursor').getBoundingClientRect().left") - page.evaluate("document.querySelector('.timeline .plot').getBoundingClientRect().left") - 400) < 3)
            # A moment that is chosen, with the keyboard, stays in other views.
            page.get_by_role("table", name="Events").get_by_role("button").first.press("Enter")
            chosen = page.locator("span.moment time").inner_text()
            for view in ("Metrics", "Traces"):
                go(page, view)
                self.assertEqual(page.locator("span.moment time").inner_text(), chosen)
            page.get_by_role("button", name="Let go of the chosen moment").click()
            expect(page.locator("span.moment")).to_have_count(0, timeout=PATIENCE)
            page.get_by_text("POST /pay").first.click()
            page.get_by_role("table", name="Traces").locator("td.time").first.hover()
            expect(page.locator(".waterfall .cursor:not([hidden])")).to_have_count(3, timeout=PATIENCE)

    def test_the_lines_that_differ_of_a_changed_script_are_shown(self):
        with self.page() as page:
            pretend(page)
            page.evaluate("location.hash = '#/data?show=scripts'")
            page.get_by_role("button", name="What differs in db/01.sql").click()
            dialog = page.get_by_role("dialog", name="What differs in db/01.sql")
            rows = dialog.get_by_role("table", name="Lines of db/01.sql").get_by_role("row")
            expect(rows.nth(2).locator("td")).to_have_text(["2", "", "− removed: id int"], timeout=PATIENCE)
            expect(rows.nth(3).locator("td")).to_have_text(["", "2", "+ added: id bigint"], timeout=PATIENCE)
            dialog.get_by_text("the text that was applied is not known").wait_for()
            page.keyboard.press("Escape")
            dialog.wait_for(state="detached")

    def test_environments_say_what_memory_and_disk_they_use(self):
        with self.page() as page:
            go(page, "Environments")
            row = page.get_by_role("table", name="Environments").get_by_role("row").nth(1)
            row.get_by_text(re.compile(r"^\d+ MiB$")).first.wait_for()
            # Each is asked to sleep or to wake as a whole.
            asked = []
            status = self.world.json("status")
            shown = lambda phase, state: [{**status, "phase": phase, "services": [{**service, "state": state} for service in status["services"]]}]
            page.route("**/api/v1/operations/submit", lambda route: (asked.append(route.request.post_data_json["request"]), route.fulfill(status=200, content_type="application/x-ndjson", body='{"done": {"result": null}}\n')))
            for phase, state, label, kind in (("ready", "ready", "Put .* to sleep", "sleep"), ("asleep", "asleep", "Wake .*", "wake")):
                page.route("**/api/v1/environments", answering(lambda _, phase=phase, state=state: shown(phase, state)))
                page.get_by_role("button", name=re.compile(label)).click()
                self.world.until(f"it is asked to {kind}", lambda: page.wait_for_timeout(50) or asked and kind in asked[-1])
                self.assertEqual(asked[-1][kind], {"target": {"project": status["project"], "instance": status["instance"]}, "services": []})

    def test_a_scenario_runs_from_the_page_to_its_report(self):
        (self.world.root / "project/chaos").mkdir(exist_ok=True)
        (self.world.root / "project/chaos/stop-web.yaml").write_text(SCENARIO)
        with self.page() as page:
            def begin():
                page.get_by_role("button", name="Run stop-web").click()
                page.get_by_role("dialog").get_by_role("button", name="Run it").click()
            page.evaluate("location.hash = '#/chaos?show=scenarios'")
            begin()
            # The page allows no programs of the profile: that is for a person at a terminal.
            page.get_by_text("host powers that were not allowed").wait_for()
            self.world.run("up", "p", "--yes")
            begin()
            runs = page.get_by_role("table", name="Runs").get_by_role("row").filter(has_text="stop-web")
            runs.get_by_role("link").first.click()
            page.get_by_text("The program of the web service is stopped for two seconds", exact=True).wait_for()
            page.get_by_role("img", name="Operations per second of visits").locator("canvas").wait_for()
            page.get_by_role("table", name="Checks").get_by_text("web.available").wait_for()
            page.get_by_role("table", name="Recovery").get_by_role("cell", name="hold stop").wait_for()
            with page.expect_download() as download:
                page.get_by_role("button", name="Download report").click()
            report = page.context.new_page()
            report.set_viewport_size({"width": 480, "height": 800})
            report.set_content(Path(download.value.path()).read_text())
            report.get_by_text("latency").first.wait_for()
            self.assertTrue(report.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the report is wider than its window")
            self.assertIn(str(self.world.root / "project"), report.inner_text("body"))
            light = report.evaluate("getComputedStyle(document.body).backgroundColor")
            report.emulate_media(color_scheme="dark")
            self.assertNotEqual(report.evaluate("getComputedStyle(document.body).backgroundColor"), light)

    def test_what_destroys_data_is_asked(self):
        with self.page() as page:
            go(page, "Data")
            page.get_by_role("button", name=re.compile("^Reset")).click()
            page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
            page.get_by_role("dialog").wait_for(state="detached")
            self.assertFalse([one for one in self.world.json("operations")["operations"] if one["kind"] == "reset"])

    def test_a_page_of_which_a_file_did_not_arrive_is_loaded_again(self):
        with page_of(self.world, self.browser, allowed=("ERR_FAILED",)) as page:
            for file in ("store.js", "views.css", "main.js"):
                asked = []
                page.route(f"**/{file}", lambda route: (asked.append(1), route.abort() if len(asked) == 1 else route.continue_()))
                page.reload()
                self.world.until(f"{file} is asked for again", lambda: page.wait_for_timeout(50) or len(asked) > 1)
                page.get_by_role("navigation", name="Views").wait_for()
                page.unroute(f"**/{file}")

    def test_pages_out_of_sight_leave_the_connections_of_the_browser_to_the_one_that_is_seen(self):
        def sight(page, hidden):
            page.evaluate("hidden => { Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden}); document.dispatchEvent(new Event('visibilitychange')); }", hidden)

        with self.page() as first:
            base = first.url.split("#")[0]
            pages = [first]
            # Each has two streams, and a browser has six connections.
            for _ in range(4):
                go(pages[-1], "Logs")
                pages[-1].get_by_text(re.compile(r"tock \d+")).first.wait_for()
                sight(pages[-1], True)
                pages.append(first.context.new_page())
                patiently(lambda: pages[-1].goto(base))
                pages[-1].get_by_role("table", name="Services").get_by_text("web").first.wait_for()
            # What is seen again goes on where it was.
            sight(first, False)
            go(first, "Events")
            known = first.get_by_role("table", name="Events").get_by_text("restart was requested").count()
            self.world.run("restart", "web")
            expect(first.get_by_role("table", name="Events").get_by_text("restart was requested")).to_have_count(known + 1, timeout=PATIENCE)
            self.assertEqual(first.get_by_text("The daemon does not answer.").count(), 0)

    def test_a_page_whose_script_never_arrives_is_loaded_again(self):
        with page_of(self.world, self.browser, allowed=("ERR_FAILED",)) as page:
            asked = []
            # No answer at all, and later one.
            page.route("**/main.js", lambda route: asked.append(1) or (None if len(asked) == 1 else route.continue_()))
            page.reload(wait_until="commit")
            page.get_by_role("navigation", name="Views").wait_for()
            self.assertGreater(len(asked), 1)
            page.unroute_all(behavior="ignoreErrors")

    def test_a_view_that_fails_leaves_the_others_usable(self):
        with page_of(self.world, self.browser, allowed=("undefined or null",)) as page:
            service = {"name": "web", "kind": "process", "state": "ready", "restarts": 0, "ports": [], "depends_on": {}}
            status = {"environment": "e", "project": "/p", "instance": "default", "phase": "ready", "services": [service], "faults": [], "operations": []}
            page.route("**/api/live", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=f"event: status\ndata: {json.dumps(status)}\n\n"))
            page.reload()
            page.get_by_text("This view failed").wait_for()
            go(page, "Logs")
            page.get_by_text(re.compile(r"tock \d+")).first.wait_for()

    def test_cleaning_up_shows_first_what_it_would_remove(self):
        with self.page() as page:
            go(page, "Environments")
            page.get_by_role("button", name="Clean up…").click()
            dialog = page.get_by_role("dialog", name="Clean up")
            dialog.get_by_text("There is nothing to remove.").or_(dialog.get_by_role("table")).first.wait_for()
            dialog.get_by_role("button", name="Cancel").click()
            dialog.wait_for(state="detached")
            self.assertEqual(self.world.service("web")["state"], "ready")

    def test_a_mark_of_the_timeline_leads_to_its_event(self):
        with self.page() as page:
            go(page, "Events")
            page.locator(".timeline g.good").first.click()
            page.locator("tr.chosen .dot.good").wait_for()

    def test_an_event_is_on_the_screen_at_once(self):
        with self.page() as page:
            go(page, "Events")
            page.get_by_role("table", name="Events").wait_for()
            page.evaluate("""() => {
                const seen = new Set([...document.querySelectorAll('tr[id]')].map(row => row.id));
                window.late = [];
                new MutationObserver(() => document.querySelectorAll('tr[id]').forEach(row => {
                    if (!seen.has(row.id)) { seen.add(row.id); window.late.push(Date.now() - Date.parse(row.querySelector('time').dateTime)); }
                })).observe(document.querySelector('main'), {subtree: true, childList: true});
            }""")
            for _ in range(5):
                self.world.run("restart", "web")
            self.world.until("the events are on the screen", lambda: page.evaluate("window.late.length") > 10)
            late = sorted(page.evaluate("window.late"))
            print(f"  {len(late)} events, on the screen after {late[len(late) // 2]} ms, p95 {late[len(late) * 95 // 100]} ms", file=sys.stderr)
            # The fastest ones show what the page takes; the others show what else the machine does.
            self.assertLess(late[len(late) // 4], 1000)

    def test_every_view_is_reached_by_keys_alone_and_has_an_address(self):
        with self.page() as page:
            keys = dict(zip(VIEWS, "sletmdkcon"))
            for view, key in keys.items():
                page.keyboard.press("g")
                page.keyboard.press(key)
                page.get_by_role("heading", name=view, exact=True, level=1).wait_for()
            page.keyboard.press("?")
            page.get_by_role("dialog", name="Keys").wait_for()
            page.keyboard.press("Escape")
            page.get_by_role("dialog").wait_for(state="detached")
            page.keyboard.press("/")
            page.keyboard.type("nothing of this name")
            page.get_by_text("No environment matches.").wait_for()
            address = page.url
            page.reload()
            page.get_by_text("No environment matches.").wait_for()
            self.assertIn("filter=nothing", address)
            page.keyboard.press("g")
            page.keyboard.press("s")
            for _ in range(40):
                page.keyboard.press("Tab")
                if page.evaluate("document.activeElement.getAttribute('aria-label')") == "Restart web":
                    break
            else:
                self.fail("no way to a button with the Tab key")

    @unittest.skipUnless(AXE, "scripts/setup tests installs axe-core")
    def test_no_view_has_a_fault_of_accessibility(self):
        for scheme, width in (("light", 1280), ("dark", 1280), ("light", 400)):
            with self.page(color_scheme=scheme) as page:
                page.set_viewport_size({"width": width, "height": 800})
                pretend(page)
                page.evaluate(AXE.read_text())
                for view in [*VIEWS, "Scenarios", "Report", "Snapshots", "Scripts", "Differences", "Trace", "Map", "Keys", "Inject"]:
                    if view == "Differences":
                        page.get_by_role("button", name="What differs in db/01.sql").click()
                        page.get_by_role("table", name="Lines of db/01.sql").wait_for()
                    elif view == "Trace":
                        page.keyboard.press("Escape")
                        page.evaluate("location.hash = '#/traces/5b8efff798038103d269b633813fc60c'")
                    elif view in ("Scenarios", "Report", "Snapshots", "Scripts"):
                        page.evaluate("place => location.hash = place", {"Scenarios": "#/chaos?show=scenarios", "Report": "#/chaos/abc"}.get(view, f"#/data?show={view.lower()}"))
                    elif view == "Map":
                        page.evaluate("location.hash = '#/traces?show=map'")
                        page.get_by_role("table", name="Calls").wait_for()
                    elif view == "Keys":
                        page.keyboard.press("?")
                    elif view == "Inject":
                        page.keyboard.press("Escape")
                        go(page, "Chaos")
                        page.get_by_role("button", name="Inject fault").click()
                    else:
                        go(page, view)
                    page.wait_for_timeout(500)
                    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})")
                    told = [f"{one['id']}: {one['nodes'][0]['html'][:120]} {one['nodes'][0]['failureSummary'][:200]}" for one in found["violations"]]
                    self.assertEqual(told, [], f"{view}, {scheme}, {width} pixels")

    def test_no_width_scrolls_sideways(self):
        with self.page() as page:
            pretend(page, "a" * 300)
            for width in (400, 760, 1280, 3840):
                page.set_viewport_size({"width": width, "height": 900})
                for view in [*VIEWS, "chaos?show=scenarios", "chaos/abc"]:
                    if view in VIEWS:
                        go(page, view)
                    else:
                        page.evaluate("place => location.hash = place", f"#/{view}")
                    page.wait_for_timeout(120)
                    self.assertTrue(page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), f"{view} at {width} px")

    def test_nothing_of_anybody_elses_text_runs_or_breaks_the_page(self):
        self.assertEqual(len(set(HOSTILE)), 50)
        places = [*(f"#/{view.lower()}" for view in VIEWS), "#/services/store", "#/services?show=graph", "#/traces?show=map", "#/chaos?show=scenarios", "#/chaos/abc", *(f"#/data?show={part}" for part in ("snapshots", "backups", "scripts"))]
        opened = [("#/logs", ".line"), ("#/data/store/app/public.item", "text='item 17'"), ("#/topics/store/orders", "text='item 3'"), ("#/traces/5b8efff798038103d269b633813fc60c", "text='insert'"), ("#/chaos", "text='Inject fault'"), ("#/data?show=scripts", "text='What differs'")]
        look = """async ([places, wait]) => {
            const found = [];
            for (const place of places) {
                if (place) location.hash = place;
                await new Promise(done => setTimeout(done, wait));
                const all = [...document.querySelectorAll('*')];
                found.push({ place: location.hash.slice(0, 60), title: /^owned/.test(document.title), polluted: 'polluted' in {}, views: document.querySelectorAll('aside nav a').length, h1: document.querySelectorAll('h1').length,
                    wide: document.documentElement.scrollWidth > innerWidth + 1, failed: all.some(one => one.className === 'problem' && one.textContent.startsWith('This view failed')),
                    handlers: all.some(one => [...one.attributes].some(attribute => attribute.name.startsWith('on'))),
                    elements: document.querySelectorAll('main :is(img, script, iframe, b, object, embed, style, link, meta, base, video, math, marquee, template, x, form[action]), a[href^="javascript:" i], a[href^="data:" i]').length });
            }
            return found.filter(one => one.title || one.polluted || one.views !== 10 || one.h1 !== 1 || one.wide || one.failed || one.handlers || one.elements);
        }"""
        with self.page() as page:
            home = page.url.split("#")[0]
            for text in HOSTILE:
                with self.subTest(text=text[:80]):
                    page.unroute_all()
                    pretend_all(page, text)
                    page.goto(home + "#/logs")
                    page.reload()
                    page.locator(".line").first.wait_for()
                    own = "#/" + "/".join([urllib.parse.quote(text[:200], safe="")] * 3) + "?filter=" + urllib.parse.quote(text[:200], safe="")
                    bad = page.evaluate(look, [[*places, own, "#/services/" + own[2:], "#/data/" + own[2:], "#/traces/" + own[2:]], 25])
                    for place, item in opened:
                        page.evaluate("place => location.hash = place", place)
                        page.locator(item).first.click()
                        bad += page.evaluate(look, [[""], 25])
                        page.keyboard.press("Escape")
                    self.assertEqual(bad, [])
                    self.assertEqual(page.url.split("#")[0], home)


class Comes(unittest.TestCase):
    """Environments and daemons that go and come."""

    def test_the_page_goes_on_after_down_up_and_the_end_of_the_daemon(self):
        with browser() as it, world() as here, page_of(here, it, allowed=LOST) as page:
            ready = page.get_by_role("table", name="Services").get_by_role("row").filter(has_text="web").get_by_text("ready")
            ready.wait_for()
            here.run("down")
            page.get_by_text("The environment is down").wait_for()
            here.run("up", "p")
            ready.wait_for()
            here.run("daemon", "stop")
            page.get_by_text("The daemon does not answer").wait_for()
            here.run("status")
            page.get_by_text("The daemon does not answer").wait_for(state="detached")
            here.run("stop", "web")
            page.get_by_role("button", name="Start web", exact=True).wait_for()
            go(page, "Events")
            numbers = page.evaluate("[...document.querySelectorAll('tr[id]')].map(row => Number(row.id.replace('event-', '')))")
            self.assertEqual(numbers, sorted(set(numbers), reverse=True), "each event once, newest first")
            self.assertEqual(numbers[-1], numbers[0] - len(numbers) + 1, "none is missing")

    def test_many_lines_a_second_leave_the_page_responsive_and_small(self):
        with browser() as it, world({"rate": "10000"}) as here, page_of(here, it) as page:
            go(page, "Logs")
            page.get_by_text("of many").first.wait_for()
            page.wait_for_timeout(6000)
            measure = lambda: page.evaluate("""async () => {
                let longest = 0, before = performance.now();
                for (const end = before + 3000; before < end; ) { await new Promise(requestAnimationFrame); const now = performance.now(); longest = Math.max(longest, now - before); before = now; }
                return [document.querySelectorAll('.line').length, longest];
            }""")
            # The best of several turns: in any one of them the machine may do something else.
            for _ in range(10):
                rows, longest = measure()
                print(f"  {rows} elements for lines, longest frame {longest:.0f} ms", file=sys.stderr)
                self.assertLess(rows, 200)
                if longest < 1500:
                    break
            else:
                self.fail("no frame is drawn for more than a second in each of ten turns")
            page.get_by_label("Filter").fill("no line has this")
            page.get_by_text("No line matches.").wait_for()

    def test_nobody_without_the_cookie_gets_in(self):
        with browser() as it, world(up=False) as here, page_of(here, it) as page:
            base = page.url.split("#")[0]
            def code(method="GET", path="", **headers):
                try:
                    request = urllib.request.Request(base + path, method=method, headers=headers, data=b"{}" if method == "POST" else None)
                    return urllib.request.urlopen(request, timeout=60).status
                except urllib.error.HTTPError as error:
                    return error.code
            cookie = "; ".join(f"{one['name']}={one['value']}" for one in page.context.cookies())
            self.assertEqual(code(Cookie=cookie), 200)
            self.assertEqual(code(), 403)
            self.assertEqual(code(path="main.js"), 403)
            self.assertEqual(code("POST", "api/page", **{"Content-Type": "application/json"}), 403)
            self.assertEqual(code("POST", "api/page", Cookie=cookie, **{"Content-Type": "text/plain"}), 403)
            self.assertEqual(code("POST", "api/page", Cookie=cookie, Origin="http://127.0.0.1:1", **{"Content-Type": "application/json"}), 403)
            self.assertEqual(code("POST", "api/page", Cookie=cookie, **{"Content-Type": "application/json"}), 200)
            self.assertEqual(code(Cookie=cookie, Host="evil.example.com"), 403)


if __name__ == "__main__":
    unittest.main()
