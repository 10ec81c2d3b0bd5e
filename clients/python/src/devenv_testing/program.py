"""The `devenv` program: what needs a profile to be read, or a daemon to be started, is its work."""
import json
import os
import subprocess
from typing import Any, List, Sequence

from .errors import DevenvError

# Seconds, added to the limit that devenv itself keeps.
GRACE = 60.0


def run(arguments: Sequence[str], timeout: float) -> Any:
    """The document that a command prints with `--json`. Raises the error that it prints instead."""
    program = os.environ.get("DEVENV_BIN") or "devenv"
    command: List[str] = [program, *arguments, "--json", "--quiet"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout + GRACE)
    except FileNotFoundError as error:
        raise DevenvError("no-program", f"devenv not found (tried `{program}`)", "set DEVENV_BIN to the program, or add it to PATH") from error
    except OSError as error:
        raise DevenvError("no-program", f"cannot run `{program}`: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise DevenvError("timed-out", f"`{' '.join(command)}` did not end within {timeout + GRACE:.0f} s") from error
    try:
        document = json.loads(done.stdout)
    except ValueError as error:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise DevenvError("unexpected", f"`{' '.join(command)}` failed: {said}") from error
    if done.returncode != 0 and isinstance(document, dict) and "error" in document:
        raise DevenvError.of(document["error"])
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise DevenvError("failed", f"`{' '.join(command)}` failed: {said}")
    return document


def socket_path(timeout: float = 30.0) -> str:
    """Where the daemon listens."""
    return str(run(["daemon", "status"], timeout)["socket"])
