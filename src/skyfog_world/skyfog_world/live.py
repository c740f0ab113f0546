"""A world that runs by the clock on the wall, in two threads, and tells what happens in it.

The physics thread owns the simulation: it steps, obeys, and tells states. When a sensor is due and the sensor thread is
free, it gets a copy of the state, so that a slow picture delays the next picture and never the physics. With a real
time factor of 0 the physics waits for the sensors instead, and no picture is left out.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

import mujoco
import numpy as np
import numpy.typing as npt
import structlog

from skyfog_core.units import MS, S
from skyfog_world.model import CameraSpec, Link, Model, Sensor
from skyfog_world.mujoco_sim import Simulation
from skyfog_world.sensors import Cameras, Picture, scan

log = structlog.get_logger()

TICK_NS = 10 * MS
LAG_NS = 200 * MS  # what is further behind is given up, not made good in a rush
TELL_S = 10.0
END_LIMIT_S = 5.0
MAX_ORDERS = 1_000

T = TypeVar("T")


class Listener(Protocol):
    """What hears of the world. The first two are called by the physics thread, the others by the sensor thread."""

    def ticked(self, now_ns: int) -> None:
        """Every TICK_NS."""

    def states(self, simulation: Simulation) -> None:
        """At `state_hz`; `simulation` must not be kept."""

    def picture(self, sensor: Sensor, picture: Picture, taken_ns: int) -> None:
        """A camera's picture of the world as it was at `taken_ns`."""

    def scanned(self, sensor: Sensor, ranges: npt.NDArray[np.float32], taken_ns: int) -> None:
        """A lidar's."""


@dataclass(slots=True)
class Due:
    """Something that comes again and again in simulated time."""

    period_ns: int
    next_ns: int = 0

    def take(self, now_ns: int) -> bool:
        """Whether it is due; then the next one is set, without making good what was missed."""
        if now_ns < self.next_ns:
            return False
        in_time = self.next_ns + self.period_ns
        self.next_ns = in_time if in_time > now_ns else now_ns + self.period_ns
        return True


class _Mounted(Due):
    """A sensor, and where it is."""

    def __init__(self, model: Model, link: Link, sensor: Sensor) -> None:
        super().__init__(round(S / sensor.rate_hz))
        self.model, self.link, self.sensor = model, link, sensor


