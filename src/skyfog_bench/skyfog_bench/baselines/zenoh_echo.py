"""Bare zenoh, with the settings that Skyfog uses: a queryable that answers, and a client that times its gets.

python -m skyfog_bench.baselines.zenoh_echo server|client ENDPOINT
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from skyfog_bench.messages import HEAD_BYTES, answer, head, number_of
from skyfog_bench.serve import serve
from skyfog_core.config.router import ZenohConfig
from skyfog_router.transport.zenoh import open_session

KEY = "skyfog_bench/echo"
GET_LIMIT_S = 10.0
RETRY_S = 0.1


class ZenohClient:
    """Gets, one at a time; the same commands as nodes/client.py."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._number = 0

    def wait(self, service: str, limit_s: float) -> dict[str, Any]:
        """Until the queryable answers. Raises TimeoutError."""
        until = time.monotonic() + limit_s
        while self._get(bytearray(HEAD_BYTES), echo=True)[2] != 0:
            if time.monotonic() > until:
                raise TimeoutError(f"no reply on {KEY} within {limit_s:.0f} s")
            time.sleep(RETRY_S)
        return {}

    def round(self, service: str, size: int, echo: bool, count: int, warm: int) -> dict[str, Any]:
        """`count` gets after `warm` that are not kept: [sent_ns, answered_ns, 0 or -1] each."""
        data = bytearray(os.urandom(size))
        for _ in range(warm):
            self._get(data, echo=echo)
        return {"calls": [self._get(data, echo=echo) for _ in range(count)]}

    def _get(self, data: bytearray, *, echo: bool) -> tuple[int, int, int]:
        self._number += 1
        data[:HEAD_BYTES] = head(self._number, echo=echo)
        began = time.monotonic_ns()
        replies = self._session.get(KEY, payload=data, timeout=GET_LIMIT_S)
        got = [reply.ok.payload.to_bytes() for reply in replies if reply.ok is not None]
        ended = time.monotonic_ns()
        right = len(got) == 1 and (number_of(got[0]) == self._number if echo else got[0] == b"")
        return began, ended, 0 if right else -1


def main() -> None:
    """Serve queries until SIGTERM, or commands until standard input ends."""
    role, endpoint = sys.argv[1:]
    if role == "server":
        ends = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before zenoh starts its threads
        session: Any = open_session(ZenohConfig(listen=[endpoint]))
        session.declare_queryable(KEY, lambda query: query.reply(KEY, answer(query.payload.to_bytes())), complete=True)
        signal.sigwait(ends)
    else:
        session = open_session(ZenohConfig(connect=[endpoint]))
        client = ZenohClient(session)
        serve({"wait": client.wait, "round": client.round})
    session.close()


if __name__ == "__main__":
    main()
