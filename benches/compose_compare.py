#!/usr/bin/env python3
"""The same Compose files under Docker Compose and under devenv: each container's effective settings compared field by field, and times.

    benches/compose_compare.py --binary target/debug/devenv [--compose docker-compose] [--only NAME]… [--times]
    … --record FILE        write down what Compose makes of the files that need nothing else of the machine
    … --recorded FILE      compare with that instead of with Compose

Prints every difference. Those in DIFFERENT are meant, with the reason; any other one makes the exit status 1. `--times` measures each
file by itself: until everything is ready, a second `up`, `down`. Needs the images debian:trixie-slim, redis:8.0 and postgres:17.
Without --compose, Docker Compose is built from its Go module, once. A record has only what a container without settings has not, so
that it holds for every engine.
"""
import argparse, json, os, re, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

from compose_files import FILES, PREPARE, REMOVE
from peers import compose_binary

# What differs on purpose, by the field's path, with the reason.
DIFFERENT = [
    (r"Config\.Hostname", "without `hostname` it is the service's name here, and the container's id there"),
    (r"Config\.Healthcheck", "devenv asks by itself, 50 ms apart at first"),
    (r"Config\.StopTimeout", "devenv stops containers itself, within `stop_grace_period`"),
    (r"Config\.(Attach\w+|StdinOnce|OnBuild|Volumes|ArgsEscaped)", "how a client was attached, or what the mounts say already"),
    (r"HostConfig\.RestartPolicy", "devenv restarts containers itself"),
    (r"HostConfig\.LogConfig", "devenv keeps the logs"),
    (r"HostConfig\.PortBindings.*", "ports are published on the loopback unless the file names an address"),
    (r"HostConfig\.ConsoleSize", "the terminal of the client"),
    (r"HostConfig\.(Memory|)Swap(piness)?", "a memory limit is one, without swap"),
    (r"HostConfig\.OomKillDisable", "`null` and `false` are the same"),
    (r"Network\..*\.aliases", "aliases of `links`, and `container_name`, are names on the network"),
    (r"Mounts\./named", "Docker Compose 5.0 mounts `volumes_from: [NAME:ro]` writable"),
    (r"Mounts\./disk", "a volume whose options name a path is a mount of the path"),
]
# The files that a record has: no fixed ports, subnets or names of the engine, so that any number of runs go side by side.
RECORDED = ["program", "rights", "limits", "files"]
LAUNCHED = "variables that hold secrets are given by a launcher, and stand in no description"
# Compared elsewhere, or what a client has no say in.
LEFT_OUT = {"Config.Labels", "Config.Image", "HostConfig.Binds", "HostConfig.Mounts", "HostConfig.Tmpfs", "HostConfig.NetworkMode", "HostConfig.PortBindings",
            "HostConfig.ContainerIDFile", "HostConfig.AutoRemove", "HostConfig.VolumesFrom", "HostConfig.Links", "Config.ExposedPorts", "Config.MacAddress"}


def run(words, limit=180, **more):
    return subprocess.run(words, capture_output=True, text=True, timeout=limit, **more)


def inspected(*filters):
    ids = run(["docker", "ps", "-aq", *[word for one in filters for word in ("--filter", "label=" + one)]]).stdout.split()
    return json.loads(run(["docker", "inspect", *ids]).stdout) if ids else []


def empty(value):
    return value in (None, "", [], {}, 0, False)


