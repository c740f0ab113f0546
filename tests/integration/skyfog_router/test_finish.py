"""A replica that leaves while much of what it has to say is still on its way."""

from __future__ import annotations

import os
import threading

import pytest
from integration.skyfog_router.conftest import Net
from integration.skyfog_router.ends import LIMIT_S

MB = 1 << 20


@pytest.mark.parametrize("size", [100, 4 * MB])
def test_no_answer_is_cut_off_by_the_end_of_its_replica(net: Net, size: int) -> None:
    robot, replica = net.robot(), net.local("0", echoes=False, concurrency=4)
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
