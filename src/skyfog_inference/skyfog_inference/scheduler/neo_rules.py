"""NEO's load-aware rules (arXiv 2411.01142, section 3.2 and its code), each as a small function. Pure.

A step runs as one sub-batch, or as two that overlap: while the device does the linear parts of one, the host does the
attention of the other's host decodes.

    device   | linear of b0        | linear of b1, attention of b0 |
    host     | decodes of b1       | decodes of b0                 |

b0 holds all prefills, all decodes of the device and some of the host; b1 holds decodes of the host alone. `remains`
says how much longer the device works than the host in each half: what is put on the host must hide behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from skyfog_inference.cost.base import CostModel
from skyfog_inference.cost.step import StageTimes
from skyfog_inference.request import Place
from skyfog_inference.scheduler.base import Chunk, SubBatch


@dataclass(frozen=True, slots=True)
class NeoConfig:
    """The limits of a step, and the constants of the published code."""

    max_sequences: int = 256
    max_batched_tokens: int = 2_048
    swap_in_share: float = 0.95  # of the device's blocks: beyond it nothing comes back from the host
    launch_ms: float = 0.8  # of a layer: to hand queries to the host and take the results
    saturating_tokens: int = 128  # a batch of so many keeps the device busy without prefills for the host
    # Ours, for the published rules may pass a long sequence over for ever: one of the host that has waited for so long
    # is run whether it hides or not.
    patience_ms: float = 5_000.0


@dataclass(slots=True)
class Budget:
    """What a step may still take on; below zero where decodes that go on anyway are more than it holds."""

    sequences: int
    tokens: int

    @property
    def overspent(self) -> bool:
        return self.sequences < 0 or self.tokens < 0

    def spend(self, tokens: int) -> None:
        """One sequence with so many tokens, whether there is room or not."""
        self.sequences -= 1
        self.tokens -= tokens

    def take(self, tokens: int) -> bool:
        """One sequence with so many tokens, if there is room."""
        if self.sequences < 1 or self.tokens < tokens:
            return False
        self.spend(tokens)
        return True

    def give_back(self, tokens: int) -> None:
        """What one sequence had."""
        self.sequences += 1
        self.tokens += tokens


class Load:
    """A sub-batch that is being put together, with its times by the cost model."""

    def __init__(self, cost: CostModel, launch_ms: float) -> None:
        self._cost = cost
        self._launch_ms = launch_ms
        self.prefills: list[Chunk] = []
        self.device_decodes: list[Chunk] = []
        self.host_decodes: list[Chunk] = []
        self.tokens = 0
        self._prefill_ms: list[float] = []
        self._device_context = 0
        self._host_context = 0

    @property
    def drawn(self) -> int:
        """Tokens that it draws."""
        return sum(c.draws for c in self.prefills) + len(self.device_decodes) + len(self.host_decodes)

    def add_prefill(self, chunk: Chunk) -> None:
        self.prefills.append(chunk)
        self.tokens += chunk.count
        whole, before = self._cost.prefill_ms(chunk.start + chunk.count), self._cost.prefill_ms(chunk.start)
        self._prefill_ms.append(whole - before)

    def pop_prefill(self) -> Chunk:
        """Take the last one out."""
        chunk = self.prefills.pop()
        self.tokens -= chunk.count
        self._prefill_ms.pop()
        return chunk

    def add_device_decode(self, chunk: Chunk) -> None:
        self.device_decodes.append(chunk)
        self.tokens += 1
        self._device_context += chunk.start + 1

    def add_host_decode(self, chunk: Chunk) -> None:
        self.host_decodes.append(chunk)
        self.tokens += 1
        self._host_context += chunk.start + 1

    def pop_host_decode(self) -> Chunk:
        """Take the last one out."""
        chunk = self.host_decodes.pop()
        self.tokens -= 1
        self._host_context -= chunk.start + 1
        return chunk

    def times(self) -> StageTimes:
        """Of one layer, in milliseconds."""
        return StageTimes(
            self._cost.linear_ms(self.tokens),
            sum(self._prefill_ms),
            self._cost.device_decode_ms(self._device_context),
            self._cost.host_decode_ms(len(self.host_decodes), self._host_context),
        )

    @property
    def host_ms(self) -> float:
        """Its decodes on the host, and handing them over: that is counted even where there are none, as published."""
        return self._cost.host_decode_ms(len(self.host_decodes), self._host_context) + self._launch_ms

    def frozen(self) -> SubBatch:
        return SubBatch(tuple(self.prefills), tuple(self.device_decodes), tuple(self.host_decodes))


Pair = tuple[Load, Load]


def remains(pair: Pair) -> tuple[float, float]:
    """By how much the device outlasts the host: remain_j = Tl[1-j] + Tpref[j] + Tgdec[j] - (Tcdec[j] + launch)."""
    times = [load.times() for load in pair]
    return (
        times[1].linear + times[0].device_attention - pair[0].host_ms,
        times[0].linear + times[1].device_attention - pair[1].host_ms,
    )


def split_host_decodes(pair: Pair, candidates: Iterable[Chunk], budget: Budget) -> None:
    """Put decodes of the host into the two batches one by one, in the order of their queue.

    One that would not hide is left out, and so are all that are not shorter. The first goes to b1, each next one to
    where more remains.
    """
    shortest_out: int | None = None
    target = 1
    for chunk in candidates:
        if not budget.take(1):
            break
        length = chunk.start + 1
        if shortest_out is not None and length >= shortest_out:
            budget.give_back(1)
            continue
        pair[target].add_host_decode(chunk)
        left = remains(pair)
        if min(left) < 0:
            pair[target].pop_host_decode()
            budget.give_back(1)
            shortest_out = length
            continue
        target = 1 if left[1] > left[0] else 0


def drop_host_prefills(load: Load, saturating_tokens: int, may: Callable[[], bool]) -> list[Chunk]:
    """Take prefills that go to the host out from the back while the batch keeps `saturating_tokens` and `may` agrees.

    They are there to feed the host's decodes and to fill the device; beyond that they only make the step longer.
    """
    dropped = []
    while load.prefills and load.prefills[-1].place is Place.HOST:
        chunk = load.pop_prefill()
        if load.tokens < saturating_tokens or not may():
            load.add_prefill(chunk)
            break
        dropped.append(chunk)
    return dropped


def two_are_better(pair: Pair, alone: Load) -> bool:
    """Whether two batches draw more tokens per time of the device than the device alone."""
    together = sum(load.times().device for load in pair)
    return _rate(pair[0].drawn + pair[1].drawn, together) > _rate(alone.drawn, alone.times().device)


def form(
    cost: CostModel,
    config: NeoConfig,
    prefills: Sequence[Chunk],
    device_decodes: Sequence[Chunk],
    host_decodes: Iterable[Chunk],
    overdue: Chunk | None,
    budget: Budget,
) -> tuple[SubBatch, ...]:
    """The batches of a step: one for the device alone, or two. `overdue` is a decode of the host that must run.

    Where the device has nothing to do the host's decodes run as one batch: they wait for nobody.
    """
    alone = Load(cost, config.launch_ms)
    pair = (Load(cost, config.launch_ms), Load(cost, config.launch_ms))
    for load in (alone, pair[0]):
        for chunk in prefills:
            load.add_prefill(chunk)
        for chunk in device_decodes:
            load.add_device_decode(chunk)
    others = (chunk for chunk in host_decodes if chunk is not overdue)
    if not alone.tokens:
        if overdue is not None:
            alone.add_host_decode(overdue)
        for chunk in others:
            if not budget.take(1):
                break
            alone.add_host_decode(chunk)
        return (alone.frozen(),) if alone.host_decodes else ()
    drop_host_prefills(alone, config.saturating_tokens, lambda: True)
    if overdue is not None:
        pair[1].add_host_decode(overdue)
    split_host_decodes(pair, others, budget)
    if not pair[1].tokens:
        return (alone.frozen(),)
    drop_host_prefills(pair[0], config.saturating_tokens, lambda: min(remains(pair)) >= 0)
    if overdue is not None or two_are_better(pair, alone):
        return (pair[0].frozen(), pair[1].frozen())
    return (alone.frozen(),)


def _rate(drawn: int, took_ms: float) -> float:
    if took_ms > 0:
        return drawn / took_ms
    return float("inf") if drawn else 0.0
