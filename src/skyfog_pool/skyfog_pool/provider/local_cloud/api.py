"""The local cloud's HTTP, on a Unix socket: what a provider asks, and below /do what is done to the cloud.

    GET    /zones  /prices  /about           POST   /machines        409 {fault, message}: refused
    GET    /machines?pool=P                  DELETE /machines/ID
    GET    /machines/ID/log?lines=N          POST   /do/WHAT         422 {message}: no such zone, not possible here

An error's body is `{"message": …}`. While an outage is on, all but /do and /about answers 500 or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from skyfog_core.errors import SkyfogError
from skyfog_pool.policy.market import NoticeKind
from skyfog_pool.provider.base import Ending, LaunchRefused, Order
from skyfog_pool.provider.local_cloud.cloud import Cloud, Failure
from skyfog_pool.provider.local_cloud.machine import Machine, read_tail

HANG_S = 60.0  # a call that is not answered is given up
MAX_LINES = 100_000


class NoMachine(SkyfogError):
    """There is no machine of the name."""


class Do(msgspec.Struct, forbid_unknown_fields=True):
    """What is done to the cloud; each kind uses the fields that it needs."""

    zone: str = ""
    machine: str = ""
    count: int = 1
    notice_s: float | None = None
    kind: NoticeKind = "rebalance"
    usd: float = 0.0
    failure: Failure = "capacity"
    outage: Literal["", "error", "hang"] = ""


class Api:
    """The application; `ended` is set when the cloud is to end."""

    def __init__(self, cloud: Cloud, steady_s: Callable[[], float] = time.monotonic) -> None:
        self.ended = asyncio.Event()
        self._cloud = cloud
        self._steady_s = steady_s
        self._asked_s = steady_s()
        self._outage: Literal["", "error", "hang"] = ""
        self._does: dict[str, Callable[[Do], Any]] = {
            "preempt": lambda do: cloud.preempt(do.zone, do.count, do.notice_s),
            "warn": lambda do: cloud.warn(do.zone, do.count, do.kind),
            "take": lambda do: cloud.take(self._machine(do), do.notice_s),
            "notice": lambda do: self._machine(do).give_notice(do.kind, do.notice_s),
            "crash": lambda do: self._machine(do).kill(Ending.FAILED),
            "capacity": lambda do: cloud.set_capacity(do.zone, do.count),
            "price": lambda do: cloud.set_price(do.zone, do.usd),
            "partition": self._partition,
            "heal": self._heal,
            "fail": self._fail,
            "outage": self._set_outage,
            "end": lambda _: self.ended.set(),
        }
        self.app = Starlette(
            routes=[
                Route("/about", self._wrapped(self._about, always=True)),
                Route("/zones", self._wrapped(lambda _: cloud.zones())),
                Route("/prices", self._wrapped(lambda _: cloud.prices())),
                Route("/machines", self._wrapped(self._instances), methods=["GET"]),
                Route("/machines", self._launch, methods=["POST"]),
                Route("/machines/{id}", self._wrapped(self._terminate), methods=["DELETE"]),
                Route("/machines/{id}/log", self._wrapped(self._log)),
                Route("/do/{what}", self._do, methods=["POST"]),
            ]
        )

    def end_if_idle(self) -> None:
        """End where there were neither machines nor calls for long."""
        if self._cloud.alive:
            self._asked_s = max(self._asked_s, self._steady_s())
        elif self._steady_s() - self._asked_s > self._cloud.options.linger_s:
            self.ended.set()

    # what a provider asks

    def _wrapped(
        self, answer: Callable[[Request], Any], *, always: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        async def asked(request: Request) -> Response:
            self._asked_s = self._steady_s()
            if not always and self._outage:
                return await self._broken()
            return _json(answer(request))

        return asked

    async def _broken(self) -> Response:
        if self._outage == "hang":
            await self._hang()
        return _json({"message": "internal error, as asked for"}, 500)

    async def _hang(self) -> None:
        """Until the cloud ends or the caller has long gone away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HANG_S):
                await self.ended.wait()

    def _about(self, _request: Request) -> dict[str, Any]:
        places = self._cloud.places
        return {
            "pid": os.getpid(),
            "home": places.home,
            "namespaces": places.network is not None,
            "why_not": places.why_not,
            "options": self._cloud.options.model_dump(mode="json"),
            "alive": len(self._cloud.alive),
            "bill_usd": self._cloud.bill,
        }

    def _instances(self, request: Request) -> Any:
        return self._cloud.instances(request.query_params.get("pool", ""))

    def _terminate(self, request: Request) -> dict[str, Any]:
        self._cloud.terminate(request.path_params["id"])
        return {}

    def _log(self, request: Request) -> list[str]:
        machine = self._cloud.machine(request.path_params["id"])
        lines = min(MAX_LINES, max(0, int(request.query_params.get("lines", "100"))))
        return [] if machine is None else read_tail(machine.log, lines)

    async def _launch(self, request: Request) -> Response:
        self._asked_s = self._steady_s()
        if self._outage:
            return await self._broken()
        try:
            instance, failure = self._cloud.launch(msgspec.json.decode(await request.body(), type=Order))
        except LaunchRefused as refused:
            return _json({"fault": refused.fault, "message": str(refused)}, 409)
        except (SkyfogError, msgspec.MsgspecError) as error:
            return _json({"message": str(error)}, 422)
        if failure == "hang":
            await self._hang()
        if failure is not None:
            return _json({"message": "internal error, as asked for"}, 500)
        return _json(instance)

    # what is done to it

    async def _do(self, request: Request) -> Response:
        does = self._does.get(request.path_params["what"])
        if does is None:
            return _json({"message": f"there are {', '.join(self._does)}"}, 404)
        try:
            return _json(does(msgspec.json.decode(await request.body() or b"{}", type=Do)))
        except (SkyfogError, msgspec.MsgspecError) as error:
            return _json({"message": str(error)}, 422)

    def _machine(self, do: Do) -> Machine:
        machine = self._cloud.machine(do.machine)
        if machine is None:
            raise NoMachine(f"no machine {do.machine!r}")
        return machine

    def _partition(self, do: Do) -> None:
        self._cloud.check_zone(do.zone)
        self._cloud.places.partition(do.zone)

    def _heal(self, do: Do) -> None:
        self._cloud.check_zone(do.zone)
        self._cloud.places.heal(do.zone)

    def _fail(self, do: Do) -> None:
        for _ in range(do.count):
            self._cloud.fail_next(do.failure, do.zone)

    def _set_outage(self, do: Do) -> None:
        self._outage = do.outage


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")