class LiveWorld:
    """Runs a simulation until closed."""

    def __init__(
        self,
        simulation: Simulation,
        listener: Listener,
        *,
        real_time_factor: float,
        state_hz: float,
        shadows: bool = False,
    ) -> None:
        self._simulation = simulation
        self._listener = listener
        self._factor = real_time_factor
        self._shadows = shadows
        self._state = Due(round(S / state_hz))
        self._sensors = [_Mounted(*mounted) for mounted in simulation.world.sensors()]
        self._orders: queue.Queue[Callable[[], None]] = queue.Queue(MAX_ORDERS)
        self._copy = mujoco.MjData(simulation.model)
        self._wanted: queue.Queue[tuple[list[_Mounted], int]] = queue.Queue(1)
        self._sensors_free = threading.Event()
        self._sensors_free.set()
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(run,), name=name, daemon=True)
            for name, run in (("physics", self._run_physics), ("sensors", self._run_sensors))
        ]
        self.fault: BaseException | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def order(self, act: Callable[[Simulation], T]) -> Future[T]:
        """Have the physics thread do something between two steps. Raises queue.Full when it is swamped."""
        answer: Future[T] = Future()

        def run() -> None:
            try:
                answer.set_result(act(self._simulation))
            except Exception as error:  # noqa: BLE001 - it is the one who asked who must hear of it
                answer.set_exception(error)

        self._orders.put_nowait(run)
        return answer

    def reset(self, seed: int) -> Future[None]:
        """Back to the beginning, with the scene of `seed`."""

        def act(simulation: Simulation) -> None:
            simulation.reset(seed)
            for due in (self._state, *self._sensors):
                due.next_ns = 0

        return self.order(act)

    def close(self) -> None:
        """End both threads, and the simulation."""
        self._ending.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(END_LIMIT_S)
        self._simulation.close()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:  # the node's thread must hear of it, and end the process
            if not self._ending.is_set():
                self.fault = error
                log.exception("world_failed")
            self._ending.set()

    def _run_physics(self) -> None:
        pace = _Pace(self._factor, self._simulation.now_ns)
        while not self._ending.is_set():
            if self._obey():
                pace.begin(self._simulation.now_ns)
            wait_s = pace.wait_s(self._simulation.now_ns)
            if wait_s > 0:
                time.sleep(wait_s)
                continue
            self._simulation.advance(TICK_NS)
            now_ns = self._simulation.now_ns
            self._listener.ticked(now_ns)
            if self._state.take(now_ns):
                self._listener.states(self._simulation)
            self._hand_over(now_ns)
            pace.tell(now_ns)

    def _obey(self) -> bool:
        """Do what was ordered. Returns whether time went back."""
        before_ns = self._simulation.now_ns
        while True:
            try:
                run = self._orders.get_nowait()
            except queue.Empty:
                return self._simulation.now_ns < before_ns
            run()

    def _hand_over(self, now_ns: int) -> None:
        """Give the sensor thread a copy of the state, if a sensor is due and the thread is free."""
        if not self._sensors_free.is_set():
            if self._factor > 0:
                return
            while not self._sensors_free.wait(0.1):
                if self._ending.is_set():
                    return
        due = [mounted for mounted in self._sensors if mounted.take(now_ns)]
        if due:
            mujoco.mj_copyData(self._copy, self._simulation.model, self._simulation.data)
            self._sensors_free.clear()
            self._wanted.put_nowait((due, now_ns))

    def _run_sensors(self) -> None:
        if not self._sensors:
            return
        model = self._simulation.model
        with Cameras(model, self._simulation.world.background, shadows=self._shadows) as cameras:
            while not self._ending.is_set():
                try:
                    wanted = self._wanted.get(timeout=0.2)
                except queue.Empty:
                    continue
                due, taken_ns = wanted
                for one in due:
                    if isinstance(one.sensor.spec, CameraSpec):
                        picture = cameras.take(self._copy, one.model.name, one.link.name, one.sensor)
                        self._listener.picture(one.sensor, picture, taken_ns)
                    else:
                        ranges = scan(model, self._copy, one.model, one.link, one.sensor)
                        self._listener.scanned(one.sensor, ranges, taken_ns)
                self._sensors_free.set()


class _Pace:
    """Keeps simulated time beside the wall's, and tells how well that goes."""

    def __init__(self, factor: float, now_ns: int) -> None:
        self._factor = factor
        self.begin(now_ns)

    def begin(self, now_ns: int) -> None:
        """From here on."""
        self._base_ns, self._base_wall_ns = now_ns, time.monotonic_ns()
        self._told_ns, self._told_wall_ns = self._base_ns, self._base_wall_ns

    def wait_s(self, now_ns: int) -> float:
        """Until the next tick may be taken."""
        if self._factor == 0:
            return 0.0
        wall_ns = time.monotonic_ns()
        ahead_ns = (now_ns + TICK_NS - self._base_ns) / self._factor - (wall_ns - self._base_wall_ns)
        if ahead_ns < -LAG_NS:
            self._base_ns, self._base_wall_ns = now_ns, wall_ns
        return max(0.0, ahead_ns / S)

    def tell(self, now_ns: int) -> None:
        """Log the factor that was reached, every TELL_S."""
        wall_ns = time.monotonic_ns()
        if wall_ns - self._told_wall_ns < TELL_S * S:
            return
        reached = (now_ns - self._told_ns) / (wall_ns - self._told_wall_ns)
        log.info("world_pace", real_time_factor=round(reached, 3), simulated_s=round(now_ns / S, 1))
        self._told_ns, self._told_wall_ns = now_ns, wall_ns
