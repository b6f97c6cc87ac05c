"""What a client gets that asks for what cannot be: OpenAI's object, with what was expected, what came, and the fix."""

from collections.abc import Mapping
from typing import Any

from ..errors import InputError

KINDS = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
"""OpenAI's word for a status; other refusals are an invalid_request_error, and failures a server_error."""
CLIENT_CLOSED = 499
"""The status, known from nginx, of an answer that nobody waits for."""
NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's client would send it again."""


class ApiError(Exception):
    """A refusal with its HTTP status; `param` is the field at fault, `code` a word for programs."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """As JSON: {"error": {"message", "type", "param", "code"}}."""
        usual = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = KINDS.get(self.status, usual)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def refused(error: InputError, hidden: str = "") -> ApiError:
    """Bad input as a client gets it: status 400 and a line a problem. `hidden` is a folder of the server's, which is
    left out of them."""
    lines = [problem.replace(hidden, "") if hidden else problem for problem in error.problems]
    first = lines[0].partition(":")[0].split(" ")[0] if lines else ""
    return ApiError(400, "\n".join(lines), first if first.isidentifier() else None, "invalid_value")
