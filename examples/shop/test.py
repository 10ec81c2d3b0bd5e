#!/usr/bin/env python3
"""Brings the shop up in a corner of its own, places orders, and finds each order's id in every log and in Jaeger."""
import json, os, shutil, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    root = Path(tempfile.mkdtemp(prefix="devenv-shop-"))
    project = root / "shop"
    shutil.copytree(HERE, project, ignore=shutil.ignore_patterns("target", "__pycache__"))
    environment = dict(os.environ, DEVENV_STATE_DIR=str(root / "state"), DEVENV_RUNTIME_DIR=str(root / "run"), NO_COLOR="1")
    environment.setdefault("CARGO_TARGET_DIR", str(HERE / "api/target"))

    def devenv(*arguments):
        done = subprocess.run([os.environ.get("DEVENV_BIN", "devenv"), *arguments], cwd=project, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"devenv {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    try:
        print("up:", json.loads(devenv("up", "--json"))["elapsed_ms"], "ms")
        variables = json.loads(devenv("env", "--format", "json"))
        follow_an_order(devenv, variables)
        # A reload is invisible to those who order.
        source = project / "api/src/main.rs"
        source.write_text(source.read_text().replace('"order taken"', '"order taken with care"'))
        until("the API's new version", lambda: place(variables) and "order taken with care" in devenv("logs", "api"), 120)
        follow_an_order(devenv, variables)
        print("ok: the same id in the logs of web, api and worker, and in Jaeger, before and after a reload")
    finally:
        devenv("down", "--volumes")
        devenv("gc", "--all")
        devenv("daemon", "stop")
        shutil.rmtree(root, ignore_errors=True)


def place(variables):
    request = urllib.request.Request(variables["WEB_URL"] + "/order", b'{"item": "teapot"}', {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)["trace_id"]


def follow_an_order(devenv, variables):
    trace = place(variables)
    for service in ("web", "api", "worker"):
        until(f"{trace} in the logs of {service}", lambda: trace in devenv("logs", "--grep", trace, service), 20)
    query = f"{variables['TRACING_URL']}/api/traces/{trace}"

    def services():
        try:
            with urllib.request.urlopen(query, timeout=5) as reply:
                processes = json.load(reply)["data"][0]["processes"].values()
        except (OSError, IndexError, KeyError):
            return set()
        return {process["serviceName"] for process in processes}

    until(f"{trace} of all three in Jaeger", lambda: services() == {"web", "api", "worker"}, 20)


def until(what, probe, seconds):
    end = time.monotonic() + seconds
    while not probe():
        if time.monotonic() > end:
            sys.exit(f"not within {seconds} s: {what}")
        time.sleep(0.1)


main()
