"""The pool: one process a request, killed when nobody wants it, and none left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from skyfog_core.cancel import Cancellation
from skyfog_core.errors import ConfigError
from skyfog_planning.options import Options
from skyfog_planning.problem import Code, PlanError, Progress
from skyfog_planning.workers import Pool

pytest.importorskip("ompl", reason="ompl is not installed: ./ws extra planning")
pytest.importorskip("pyroboplan", reason="pyroboplan is not installed: ./ws extra planning")

from support.arms import LOW, LOW_BEHIND, POST, PRISON, panda_problem
from support.processes import LIMIT_S, is_alive, living_children, wait_until

pytestmark = pytest.mark.timeout(400)  # a pool's start may take a minute

SRC = Path(__file__).parents[3] / "src"
ENDLESS = panda_problem(bodies=(POST,), anytime=True, budget_s=600.0)


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """The zygote is another Python; it finds the sources as a built workspace would let it."""
    before = os.environ.get("PYTHONPATH")
    paths = [str(SRC / name) for name in ("skyfog_core", "skyfog_planning")]
    os.environ["PYTHONPATH"] = ":".join([*paths, *([before] if before else [])])
    yield
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.fixture(scope="module")
def pool(_importable: None) -> Iterator[Pool]:
    made = Pool(1, ["panda"], Options(), grace_s=0.5)
    yield made
    made.close()


def children(pid: int) -> set[int]:
    return {child.pid for child in living_children(pid)}


class Working:
    """A report that notes, at the first progress, which process has made it, and acts on it.

    Before, the only child may be the one of the request before: the zygote ends that and forks the next in its time.
    """

    def __init__(self, pool: Pool, act: Callable[[int], object]) -> None:
        self.pids: set[int] = set()
        self.heard: list[Progress] = []
        self._pool, self._act = pool, act

    def __call__(self, progress: Progress) -> None:
        self.heard.append(progress)
        if not self.pids:
            self.pids = children(self._pool.zygote_pid)
            for pid in self.pids:
                with contextlib.suppress(ProcessLookupError):  # that one had just ended
                    self._act(pid)


def gone(pids: set[int]) -> bool:
    return not any(is_alive(pid) for pid in pids)


def test_workers_that_never_met_give_the_same_plan_for_the_same_seed(pool: Pool) -> None:
    problem = panda_problem(bodies=(POST,), seed=5)
    first, again, other = (pool.plan(one) for one in (problem, problem, replace(problem, seed=6)))
    assert np.array_equal(first.trajectory.positions, again.trajectory.positions)
    assert np.array_equal(first.trajectory.accelerations, again.trajectory.accelerations)
    assert first.iterations == again.iterations
    assert first.iterations != other.iterations


def test_errors_come_back_with_their_codes(pool: Pool) -> None:
    with pytest.raises(PlanError, match="there are: panda") as caught:
        pool.plan(panda_problem(robot="ur5"))
    assert caught.value.code is Code.INVALID
    prison = panda_problem(LOW, LOW_BEHIND, bodies=PRISON, budget_s=0.3)
    with pytest.raises(PlanError) as caught:
        pool.plan(prison)
    assert caught.value.code is Code.NO_PLAN_IN_TIME


def test_a_cancelled_request_ends_at_once_with_its_process(pool: Pool) -> None:
    cancellation = Cancellation()
    working = Working(pool, lambda _pid: cancellation.cancel())
    with pytest.raises(PlanError, match="withdrawn") as caught:
        pool.plan(ENDLESS, cancellation, working)
    assert caught.value.code is Code.WITHDRAWN
    assert working.heard[0].iterations > 0
    wait_until("the worker's end", lambda: gone(working.pids))
    assert pool.plan(panda_problem()).path_length_rad == pytest.approx(1.2)  # the next worker is there


def test_a_request_cancelled_before_it_runs_never_runs(pool: Pool) -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(PlanError) as caught:
        pool.plan(ENDLESS, cancellation)
    assert caught.value.code is Code.WITHDRAWN


def test_a_worker_that_dies_is_an_error_and_the_next_request_is_served(pool: Pool) -> None:
    working = Working(pool, lambda pid: os.kill(pid, signal.SIGKILL))
    with pytest.raises(PlanError, match="ended without an answer") as caught:
        pool.plan(ENDLESS, None, working)
    assert caught.value.code is Code.INTERNAL
    assert pool.plan(panda_problem()).iterations > 0


def test_a_worker_stopped_beyond_its_budget_is_killed(pool: Pool) -> None:
    working = Working(pool, lambda pid: os.kill(pid, signal.SIGSTOP))
    with pytest.raises(PlanError, match=r"killed 0\.5 s beyond its budget of 3 s") as caught:
        pool.plan(replace(ENDLESS, budget_s=3.0), None, working)
    assert caught.value.code is Code.NO_PLAN_IN_TIME
    wait_until("the worker's end", lambda: gone(working.pids))


def test_while_every_worker_is_busy_a_request_waits_no_longer_than_its_budget(pool: Pool) -> None:
    cancellation, begun = Cancellation(), threading.Event()

    def occupy() -> None:
        with pytest.raises(PlanError):
            pool.plan(ENDLESS, cancellation, lambda _progress: begun.set())

    busy = threading.Thread(target=occupy)
    busy.start()
    assert begun.wait(LIMIT_S)
    with pytest.raises(PlanError, match=r"no worker was free within 0\.2 s"):
        pool.plan(panda_problem(budget_s=0.2))
    cancellation.cancel()
    busy.join(LIMIT_S)
    assert not busy.is_alive()


def test_a_zygote_that_dies_is_started_again(pool: Pool) -> None:
    old = pool.zygote_pid
    psutil.Process(old).kill()
    wait_until("its end", lambda: gone({old}))  # its worker would plan until then
    with pytest.raises(PlanError, match="ended without an answer"):
        pool.plan(panda_problem())  # its waiting worker died with it
    assert pool.plan(panda_problem()).iterations > 0
    assert pool.zygote_pid != old


def test_a_robot_that_cannot_be_loaded_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"no robot 'padna'; did you mean 'panda'"):
        Pool(1, ["padna"], Options(), grace_s=0.5)


OWNER = """
import sys, threading
from skyfog_planning.options import Options
from skyfog_planning.workers import Pool
from support.arms import POST, panda_problem
if __name__ == "__main__":
    pool = Pool(1, ["panda"], Options(), 0.5)
    print(pool.zygote_pid, flush=True)
    endless = panda_problem(bodies=(POST,), anytime=True, budget_s=600.0)
    pool.plan(endless, None, lambda progress: print("working", flush=True))
"""


def test_when_its_owner_is_killed_no_process_is_left(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    env = {**os.environ, "PYTHONPATH": f"{SRC.parent / 'tests'}:{os.environ['PYTHONPATH']}"}
    owner = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env)
    assert owner.stdout is not None
    with owner.stdout:
        try:
            zygote = int(owner.stdout.readline())
            assert owner.stdout.readline() == "working\n"
            processes = {zygote, *children(zygote)}
            assert len(processes) >= 2
        finally:
            owner.kill()
            owner.wait(LIMIT_S)
        wait_until("the end of all", lambda: gone(processes))


def test_closing_ends_every_process() -> None:
    pool = Pool(2, ["panda"], Options(), grace_s=0.5)
    processes = {pool.zygote_pid, *children(pool.zygote_pid)}
    began = time.monotonic()
    pool.close()
    wait_until("the end of all", lambda: gone(processes))
    assert time.monotonic() - began < LIMIT_S
