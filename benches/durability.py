#!/usr/bin/env python3
"""The durability table: each setting under SIGKILL and under a power cut, and whether the verdict is the one that it has to be.

    benches/durability.py --binary target/release/devenv [-k postgres] [--repeat 3] [--json FILE]

Every row claims that nothing acknowledged is lost. Rows that must lose data have to get the verdict `fail` for that claim and for
nothing else, within the window of their class. Settings are those of the shipped `power-cut-…` scenarios.
"""
import argparse, json, re, sys, time
from pathlib import Path

from corner import Corner, Machine

ROOT = Path(__file__).resolve().parent.parent
SECOND = 1000
NOTHING = 0
"""What is acknowledged stays."""
ASYNC = 2 * SECOND
"""Three times wal_writer_delay of 200 ms, and what a busy disk takes to sync."""
ANYTHING = None
"""Everything may go; something has to."""


class Row:
    """`window` is the most that may be lost, in milliseconds; with `may`, nothing has to be."""

    def __init__(self, setting, fault, window, may=False, extra="", note=""):
        self.setting, self.fault, self.window, self.may, self.extra, self.note = setting, fault, window, may, extra, note

    def judge(self, exit_code, report):
        """What is wrong with the verdict; nothing if it is right."""
        failing = [check for check in report["checks"] if check["verdict"] != "pass"]
        lost = next(check for check in report["checks"] if check["name"].endswith(".lost"))
        if self.window == NOTHING:
            return None if exit_code == 0 else f"nothing may be lost, and the verdict is {report['verdict']}: {report.get('reason')}"
        if exit_code == 0:
            return None if self.may else "something had to be lost, and nothing was"
        if exit_code != 10:
            return f"exit {exit_code}: {report.get('reason')}"
        if self.window is ANYTHING:
            return None
        if failing != [lost]:
            return f"more than the claim of no loss does not hold: {report.get('reason')}"
        if lost["figures"]["window_ms"] > self.window:
            return f"{lost['figures']['window_ms']:.0f} ms were lost, and {self.window} may be"
        return None


ROWS = [
    Row("redis-always", "kill", NOTHING),
    Row("redis-always", "power-cut", NOTHING),
    Row("redis-everysec", "kill", NOTHING),
    Row("redis-everysec", "power-cut", 2 * SECOND),
    Row("redis-waitaof", "power-cut", NOTHING),
    Row("redis-no", "kill", NOTHING),
    Row("redis-no", "power-cut", ANYTHING),
    Row("redis-rdb", "kill", 20 * SECOND),
    Row("redis-rdb", "power-cut", 20 * SECOND),
    Row("redis-never", "kill", ANYTHING),
    Row("redis-never", "power-cut", ANYTHING),
    Row("postgres", "kill", NOTHING),
    Row("postgres", "power-cut", NOTHING),
    Row("postgres-async", "kill", ASYNC),
    Row("postgres-async", "power-cut", ASYNC),
    Row("postgres-no-fsync", "kill", NOTHING, note="misleading: the kernel's memory survives a SIGKILL"),
    Row("postgres-no-fsync", "power-cut", ANYTHING),
    Row("kafka", "kill", NOTHING),
    Row("kafka", "power-cut", ANYTHING),
    Row("kafka", "kill", NOTHING, extra="acks: leader"),
    Row("kafka", "kill", ANYTHING, may=True, extra="acks: none", note="what was sent is not what was taken"),
]


def scenario(row):
    """The shipped one, with this row's fault and the claim that nothing is lost."""
    text = (ROOT / "chaos" / f"power-cut-{row.setting}.yaml").read_text()
    text = re.sub(r"(\.lost:) \{.*\}", r"\1 { max: 0 }", text)
    text = text.replace("fault: power-cut", f"fault: {row.fault}")
    if row.extra:
        text = re.sub(r"acks: \w+", row.extra, text)
    return text


def measure(binary, setting, rows, repeat):
    files = {f"chaos/{index}.yaml": scenario(row) for index, row in enumerate(rows)}
    files |= {f"profiles/{path.name}": path.read_text() for path in (ROOT / "chaos/profiles").glob("power-cut-*.yaml")}
    results = []
    with Corner(binary, files) as corner:
        for index, row in enumerate(rows):
            for time_ in range(repeat):
                done = corner.run("chaos", "run", str(index), "--seed", str(time_ + 1), "--json", ok=None, timeout=400)
                try:
                    report = json.loads(done.stdout)
                    figures = next(check["figures"] for check in report["checks"] if check["name"].endswith(".lost"))
                    wrong = row.judge(done.returncode, report)
                    recovery = report["recovery"][0].get("ready_ms") if report["recovery"] else None
                except (ValueError, KeyError, StopIteration):
                    report, figures, recovery = {"verdict": "-"}, {}, None
                    wrong = f"no report: exit {done.returncode}: {(done.stdout + done.stderr)[-400:]}"
                result = {
                    "setting": row.setting, "with": row.extra, "fault": row.fault, "verdict": report["verdict"], "right": wrong is None, "wrong": wrong, "note": row.note,
                    "acknowledged": figures.get("acknowledged"), "lost": figures.get("lost"), "window_ms": figures.get("window_ms"), "holes": figures.get("holes"), "ready_ms": recovery,
                }
                results.append(result)
                tell(result)
                if report["verdict"] != "pass" and recovery is None:
                    # What was broken for good is made anew.
                    corner.run("down", "--volumes", ok=None)
    return results


def tell(result):
    name = f"{result['setting']} {result['with']}".strip()
    number = lambda value: "-" if value is None else f"{value:.0f}"
    print(f"{'ok   ' if result['right'] else 'WRONG'} {name:26} {result['fault']:10} {result['verdict']:8} lost {number(result['lost']):>6} of {number(result['acknowledged']):>6}"
          f"  window {number(result['window_ms']):>6} ms  holes {number(result['holes']):>3}  ready {number(result['ready_ms']):>6} ms  {result['wrong'] or result['note']}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=ROOT / "target/release/devenv")
    parser.add_argument("-k", default="", help="only settings that contain this")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the table there as well")
    options = parser.parse_args()
    machine, results, began = Machine(), [], time.monotonic()
    settings = dict.fromkeys(row.setting for row in ROWS if options.k in row.setting)
    for setting in settings:
        results += measure(options.binary, setting, [row for row in ROWS if row.setting == setting], options.repeat)
    wrong = [result for result in results if not result["right"]]
    print(f"{len(results) - len(wrong)} of {len(results)} verdicts are right, in {time.monotonic() - began:.0f} s; {machine.describe()}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine.describe(), "rows": results}, indent=1))
    sys.exit(1 if wrong or not results else 0)


if __name__ == "__main__":
    main()
