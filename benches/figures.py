#!/usr/bin/env python3
"""Takes the figures and writes docs/figures.md with its plots: nothing on that page is typed by hand.

    benches/figures.py [--binary PATH] [--only run|leases|second|scale]... [--rounds 5] [--quick] [--render]

Runs run.py, leases.py, second.py and scale.py, which leave their results in benches/results-NAME.json, and renders all results that are there. With
`--render` nothing is measured. A missed goal is part of the page. With `--quick` each is run in its smallest form, into a directory of its
own, which is removed: that shows in minutes whether all of them run. Exit status: 0 the page was written, 1 a benchmark failed.
"""
import argparse, contextlib, json, platform, re, subprocess, sys, tempfile
from datetime import datetime, timezone
from pathlib import Path

import plot

HERE = Path(__file__).resolve().parent
RESULTS = HERE
PAGE = HERE.parent / "docs" / "figures.md"
PLOTS = HERE.parent / "docs" / "figures"
LEASE_GOALS = {"lease_ms": 60, "lease_ms_4_at_once": 100}


def results(name):
    return RESULTS / f"results-{name}.json"


def beside(directory):
    """Puts results and the page there instead."""
    global RESULTS, PAGE, PLOTS
    RESULTS, PAGE, PLOTS = directory, directory / "figures.md", directory / "figures"


def commands(options):
    binary = ["--binary", options.binary]
    return {
        "run": [HERE / "run.py", *binary, "--rounds", str(options.rounds), "--output", results("run")],
        "leases": [HERE / "leases.py", *binary, "--json", results("leases"), "--containers", "20"],
        "second": [HERE / "second.py", *binary, "--rounds", str(options.rounds), "--json", results("second")],
        "scale": [HERE / "scale.py", *binary, "--json", results("scale")],
    }


# The smallest form of each, which measures everything once.
QUICK = {
    "run": ["--rounds", "1"],
    "leases": ["--tests", "8", "--containers", "1"],
    "second": ["--rounds", "1"],
    "scale": ["--known", "4", "--up", "3", "--services", "20", "--containers", "2"],
}


