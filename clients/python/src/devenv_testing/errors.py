"""The one exception of this package."""
from typing import Any, List, Mapping, Optional


class DevenvError(Exception):
    """devenv refused or failed. `code` is a stable word: those of the daemon's `ErrorCode`, and of this package
    `no-program`, `no-daemon`, `foreign-socket`, `lost`, `unexpected`, `not-observed` and `no-service`."""

    def __init__(self, code: str, message: str, hint: Optional[str] = None, problems: Optional[List[Any]] = None) -> None:
        places = [f"{found['file']}:{found['line']}:{found['column']}: {found['message']}" for found in problems or []]
        super().__init__("\n".join([f"{message} ({hint})" if hint else message, *places]))
        self.code = code
        self.message = message
        self.hint = hint
        self.problems = problems or []

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "DevenvError":
        """From the `error` of an answer."""
        return cls(str(document.get("code", "unexpected")), str(document.get("message", document)), document.get("hint"), document.get("problems"))
