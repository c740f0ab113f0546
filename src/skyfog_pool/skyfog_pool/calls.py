"""Calls that block, made from the event loop: each in a thread of its own, with a limit, and never too many at once."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from skyfog_pool.provider.base import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


class Calls:
    """A call that takes too long goes on in its thread, and counts as under way, but nobody waits for it.

    Daemon threads rather than an executor: a process ends though a call hangs.
    """

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)

    async def __call__(self, limit_s: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Raises what the call raises; Unavailable after `limit_s`."""
        name = getattr(call, "__name__", "call")
        try:
            async with asyncio.timeout(limit_s):
                await self._free.acquire()
                return await self._start(lambda: call(*args, **kwargs))
        except TimeoutError:
            raise Unavailable(f"{name}: no answer within {limit_s:g} s") from None

    def _start(self, call: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            self._free.release()
            if future.done():
                return  # given up
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            try:
                result = call()
            except BaseException as raised:  # noqa: BLE001  # it is raised where the call was awaited
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done, result, error)

        threading.Thread(target=work, daemon=True, name="provider-call").start()
        return future
