"""The OpenAI-compatible HTTP server: paths, keys, bodies in; answers, streams and failures out.

A request that its client leaves is withdrawn from the engine: an event stream is closed by the server then, and beside
an answer that is awaited whole somebody listens for the end of the connection.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from skyfog_core.errors import InvalidRequest, NotExecuted, Overloaded, SkyfogError
from skyfog_inference.served import Served
from skyfog_inference.server.answer import Answer
from skyfog_inference.server.failures import NO_KEY, TOO_LARGE, Failure, Refused, failure_of, unknown_model
from skyfog_inference.server.metrics import MetricsOf
from skyfog_inference.server.protocol import Asked, ChatRequest, CompletionRequest, read

log = structlog.get_logger()

MAX_BODY = 16 << 20  # bytes
CLIENT_LEFT = 499  # nobody reads it; nginx's number for it, in our own log
KEEP_ALIVE = {"cache-control": "no-cache", "x-accel-buffering": "no"}
Endpoint = Callable[[Request], Awaitable[Response]]


class Server:
    """The end points over one served model."""

    def __init__(self, served: Served, api_key: str) -> None:
        self._served = served
        self._key = api_key.encode()
        self._began_s = int(time.time())
        self._metrics = MetricsOf(served.name, served.metrics)

    def app(self) -> Starlette:
        """The ASGI application."""
        guarded = self._guarded
        return Starlette(
            routes=[
                Route("/v1/models", guarded(self._models)),
                Route("/v1/models/{name:path}", guarded(self._model)),
                Route("/v1/completions", guarded(self._completions), methods=["POST"]),
                Route("/v1/chat/completions", guarded(self._chat), methods=["POST"]),
                Route("/health", self._health),
                Route("/metrics", self._scrape),
            ],
            exception_handlers={HTTPException: _http_failure, Exception: _fault},
        )

    def _guarded(self, endpoint: Endpoint) -> Endpoint:
        """`endpoint` behind the key, with our errors in the API's form."""

        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ").encode()
            if self._key and not secrets.compare_digest(given, self._key):
                return _failed(NO_KEY)
            try:
                return await endpoint(request)
            except ClientDisconnect:
                return Response(status_code=CLIENT_LEFT)
            except Overloaded as error:
                ends = NotExecuted(self._served.unwell())  # coming again soon would not help
                return _failed(failure_of(ends if str(ends) else error))
            except SkyfogError as error:
                return _failed(failure_of(error))

        return guarded

    async def _completions(self, request: Request) -> Response:
        asked = read(CompletionRequest, await _json(request))
        self._is_served(asked)
        prompts = [
            await asyncio.to_thread(self._served.encode, prompt) if isinstance(prompt, str) else prompt
            for prompt in asked.prompt
        ]
        return await self._answer(request, Answer("completion", self._served, asked, prompts))

    async def _chat(self, request: Request) -> Response:
        asked = read(ChatRequest, await _json(request))
        self._is_served(asked)
        prompt = await asyncio.to_thread(self._served.encode_chat, asked.turns)
        return await self._answer(request, Answer("chat", self._served, asked, [prompt]))

    async def _answer(self, request: Request, answer: Answer) -> Response:
        """Begin to draw; a stream goes on after this has returned."""
        answer.begin()  # what cannot be is refused here, while there still is a status to say it with
        if answer.streams:
            return StreamingResponse(answer.events(), media_type="text/event-stream", headers=KEEP_ALIVE)
        whole = asyncio.ensure_future(answer.whole())
        left = asyncio.ensure_future(_left(request))
        try:
            await asyncio.wait({whole, left}, return_when=asyncio.FIRST_COMPLETED)
            if not whole.done():
                return Response(status_code=CLIENT_LEFT)
            return JSONResponse(whole.result())
        finally:
            whole.cancel()
            left.cancel()
            await asyncio.gather(whole, left, return_exceptions=True)

    def _is_served(self, asked: Asked) -> None:
        if asked.model not in ("", self._served.name):
            raise Refused(unknown_model(asked.model, [self._served.name]))

    async def _models(self, _request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._described()]})

    async def _model(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name != self._served.name:
            raise Refused(unknown_model(name, [self._served.name]))
        return JSONResponse(self._described())

    def _described(self) -> dict[str, Any]:
        return {
            "id": self._served.name,
            "object": "model",
            "created": self._began_s,
            "owned_by": "skyfog",
            "max_model_len": self._served.context,
        }

    async def _health(self, _request: Request) -> Response:
        why = self._served.unwell()
        return JSONResponse({"status": why or "ok"}, 503 if why else 200)

    async def _scrape(self, _request: Request) -> Response:
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)


async def _json(request: Request) -> Any:
    """The body. Raises Refused where it is too large, InvalidRequest where it is no JSON."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            raise Refused(TOO_LARGE)
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"body: is not JSON: {error}") from None


async def _left(request: Request) -> None:
    """Until the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _failed(failure: Failure) -> Response:
    return JSONResponse(failure.body, failure.status, failure.headers)


async def _http_failure(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _failed(Failure(error.status_code, error.detail))


async def _fault(_request: Request, error: Exception) -> Response:
    log.error("request_failed", exc_info=error)
    return _failed(failure_of(error))