class Side:
    """A project of one tool: its containers by service, in terms that are the same for both tools."""

    def __init__(self, name, directory):
        self.name, self.directory = name, directory

    def settings(self):
        containers = self.containers()
        names = {container["Id"]: service for service, container in containers.items()}
        names.update({container["Name"].lstrip("/"): service for service, container in containers.items()})
        return {service: self.normal(container, names) for service, container in containers.items()}

    def normal(self, container, names):
        flat = {}
        for part in ("Config", "HostConfig"):
            for key, value in container[part].items():
                if f"{part}.{key}" not in LEFT_OUT and not empty(value):
                    flat[f"{part}.{key}"] = value
        for field in ("HostConfig.PidMode", "HostConfig.IpcMode"):
            if str(flat.get(field, "")).startswith("container:"):
                flat[field] = "service:" + names.get(flat[field][10:], "?")
        if "Config.Env" in flat:
            flat["Config.Env"] = sorted(flat["Config.Env"])
        for field in ("HostConfig.CapAdd", "HostConfig.CapDrop", "HostConfig.ExtraHosts", "HostConfig.SecurityOpt"):
            if field in flat:
                flat[field] = sorted(re.sub("^CAP_", "", str(one)).replace("=", ":", 1) for one in flat[field])
        if "HostConfig.Ulimits" in flat:
            flat["HostConfig.Ulimits"] = sorted(flat["HostConfig.Ulimits"], key=lambda one: one["Name"])
        for name, value in (container["Config"].get("Labels") or {}).items():
            if not name.startswith(("com.docker.compose", "dev.devenv")):
                flat[f"Config.Labels.{name}"] = value
        for mount in container["Mounts"]:
            source = {"volume": self.volume(mount.get("Name", "")), "bind": mount.get("Source", "").replace(str(self.directory), ".")}
            flat[f"Mounts.{mount['Destination']}"] = [mount["Type"], source.get(mount["Type"], ""), mount["RW"], mount.get("Propagation", "")]
        for target, options in (container["HostConfig"].get("Tmpfs") or {}).items():
            flat[f"Mounts.{target}"] = ["tmpfs", "", True, ""]
            flat[f"Memory.{target}"] = sorted(one for one in options.split(",") if one)
        for mount in container["HostConfig"].get("Mounts") or []:
            if mount["Type"] == "tmpfs":
                options = mount.get("TmpfsOptions") or {}
                listed = [f"size={options['SizeBytes']}"] * ("SizeBytes" in options) + [f"mode=0{options.get('Mode', 0):o}"] * ("Mode" in options)
                flat[f"Memory.{mount['Target']}"] = sorted(listed)
            if (mount.get("VolumeOptions") or {}).get("NoCopy"):
                flat[f"NoCopy.{mount['Target']}"] = True
            if (mount.get("VolumeOptions") or {}).get("Subpath"):
                flat[f"Subpath.{mount['Target']}"] = mount["VolumeOptions"]["Subpath"]
        mode = container["HostConfig"]["NetworkMode"]
        if mode.startswith("container:"):
            flat["Network.mode"] = "service:" + names.get(mode[10:], "?")
        elif mode in ("host", "none"):
            flat["Network.mode"] = mode
        else:
            for network, place in container["NetworkSettings"]["Networks"].items():
                network = self.network(network)
                aliases = {one for one in place.get("Aliases") or [] if not container["Id"].startswith(one)}
                flat[f"Network.{network}.aliases"] = sorted(aliases - self.own_names(container))
                if (place.get("IPAMConfig") or {}).get("IPv4Address"):
                    flat[f"Network.{network}.address"] = place["IPAMConfig"]["IPv4Address"]
        for port, bindings in (container["HostConfig"].get("PortBindings") or {}).items():
            for binding in bindings or []:
                if binding["HostIp"] != "::1":
                    flat[f"HostConfig.PortBindings.{port}.{binding['HostPort'] if self.fixed(binding['HostPort']) else 'any'}"] = binding["HostIp"] or "0.0.0.0"
        return flat

    @staticmethod
    def fixed(port):
        return 39000 <= int(port or 0) < 40000


class Compose(Side):
    def __init__(self, binary, name, directory):
        super().__init__(name, directory)
        self.project = f"compare{os.getpid()}{name}"
        self.words = [str(binary), "-p", self.project, "--project-directory", str(directory), "-f", str(directory / "compose.yaml")]

    def up(self):
        return run([*self.words, "up", "-d", "--wait", "--quiet-pull"], cwd=self.directory)

    def down(self):
        return run([*self.words, "down", "-t", "10"], cwd=self.directory)

    def close(self):
        run([*self.words, "down", "-v", "-t", "1", "--rmi", "local"], cwd=self.directory)

    def containers(self):
        found = {}
        for container in inspected(f"com.docker.compose.project={self.project}", "com.docker.compose.oneoff=False"):
            labels = container["Config"]["Labels"]
            number = labels["com.docker.compose.container-number"]
            name = re.sub("[^a-z0-9]", "-", labels["com.docker.compose.service"].lower())
            found[name + ("" if number == "1" else f"-{number}")] = container
        return found

    def volume(self, name):
        return "anonymous" if re.fullmatch(r"[0-9a-f]{64}", name) else name.removeprefix(self.project + "_")

    def network(self, name):
        return name.removeprefix(self.project + "_")

    def own_names(self, container):
        return {container["Name"].lstrip("/"), container["Config"]["Labels"]["com.docker.compose.service"]}


