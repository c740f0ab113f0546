"""One replica of a language model in simulated time: the scheduler of production, and a cost model for the runner."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from skyfog_core.units import ms_to_ns
from skyfog_inference.cost.base import CostModel
from skyfog_inference.cost.step import step_ms
from skyfog_inference.request import Sequence as Tokens
from skyfog_inference.scheduler.base import Scheduler, Step
from skyfog_sim.kernel import Kernel

MOST_CALLS = 10_000_000
CHECK_EVERY = 64  # steps: the books are checked, which takes longer than a step


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: when it comes, and how many tokens go in and come out."""

    at_ns: int
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class Served:
    """What became of one."""

    ask: Ask
    first_ns: int
    end_ns: int

    @property
    def ms_per_token(self) -> float:
        """From its arrival to its end, by token: the paper's latency."""
        return (self.end_ns - self.ask.at_ns) / 1e6 / self.ask.output


@dataclass(slots=True)
class History:
    """What a run was."""

    served: list[Served] = field(default_factory=list)
    steps: int = 0
    two_batches: int = 0  # steps that ran as two sub-batches
    host_tokens: int = 0  # decodes whose attention the host did
    tokens: int = 0

    def throughput(self, low: float = 0.3, high: float = 0.7) -> float:
        """Requests per second between two shares of all completions, as the published evaluation measures it."""
        ends = sorted(one.end_ns for one in self.served)
        first, last = round(len(ends) * low), min(round(len(ends) * high), len(ends) - 1)
        if ends[last] == ends[first]:
            return float("inf")
        return (last - first) / ((ends[last] - ends[first]) / 1e9)


class _Replica:
    """Owns a scheduler as the engine's loop does, with times from `cost` in place of a runner."""

    def __init__(self, kernel: Kernel, scheduler: Scheduler, cost: CostModel, launch_ms: float) -> None:
        self._kernel, self._scheduler, self._cost, self._launch_ms = kernel, scheduler, cost, launch_ms
        self._asks: dict[str, Ask] = {}
        self._first: dict[str, int] = {}
        self._busy = False
        self.history = History()

    def arrive(self, name: str, ask: Ask) -> None:
        now = self._kernel.now_ns
        self._asks[name] = ask
        self._scheduler.add(Tokens(name, [0] * ask.prompt, ask.prompt, ask.output, now), now)
        if not self._busy:
            self._busy = True
            self._kernel.at(now, self._begin)  # behind all that arrive now

    def _begin(self) -> None:
        step = self._scheduler.schedule(self._kernel.now_ns)
        self._busy = step is not None
        if step is None:
            assert not self._scheduler.has_work(), "there is work, and nothing can be done"
            return
        took = ms_to_ns(step_ms(self._cost, step, self._launch_ms))
        self._kernel.after(took, lambda: self._end(step, took))

    def _end(self, step: Step, took_ns: int) -> None:
        now, history = self._kernel.now_ns, self.history
        drawn = {chunk.sequence.id: 0 for chunk in step.chunks if chunk.draws}
        ended = {c.sequence.id for c in step.chunks if c.draws and c.sequence.output_len + 1 >= c.sequence.max_tokens}
        for name in drawn:
            self._first.setdefault(name, now)
        history.served += [Served(self._asks.pop(name), self._first.pop(name), now) for name in sorted(ended)]
        history.steps += 1
        history.two_batches += len(step.batches) == 2
        history.tokens += len(drawn)
        history.host_tokens += sum(len(batch.host_decodes) for batch in step.batches)
        self._scheduler.on_step(step, drawn, ended, took_ns, now)
        if history.steps % CHECK_EVERY == 0:
            self._scheduler.check()
        self._begin()


def serve(scheduler: Scheduler, cost: CostModel, asks: Sequence[Ask], launch_ms: float = 0.0) -> History:
    """Run requests to their ends. Each gets what it asked for; the scheduler's books balance."""
    kernel = Kernel()
    replica = _Replica(kernel, scheduler, cost, launch_ms)
    for number, ask in enumerate(asks):
        kernel.at(ask.at_ns, lambda name=str(number), ask=ask: replica.arrive(name, ask))  # type: ignore[misc]
    kernel.run(limit=MOST_CALLS)
    scheduler.check()
    assert len(replica.history.served) == len(asks), "a request is lost"
    return replica.history


def at_once(rng: random.Random, count: int, prompt: int, output: int) -> list[Ask]:
    """The published synthetic load: all come at once, both lengths uniform within 10 % of the given."""
    return [Ask(0, _within(rng, prompt), _within(rng, output)) for _ in range(count)]


def poisson(rng: random.Random, count: int, per_s: float, prompt: int, output: int, spread: float = 0.1) -> list[Ask]:
    """Requests that come one by one at a mean rate."""
    now, asks = 0.0, []
    for _ in range(count):
        now += rng.expovariate(per_s)
        asks.append(Ask(round(now * 1e9), _within(rng, prompt, spread), _within(rng, output, spread)))
    return asks


def _within(rng: random.Random, mean: int, spread: float = 0.1) -> int:
    return rng.randint(max(1, round(mean * (1 - spread))), max(1, round(mean * (1 + spread))))
