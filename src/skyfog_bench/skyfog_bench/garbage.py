"""A replica gone mad: it announces itself as any other and answers every request with bytes that are no response.

python -m skyfog_bench.garbage FLEET CONNECT SERVICE ZONE SEED
"""

from __future__ import annotations

import random
import signal
import sys

from skyfog_core.config.router import ZenohConfig
from skyfog_core.errors import Status, WireError
from skyfog_core.ids import RequestId
from skyfog_core.rng import stream
from skyfog_core.wire import codec
from skyfog_core.wire.envelope import VERSION, ReplyHeader
from skyfog_core.wire.keys import ReplicaKey, ServiceKeys
from skyfog_core.wire.membership import Announcement
from skyfog_router.transport.base import Query
from skyfog_router.transport.zenoh import ZenohReplicaTransport, open_session

LONGEST = 2_000  # bytes


class Garbage:
    """The replica's events: a header that is none, or a right one beside a payload that is none."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def query(self, query: Query) -> None:
        payload = self._draw.randbytes(self._draw.randrange(LONGEST))
        header = self._draw.randbytes(self._draw.randrange(100))
        if self._draw.random() < 0.5:
            try:
                asked = codec.decode_header(query.header)
            except WireError:
                return
            header = codec.encode(ReplyHeader(VERSION, asked.request_id, Status.OK, 0, 0))
        query.answer(header, payload)

    def cancelled(self, request_id: RequestId) -> None:
        """It does not care."""


def main() -> None:
    """Answer until SIGTERM."""
    fleet, connect, service, zone, seed = sys.argv[1:]
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before zenoh starts its threads
    transport = ZenohReplicaTransport(open_session(ZenohConfig(connect=connect.split(","))))
    transport.serve(ServiceKeys(fleet, service), ReplicaKey(zone, "0"), Garbage(stream(int(seed), "garbage")))
    transport.announce(Announcement(capacity=32))
    signal.sigwait(ends)
    transport.close()


if __name__ == "__main__":
    main()