class Devenv(Side):
    def __init__(self, binary, name, directory, state):
        super().__init__(name, directory)
        self.words = [str(binary), "--project", str(directory), "--instance", name]
        self.variables = dict(os.environ, DEVENV_STATE_DIR=str(state / "state"), DEVENV_RUNTIME_DIR=str(state / "run"))

    def command(self, *words):
        return run([*self.words, *words], cwd=self.directory, env=self.variables)

    def up(self):
        return self.command("up", "-f", str(self.directory / "compose.yaml"), "--yes", "--timeout", "120s")

    def down(self):
        return self.command("down")

    def close(self):
        self.command("down", "--volumes")

    def containers(self):
        return {container["Config"]["Labels"]["dev.devenv.service"]: container
                for container in inspected(f"dev.devenv.project={self.directory}", f"dev.devenv.instance={self.name}")
                if container["Config"]["Labels"].get("dev.devenv.service") and not container["Config"]["Labels"].get("dev.devenv.role")}

    def volume(self, name):
        found = run(["docker", "volume", "inspect", name, "--format", '{{index .Labels "dev.devenv.role"}}']).stdout.strip()
        return "anonymous" if found.startswith("anonymous") or re.fullmatch(r"[0-9a-f]{64}", name) else found or name

    def network(self, name):
        found = re.match(r"devenv-.*-[0-9a-f]{8}(?:-(.*))?$", name)
        return (found[1] or "default") if found else name

    def own_names(self, container):
        service = container["Config"]["Labels"]["dev.devenv.service"]
        return {service, re.sub(r"-\d+$", "", service)}


def lookups(side):
    """What the files LOOK of the services print: where settings are not in the description but in the container."""
    return {name: run(["docker", "exec", container["Id"], "sh", "-c", container["Config"]["Labels"]["look"]]).stdout
            for name, container in side.containers().items() if container["Config"]["Labels"].get("look")}


def compare(compose, devenv):
    """Of two sides, each its settings by service and what was looked at in its containers."""
    (theirs, one), (ours, other) = compose, devenv
    found = [("", "services", sorted(theirs), sorted(ours))] if sorted(theirs) != sorted(ours) else []
    for service in sorted(theirs.keys() & ours.keys()):
        for field in sorted(theirs[service].keys() | ours[service].keys()):
            left, right = theirs[service].get(field), ours[service].get(field)
            if left != right and not (empty(left) and empty(right)):
                found.append((service, field, left, right))
    found += [(service, "in the container", one.get(service), other.get(service)) for service in sorted(one.keys() | other.keys()) if one.get(service) != other.get(service)]
    fields = sum(len(fields) for fields in theirs.values())
    return found, fields, len(theirs)


def plain():
    """The settings of a container for which nothing is set, in the terms of both tools."""
    image = next(iter(re.findall(r"image: (\S+)", FILES["rights"]["compose.yaml"])))
    identifier = run(["docker", "create", image]).stdout.strip()
    try:
        container = json.loads(run(["docker", "inspect", identifier]).stdout)[0]
        side = Side("", Path("/"))
        side.network = side.own_names = lambda _: set()
        return {field: value for field, value in side.normal(container, {}).items() if field.startswith(("Config.", "HostConfig."))}
    finally:
        run(["docker", "rm", identifier])


def without(base, settings):
    return {service: {field: value for field, value in fields.items() if base.get(field) != value} for service, fields in settings.items()}


def reason(field, theirs, ours):
    if field == "Config.Env" and set(ours or []) <= set(theirs or []):
        hidden = {one.split("=")[0] for one in set(theirs) - set(ours or [])}
        return LAUNCHED if all(re.search("PASS|TOKEN|SECRET|KEY", name) for name in hidden) else None
    if field == "Config.Entrypoint" and (ours or [""])[0] == "/run/devenv/launch":
        return LAUNCHED
    if field == "Config.Cmd" and (ours or [])[-len(theirs or []):] == (theirs or []):
        return LAUNCHED
    return next((why for pattern, why in DIFFERENT if re.fullmatch(pattern, field)), None)


