"""Busy processes beside what is recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from skyfog_bench.fogros2ft.record import on_core, rivals
from skyfog_bench.processes import Processes


@pytest.fixture
def core() -> Iterator[int]:
    allowed = os.sched_getaffinity(0)
    yield max(allowed)
    assert os.sched_getaffinity(0) == allowed


def test_rivals_run_on_the_core_and_are_gone_afterwards(core: int) -> None:
    with Processes({}) as processes:
        with rivals(processes, core, 2) as pids:
            until = time.monotonic() + 20.0
            while any(os.sched_getaffinity(pid) != {core} for pid in pids):
                assert time.monotonic() < until
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_core_is_given_back_after_an_error(core: int) -> None:
    with pytest.raises(KeyError), on_core(core):
        raise KeyError
