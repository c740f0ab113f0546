"""A replica that leaves while much of what it has to say is still on its way."""

from __future__ import annotations

import os
import threading
import time

import pytest
from integration.skyfog_router.conftest import Net
from integration.skyfog_router.ends import DEADLINE_MS, LIMIT_S, TracedDriver, open_router_transport

from skyfog_core.ids import RequestId
from skyfog_core.wire.keys import ReplicaKey
from skyfog_router.transport import zenoh as transport

MB = 1 << 20


class SlowReader(TracedDriver):
    """Comes to an answer only a while after the one before it."""

    def reply(self, service: str, request_id: RequestId, replica: ReplicaKey, header: bytes, payload: bytes) -> None:
        time.sleep(0.04)
        super().reply(service, request_id, replica, header, payload)


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("size", [100, 4 * MB])
def test_no_answer_is_cut_off_by_the_end_of_its_replica(
    net: Net, size: int, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SETTLE_S", 4.0)  # a busy machine may be a second late with the last of 32 MB
    robot = net.keep(SlowReader(open_router_transport(net.endpoint), DEADLINE_MS)) if slow else net.robot()
    replica = net.local("0", echoes=False, concurrency=4)
    robot.watched.wait_for(replica.who)
    payloads = [os.urandom(size) for _ in range(8)]
    callers = [robot.ask(payload) for payload in payloads]
    for _ in payloads:
        replica.driver.queries.get(timeout=LIMIT_S)
    finished = threading.Event()
    replica.driver.finish(60_000, finished.set)
    assert robot.watched.leaves.get(timeout=LIMIT_S) == replica.who
    for _ in payloads:
        replica.service.finish()
    assert finished.wait(LIMIT_S)
    replica.close()
    assert [caller.wait() == payload for caller, payload in zip(callers, payloads, strict=True)] == [True] * 8