def timed(side, rounds):
    figures = {"ready": [], "second up": [], "down": []}
    for _ in range(rounds):
        for figure, act in (("ready", side.up), ("second up", side.up), ("down", side.down)):
            began = time.monotonic()
            done = act()
            figures[figure].append(time.monotonic() - began if done.returncode == 0 else float("nan"))
    return {figure: statistics.median(values) for figure, values in figures.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/debug/devenv")
    parser.add_argument("--compose")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--recorded", type=Path)
    arguments = parser.parse_args()
    binary = Path(arguments.binary).resolve()
    compose = Path(arguments.compose).resolve() if arguments.compose else None
    recorded = json.loads(arguments.recorded.read_text()) if arguments.recorded else {}
    base = plain() if arguments.record or recorded else {}
    if compose is None and not recorded:
        compose, why = compose_binary()
        if compose is None:
            sys.exit(f"there is no Docker Compose to compare with: {why}")
    state = Path(tempfile.mkdtemp(prefix="compare-"))
    # What a record has needs none of it.
    for words in [] if recorded or arguments.record else PREPARE:
        run(words)
    unmeant, record = 0, {}
    os.environ["COMPARE_TOKEN"] = "from the shell"
    try:
        for name, files in FILES.items():
            if arguments.only and not any(one in name for one in arguments.only):
                continue
            if arguments.record and name not in RECORDED or recorded and name not in recorded:
                continue
            sides = []
            for kind in ("compose",) if arguments.record else ("devenv",) if recorded else ("compose", "devenv"):
                directory = state / kind / name
                for path, text in files.items():
                    (directory / path).parent.mkdir(parents=True, exist_ok=True)
                    (directory / path).write_text(text)
                sides.append(Compose(compose, name, directory) if kind == "compose" else Devenv(binary, name, directory, state))
            try:
                if recorded:
                    theirs = recorded[name]["settings"], recorded[name]["look"]
                else:
                    one = sides[0].up()
                    if one.returncode:
                        print(f"{name}: Compose up exited {one.returncode}: {one.stderr.strip()[-200:]}")
                    # Both at once would want the same ports and subnets.
                    theirs = without(base, sides[0].settings()), lookups(sides[0])
                    sides[0].close()
                if arguments.record:
                    ids = re.compile("[0-9a-f]{12}")
                    settings = {service: {field: value for field, value in fields.items() if field != "Config.Hostname" or not ids.fullmatch(value)}
                                for service, fields in theirs[0].items()}
                    record[name] = {"settings": settings, "look": theirs[1]}
                    continue
                other = sides[-1].up()
                if other.returncode:
                    print(f"{name}: devenv up exited {other.returncode}: {(other.stderr or other.stdout).strip()[-600:]}")
                    unmeant += 1
                found, fields, services = compare(theirs, (without(base, sides[-1].settings()), lookups(sides[-1])))
                meant = [(difference, reason(*difference[1:])) for difference in found]
                print(f"{name}: {services} containers, {fields} fields, {len(found)} differences, {sum(1 for _, why in meant if why)} of them meant")
                for (service, field, one, other), why in meant:
                    if not why:
                        unmeant += 1
                        print(f"  NOT MEANT {service}.{field}: Compose {json.dumps(one)}, devenv {json.dumps(other)}")
                for why in sorted({why for _, why in meant if why}):
                    print(f"  meant: {why}: {', '.join(sorted({difference[1] for difference, reason in meant if reason == why}))}")
                sides[-1].close()
                if arguments.times:
                    for side, who in ((sides[0], "Compose"), (sides[1], "devenv")):
                        figures = timed(side, arguments.rounds)
                        print(f"  {who:8} " + ", ".join(f"{figure} {value:6.2f} s" for figure, value in figures.items()), flush=True)
            finally:
                for side in sides:
                    side.close()
    finally:
        for words in [] if recorded or arguments.record else REMOVE:
            run(words)
        variables = dict(os.environ, DEVENV_STATE_DIR=str(state / "state"), DEVENV_RUNTIME_DIR=str(state / "run"))
        for words in [] if arguments.record else [["down", "--all", "--volumes"], ["daemon", "stop"]]:
            run([str(binary), *words], env=variables)
        shutil.rmtree(state, ignore_errors=True)
    if arguments.record:
        arguments.record.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return 1 if unmeant else 0


if __name__ == "__main__":
    sys.exit(main())
