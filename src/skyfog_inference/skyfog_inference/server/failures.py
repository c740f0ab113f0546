"""What went wrong, in the OpenAI API's form: `{"error": {"message", "type", "param", "code"}}` and an HTTP status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skyfog_core.errors import InvalidRequest, NotExecuted, Overloaded, SkyfogError
from skyfog_inference.server.protocol import field_of

RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that is an error."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """When a client may come again, where that helps."""
        return {"retry-after": str(RETRY_AFTER_S)} if self.status in {429, 503} else {}


class Refused(SkyfogError):
    """A request is answered with this failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: BaseException) -> Failure:
    """What a client is told of an error of ours."""
    if isinstance(error, Refused):
        return error.failure
    message = str(error)
    if isinstance(error, InvalidRequest):
        long = "context" in message
        return Failure(400, message, param=field_of(message), code="context_length_exceeded" if long else None)
    if isinstance(error, Overloaded):
        return Failure(429, message, "rate_limit_error", code="rate_limit_exceeded")
    if isinstance(error, NotExecuted):
        return Failure(503, message, "service_unavailable_error", code="service_unavailable")
    return Failure(500, message if isinstance(error, SkyfogError) else type(error).__name__, "server_error")


def unknown_model(asked: str, served: list[str]) -> Failure:
    """404, with the models that there are."""
    there = ", ".join(repr(name) for name in served)
    return Failure(404, f"model: there is no {asked!r}; there is {there}", param="model", code="model_not_found")


NO_KEY = Failure(401, "the header Authorization should be `Bearer KEY` with this server's key", code="invalid_api_key")
TOO_LARGE = Failure(413, "the request is too large")