def take(options):
    failed = []
    for name, command in commands(options).items():
        if options.only and name not in options.only:
            continue
        began = datetime.now(timezone.utc)
        command += QUICK[name] if options.quick else []
        if subprocess.run([sys.executable, *map(str, command)], check=False).returncode != 0:
            failed.append(name)
            continue
        document = json.loads(results(name).read_text())
        version = subprocess.run([options.binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        document |= {"taken_at": began.isoformat(timespec="seconds"), "version": version, "host": host()}
        results(name).write_text(json.dumps(document, indent=1) + "\n")
    return failed


def host():
    """The machine, as a reader needs it to compare."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    system = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    docker = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True).stdout.strip()
    return f"{cpu[1] if cpu else platform.machine()}, {memory:.0f} GiB, {system[1] if system else platform.system()}, Linux {platform.release()}, Docker {docker}"


def number(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def when(document):
    machine = document["machine"]
    return f"{document.get('taken_at', '')[:16].replace('T', ' ')} UTC, {document.get('version', '')}; {document.get('host', '')}; {machine['cores']} cores, {machine['busy_share']:.0%} busy"


def goal_of(verdict):
    """From `0.97x of by hand (goal 1.25x): met`, or `6.3 ms (goal < 20): met`."""
    found = re.match(r"(.*) \(goal (.*)\): (met|MISSED)", verdict)
    return (found[1], found[2], found[3].lower()) if found else (verdict, "", "")


def rows_of_run(document):
    for one in document["figures"]:
        verdicts = [goal_of(verdict) for verdict in one["verdicts"]]
        goals = "; ".join(f"{goal} ({said}): {verdict}" for said, goal, verdict in verdicts)
        for who, values in one["contenders"].items():
            tail = f"{number(values['p95'])}" if "p95" in values else ""
            yield [one["name"] if who == next(iter(one["contenders"])) else "", who, one["unit"], *(number(values[key]) for key in ("min", "median", "max")), tail, str(values["n"]), goals if who == "devenv" or len(one["contenders"]) == 1 or who.startswith("all but") else ""]


def run_section(document):
    yield "## The life of a stack, readiness, status, idling", ""
    yield f"Taken {when(document)}. Compose: {document.get('compose') or 'not there'}.", ""
    yield from table(["figure", "who", "unit", "min", "median", "max", "p95", "n", "goal"], rows_of_run(document))
    for one in document["figures"]:
        if len(one["contenders"]) > 1:
            path = PLOTS / f"{one['name']}.svg"
            plot.bars(path, one["name"], one["unit"], one["contenders"])
            yield f"![{one['name']}](figures/{path.name})", ""


def leases_section(document):
    yield "## Private databases", ""
    yield f"Taken {when(document)}.", ""
    def rows():
        for name, values in document.items():
            if isinstance(values, dict) and "p95" in values:
                goal = LEASE_GOALS.get(name)
                verdict = "" if goal is None else f"p95 < {goal}: {'met' if values['p95'] < goal else 'missed'}"
                yield [name.replace("_ms", "").replace("_", " "), "ms", number(values["p50"]), number(values["p95"]), number(values["worst"]), str(values["n"]), verdict]
    yield from table(["figure", "unit", "p50", "p95", "worst", "n", "goal"], rows())
    if "total_s" in document:
        yield from table([f"{document['tests']} tests, in all", "s"], ([who, number(value)] for who, value in document["total_s"].items()))


def second_section(document):
    yield "## New environments of a known profile", ""
    yield f"Taken {when(document)}. Medians in milliseconds: the first `up` on new volumes, the second one, and `up` on kept volumes.", ""
    verdict = lambda found: f"{found['ratio']}x of kept (< {document['goal']}x): {'met' if found['ratio'] < document['goal'] else 'missed'}"
    spread = lambda values: f"{number(values['median'])} ({number(values['min'])} to {number(values['max'])})"
    kinds = document["kinds"].items()
    yield from table(["kind", "first", "second", "kept", "goal"], ([kind, *(spread(found[which]) for which in ("first", "second", "kept")), verdict(found)] for kind, found in kinds))


def scale_section(document):
    yield "## How it grows", ""
    yield f"Taken {when(document)}.", ""
    for title, series in document["series"].items():
        names = [name for name in next(iter(series.values()))]
        def rows():
            for name in names:
                medians = [values[name]["median"] for values in series.values()]
                goal = document["goals"].get(name)
                verdict = "" if goal is None else f"< {goal}: {'met' if medians[-1] < goal else 'missed'}"
                yield [name, *(number(value) for value in medians), verdict]
        yield from table([title, *series, "goal"], rows())
        slug = title.replace(" ", "-")
        for name in names:
            points = [(int(count), values[name]["median"]) for count, values in series.items()]
            plot.lines(PLOTS / f"{slug}-{name}.svg", f"{name}: {title}", title, name, {name: points}, document["goals"].get(name))
        yield " ".join(f"![{name}](figures/{slug}-{name}.svg)" for name in names), ""


def table(heads, rows):
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""


SECTIONS = {"run": run_section, "leases": leases_section, "second": second_section, "scale": scale_section}


def render():
    PLOTS.mkdir(exist_ok=True)
    lines = ["# Figures", "", "Written by `make bench`, which measures everything on this page side by side in one run: do not edit it. A goal is met by the median, or by the percentile that it", "names; a machine that is busy with other things misses goals too, so each table says how busy it was.", ""]
    for name, section in SECTIONS.items():
        if results(name).exists():
            for part in section(json.loads(results(name).read_text())):
                lines += [part] if isinstance(part, str) else list(part)
    PAGE.write_text("\n".join(lines).rstrip() + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/devenv")
    parser.add_argument("--only", action="append", default=[], choices=SECTIONS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if options.quick:
            beside(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        failed = [] if options.render else take(options)
        render()
        print(f"{PAGE}: {len(PAGE.read_text().splitlines())} lines, {len(list(PLOTS.iterdir()))} plots", file=sys.stderr)
    for name in failed:
        print(f"{name} failed: its former results, if any, are on the page", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
