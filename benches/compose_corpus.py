#!/usr/bin/env python3
"""How many Compose files of a corpus `devenv validate` accepts, with the reason for each that it does not.

    benches/compose_corpus.py --binary target/debug/devenv CORPUS…           parse every Compose file below these directories
    … --compose docker-compose                                               and compare with what Docker Compose says of it
    … --up                                                                   and bring up each whose images are all here or can be built
    … --set NAME=VALUE                                                       a variable that the files expect

A corpus is a checkout of docker/awesome-compose, of docker/compose (pkg/e2e), of compose-spec/conformance-tests or of
compose-spec/compose-go; none of them is part of this repository. YAML that Go tests hold in backquotes is taken too. A file that
Docker Compose refuses counts as right when devenv refuses it.
"""
import argparse, json, os, re, shutil, subprocess, sys, tempfile, time
from collections import Counter
from pathlib import Path

FILES = re.compile(r"^(docker-)?compose.*\.ya?ml$|^.*/(fixtures|testdata)/.*\.ya?ml$")
INNER = re.compile(r"`\s*\n?([^`]*?\bservices:\s*\n[^`]*)`", re.S)
# What tests hold beside Compose files.
OTHERS = re.compile(r"/(\.github|bridge/expected-[a-z]+|docs)/|golangci")


def run(words, limit=60, **more):
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=limit, **more)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"no answer in {limit} s")


def files(corpus):
    for path in sorted(corpus.rglob("*.y*ml")):
        relative = str(path.relative_to(corpus.parent))
        if not OTHERS.search(relative) and (FILES.match(path.name) or FILES.match(relative)):
            yield path


def inner(corpus, directory):
    """The YAML of Go tests, each in a directory of its own."""
    for source in sorted(corpus.rglob("*_test.go")):
        for number, match in enumerate(INNER.finditer(source.read_text())):
            folder = directory / f"{source.parent.name}-{source.stem}-{number}"
            folder.mkdir(parents=True, exist_ok=True)
            text = re.sub(r"^\t+", lambda tabs: "  " * len(tabs[0]), match[1], flags=re.M)
            (folder / "compose.yaml").write_text(text)
            yield folder / "compose.yaml"


class Corpus:
    def __init__(self, arguments, state):
        self.binary, self.compose, self.state = arguments.binary, arguments.compose, state
        self.variables = dict(os.environ, COMPOSE_PROFILES="*", DEVENV_STATE_DIR=str(state / "state"), DEVENV_RUNTIME_DIR=str(state / "run"))
        self.variables.update(one.split("=", 1) for one in arguments.set)

    def parse(self, path):
        """The errors that devenv finds, and whether Docker Compose takes the file."""
        done = run([self.binary, "validate", "--json", str(path)], env=self.variables, cwd=path.parent)
        try:
            problems = [problem for problem in json.loads(done.stdout)["problems"] if problem["severity"] == "error"]
        except (ValueError, KeyError):
            problems = [{"code": "no-answer", "message": (done.stderr or done.stdout).strip()[:200] or f"exit {done.returncode}"}]
        theirs = None
        if self.compose:
            theirs = run([self.compose, "-f", str(path), "config", "-q"], env=self.variables, cwd=path.parent).returncode == 0
        return problems, theirs

    def here(self, path):
        """The images that the file wants and this engine has not."""
        done = run([self.binary, "config", "-f", str(path)], env=self.variables, cwd=path.parent)
        wanted = set(re.findall(r"^\s+image: (\S+)$", done.stdout, re.M))
        return sorted(image for image in wanted if run(["docker", "image", "inspect", image]).returncode)

    def up(self, path):
        """What `up` says of a copy of the file's directory."""
        folder = Path(tempfile.mkdtemp(prefix="corpus-", dir=self.state))
        project = folder / "project"
        shutil.copytree(path.parent, project, symlinks=True)
        words = lambda *more: [self.binary, "--project", str(project), *more]
        began = time.monotonic()
        done = run(words("up", "-f", str(project / path.name), "--yes", "--timeout", "90s", "--json"), limit=150, env=self.variables, cwd=project)
        took = time.monotonic() - began
        try:
            status = json.loads(done.stdout.splitlines()[-1])
            states = {service["name"]: service["state"] for service in status.get("services", [])}
            said = status.get("error", {}).get("message") or str(states)
        except (ValueError, IndexError):
            said = (done.stderr or done.stdout).strip()[-300:]
        run(words("down", "--volumes"), limit=120, env=self.variables, cwd=project)
        shutil.rmtree(folder, ignore_errors=True)
        return done.returncode == 0, took, said


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpora", nargs="+", type=Path)
    parser.add_argument("--binary", default="target/debug/devenv")
    parser.add_argument("--compose")
    parser.add_argument("--up", action="store_true")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    arguments.binary = str(Path(arguments.binary).resolve())
    state = Path(tempfile.mkdtemp(prefix="corpus-"))
    corpus = Corpus(arguments, state)
    right = total = 0
    for directory in (path.resolve() for path in arguments.corpora):
        listed = [*files(directory), *inner(directory, state / "inner" / directory.name)]
        counted, reasons, refused, came = Counter(), Counter(), [], []
        for path in listed:
            problems, theirs = corpus.parse(path)
            word = "accepted" if not problems else "refused"
            if problems and all(problem["message"].endswith("does not exist") for problem in problems):
                word = "refused: needs files that the corpus has not"
            elif theirs is not None:
                word += " as by Compose" if bool(problems) != theirs else ", not as by Compose"
            counted[word] += 1
            if problems and theirs is not False:
                first = problems[0]
                reasons[re.sub(r"`[^`]*`", "`…`", first["message"])] += 1
                refused.append(f"  {path.relative_to(path.parents[2])}:{first.get('line', '')}: {first['message']}")
            if arguments.up and not problems and theirs is not False:
                missing = corpus.here(path)
                if missing:
                    came.append((path, None, 0, "needs " + ", ".join(missing)))
                else:
                    came.append((path, *corpus.up(path)))
                    if not came[-1][1] and "refused to pull the image" in came[-1][3]:
                        came[-1] = (path, None, 0, "wants a base image: " + re.findall("`([^`]*)`", came[-1][3])[0])
                path, well, took, said = came[-1]
                print(f"  {'up' if well else 'not here' if well is None else 'FAILED'} {took:5.1f} s {path.relative_to(directory)} {'' if well else said}", flush=True)
        # What Compose alone refuses is newer than it, or found when it runs the file.
        good = sum(count for word, count in counted.items() if "as by Compose" in word and ", not" not in word or word.startswith(("accepted", "refused: needs")))
        right, total = right + good, total + len(listed)
        print(f"{directory.name}: {good} of {len(listed)} right ({100 * good / max(1, len(listed)):.1f} %); {dict(counted)}")
        for reason, count in reasons.most_common():
            print(f"  {count:4} {reason}")
        print("\n".join(refused))
        if arguments.up:
            ran = [one for one in came if one[1] is not None]
            print(f"  came up: {sum(1 for one in ran if one[1])} of {len(ran)}; {len(came) - len(ran)} want images that are not here")
    print(f"all: {right} of {total} right ({100 * right / max(1, total):.1f} %)")
    run([arguments.binary, "down", "--all", "--volumes"], limit=120, env=corpus.variables)
    run([arguments.binary, "daemon", "stop"], limit=60, env=corpus.variables)
    shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
