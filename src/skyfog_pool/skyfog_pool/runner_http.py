"""The runner's HTTP: its own two paths, and every other passed on to the replica."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from skyfog_pool.report import Status

PASS_LIMIT_S = 600.0  # between two pieces of an answer that is passed on
CONNECT_LIMIT_S = 5.0
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# Of one connection, not of the message: RFC 9110, section 7.6.1.
HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",  # codespell:ignore te
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}


def make_app(
    status: Callable[[int, float], Awaitable[Status]],
    drain: Callable[[float | None, str], None],
    replica: httpx.AsyncClient,
) -> Starlette:
    """See report.py for the two paths."""

    async def on_status(request: Request) -> Response:
        try:
            after = int(request.query_params.get("after", "-1"))
            wait_s = float(request.query_params.get("wait_s", "0"))
        except ValueError:
            return PlainTextResponse("after: a whole number; wait_s: a number", 400)
        told = await status(after, wait_s)
        return Response(msgspec.json.encode(told), media_type="application/json")

    async def on_drain(request: Request) -> Response:
        given = request.query_params.get("within_s")
        try:
            within_s = None if given is None else max(0.0, float(given))
        except ValueError:
            return PlainTextResponse("within_s: a number", 400)
        drain(within_s, "asked for")
        return Response(status_code=202)

    async def pass_on(request: Request) -> Response:
        return await _pass_on(request, replica)

    return Starlette(
        routes=[
            Route("/status", on_status),
            Route("/drain", on_drain, methods=["POST"]),
            Route("/{path:path}", pass_on, methods=METHODS),
        ]
    )


async def _pass_on(request: Request, replica: httpx.AsyncClient) -> Response:
    """To the replica and back, piece by piece; 503 where it cannot be reached."""
    has_body = "content-length" in request.headers or "transfer-encoding" in request.headers
    asked = replica.build_request(
        request.method,
        httpx.URL(path=request.url.path, query=request.url.query.encode()),
        headers=[(name, value) for name, value in request.headers.raw if name not in HOP and name != b"host"],
        content=request.stream() if has_body else None,
        timeout=httpx.Timeout(PASS_LIMIT_S, connect=CONNECT_LIMIT_S),
    )
    try:
        answer = await replica.send(asked, stream=True)
    except httpx.HTTPError as error:
        return PlainTextResponse(f"the replica does not answer: {type(error).__name__}", 503)
    passed = StreamingResponse(_pieces(answer), answer.status_code, background=BackgroundTask(answer.aclose))
    passed.raw_headers = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in HOP]
    return passed


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    async for piece in answer.aiter_raw():
        yield piece
