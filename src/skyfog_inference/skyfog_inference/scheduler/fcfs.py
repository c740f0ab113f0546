"""Continuous batching, first come first served: everything is computed on the device, and preempted work waits."""

# Theory. A sequence is in one of three places:
#
#   WAITING  no blocks. In order of priority, then of arrival.
#   RUNNING  blocks on the device for all tokens that it has so far: taken whole at admission, so that a prompt that
#            is begun can be finished, then one at a time as it grows.
#   SWAPPED  blocks on the host for what is computed.
#
# A step is made of one token of each running sequence that decodes (oldest first), of the rest of prompts that are
# begun, of sequences that come back from the host, then of new ones, until the step's tokens are used up.
# Where a decode finds no block, the sequence that is last in the order gives up its own: to the host where that has
# room, else for nothing, and its tokens are computed again later, those drawn included. In a step in which this
# happened nobody comes in, and while a sequence is on the host no new one does. The first in the order is therefore
# never disturbed, and it ends, since `add` sees to it that each sequence alone fits the device to its last token:
# there is no livelock.
# A new sequence that would compute what another one computes in this very step comes in after it, and shares that:
# many requests that begin alike and come together compute their beginning once.

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Mapping

from skyfog_core.errors import InvalidRequest
from skyfog_inference.blocks import BLOCK_SIZE, BlockManager, blocks_for
from skyfog_inference.request import Place, Sequence
from skyfog_inference.scheduler.base import Chunk, SchedulerState, Step, SubBatch, Swap

RESERVE = 100  # one of so many blocks is kept from who comes in while others grow


class FcfsScheduler:
    """The default scheduler."""

    def __init__(
        self,
        device_blocks: int,
        host_blocks: int = 0,
        *,
        max_batched_tokens: int = 2_048,
        max_sequences: int = 256,
        prefix_sharing: bool = True,
    ) -> None:
        self._sharing = prefix_sharing
        self._device = BlockManager(device_blocks, sharing=prefix_sharing)
        self._host = BlockManager(host_blocks, sharing=False)
        self._max_batched_tokens = max_batched_tokens
        self._max_sequences = max_sequences
        self._arrivals = 0
        self._order: dict[str, tuple[int, int]] = {}  # of every sequence: priority, downwards, then arrival
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._swapped: list[Sequence] = []
        self._preemptions = 0
        self._shared_tokens = 0

    def add(self, sequence: Sequence, now_ns: int) -> None:
        """Take a sequence on; `max_tokens` is lowered to what the device holds.

        Raises InvalidRequest where the device does not hold its tokens, or its id is taken.
        """
        if sequence.id in self._order:
            raise InvalidRequest(f"id: {sequence.id!r} is under way already")
        if len(sequence.tokens) >= self.longest:
            room = self._device.total * BLOCK_SIZE
            raise InvalidRequest(f"prompt: {len(sequence.tokens)} tokens, and the device's cache holds {room}")
        sequence.max_tokens = min(sequence.max_tokens, self.longest - sequence.prompt_len)
        self._order[sequence.id] = (-sequence.priority, self._arrivals)
        self._arrivals += 1
        self._enter(self._waiting, sequence)

    def abort(self, sequence_id: str, now_ns: int) -> bool:
        for queue in (self._waiting, self._running, self._swapped):
            for sequence in queue:
                if sequence.id == sequence_id:
                    queue.remove(sequence)
                    self._end(sequence)
                    return True
        return False

    def schedule(self, now_ns: int) -> Step | None:
        plan = _Plan(self._max_batched_tokens)
        self._decode(plan)
        for sequence in self._running:
            if sequence.prefilling:
                plan.compute(sequence)
        if not plan.preempted:
            self._come_back(plan)
            if not self._swapped:
                self._admit(plan)
        return plan.step()

    def on_step(self, step: Step, drawn: Mapping[str, int], ended: Collection[str], took_ns: int, now_ns: int) -> None:
        for chunk in step.chunks:
            sequence = chunk.sequence
            sequence.computed = chunk.start + chunk.count
            failed = chunk.draws and sequence.id not in drawn
            if not failed:
                self._device.publish(sequence.tokens, sequence.blocks, sequence.computed)
            if sequence.id in drawn:
                sequence.tokens.append(drawn[sequence.id])
            if sequence.id in ended:
                self._running.remove(sequence)
                self._end(sequence, failed=failed)

    @property
    def longest(self) -> int:
        return self._device.total * BLOCK_SIZE + 1  # the last token that is drawn is never computed

    def has_work(self) -> bool:
        return bool(self._order)

    def state(self) -> SchedulerState:
        return SchedulerState(
            waiting=len(self._waiting),
            on_device=len(self._running),
            on_host=len(self._swapped),
            device_blocks_used=self._device.used,
            device_blocks=self._device.total,
            host_blocks_used=self._host.used,
            host_blocks=self._host.total,
            preemptions=self._preemptions,
            shared_tokens=self._shared_tokens,
        )

    def check(self) -> None:
        """Raise AssertionError where the books do not balance."""
        self._device.check(self._held(self._running, Place.DEVICE))
        self._host.check(self._held(self._swapped, Place.HOST))
        assert not self._held(self._waiting, Place.NOWHERE), "a waiting sequence holds blocks"
        everyone = self._waiting + self._running + self._swapped
        assert len(everyone) == len(self._order), "a sequence is lost or held twice"
        assert {sequence.id for sequence in everyone} == self._order.keys()
        assert len(self._running) <= self._max_sequences
        for queue in (self._waiting, self._running, self._swapped):
            assert queue == sorted(queue, key=self._rank), "a queue is out of order"

    def _decode(self, plan: _Plan) -> None:
        """One token of each that decodes; the last in the order pays where blocks run out."""
        i = 0
        while i < len(self._running) and plan.budget:
            sequence = self._running[i]
            i += 1
            if sequence.prefilling:
                continue
            missing = blocks_for(len(sequence.tokens)) - len(sequence.blocks)
            while missing > self._device.available and self._preempt(plan) is not sequence:
                pass
            if sequence.place is Place.DEVICE:
                sequence.blocks += self._device.allocate(missing)
                plan.compute(sequence)

    def _preempt(self, plan: _Plan) -> Sequence:
        """Take the blocks of the last in the order; it goes to the host, or begins anew."""
        plan.preempted = True
        self._preemptions += 1
        victim = self._running.pop()
        victim.preemptions += 1
        given, victim.blocks = victim.blocks, []
        kept = blocks_for(victim.computed)
        if 0 < kept <= self._host.available:
            victim.blocks, victim.place = self._host.allocate(kept), Place.HOST
            plan.swaps.append(Swap(victim, Place.DEVICE, Place.HOST, tuple(given[:kept]), tuple(victim.blocks)))
            self._enter(self._swapped, victim)
        else:
            victim.computed, victim.place = 0, Place.NOWHERE
            self._enter(self._waiting, victim)
        self._device.free(given)
        return victim

    def _come_back(self, plan: _Plan) -> None:
        """From the host, in order, while they fit."""
        while self._swapped and plan.budget and len(self._running) < self._max_sequences:
            sequence = self._swapped[0]
            need = blocks_for(len(sequence.tokens))
            if not self._fits(need):
                return
            self._swapped.pop(0)
            given, sequence.blocks = sequence.blocks, self._device.allocate(need)
            sequence.place = Place.DEVICE
            target = tuple(sequence.blocks[: len(given)])
            plan.swaps.append(Swap(sequence, Place.HOST, Place.DEVICE, tuple(given), target))
            self._host.free(given)
            self._enter(self._running, sequence)
            plan.compute(sequence)

    def _admit(self, plan: _Plan) -> None:
        """New ones and those that begin anew, in order, while they fit: the first that does not keeps the rest out."""
        while self._waiting and plan.budget and len(self._running) < self._max_sequences:
            sequence = self._waiting[0]
            shared = self._device.lookup(sequence.tokens)
            if self._sharing and plan.computes(sequence.tokens, shared):
                return
            more = blocks_for(len(sequence.tokens)) - len(shared)
            if not self._fits(self._device.cost(shared, more)):
                return
            self._waiting.pop(0)
            self._device.share(shared)
            sequence.blocks = shared + self._device.allocate(more)
            sequence.place = Place.DEVICE
            sequence.computed = len(shared) * BLOCK_SIZE
            if not sequence.preemptions:  # else they may be its own
                sequence.shared = min(sequence.computed, sequence.prompt_len)
                self._shared_tokens += sequence.shared
            self._enter(self._running, sequence)
            plan.compute(sequence)

    def _fits(self, blocks: int) -> bool:
        reserve = self._device.total // RESERVE if self._running else 0
        return blocks + reserve <= self._device.available

    def _enter(self, queue: list[Sequence], sequence: Sequence) -> None:
        insort(queue, sequence, key=self._rank)

    def _rank(self, sequence: Sequence) -> tuple[int, int]:
        return self._order[sequence.id]

    def _end(self, sequence: Sequence, *, failed: bool = False) -> None:
        """Give back what it holds, and forget it."""
        if sequence.place is not Place.NOWHERE:
            tier = self._device if sequence.place is Place.DEVICE else self._host
            tier.free(sequence.blocks, reusable=not failed)
        sequence.blocks, sequence.place = [], Place.NOWHERE
        del self._order[sequence.id]

    @staticmethod
    def _held(queue: list[Sequence], place: Place) -> list[int]:
        """Every block that these hold, as often as it is held."""
        for sequence in queue:
            assert sequence.place is place, f"{sequence.id} is not where its queue is"
            assert place is Place.NOWHERE or len(sequence.blocks) >= blocks_for(sequence.computed)
            assert sequence.computed < len(sequence.tokens)
        return [block for sequence in queue for block in sequence.blocks]


class _Plan:
    """A step in the making."""

    def __init__(self, budget: int) -> None:
        self.budget = budget  # tokens that it may still compute
        self.preempted = False
        self.swaps: list[Swap] = []
        self._prefills: list[Chunk] = []
        self._decodes: list[Chunk] = []

    def compute(self, sequence: Sequence) -> None:
        """As many of its tokens as the step still takes."""
        count = min(sequence.remaining, self.budget)
        if not count:
            return
        draws = count == sequence.remaining
        chunks = self._prefills if sequence.prefilling else self._decodes
        chunks.append(Chunk(sequence, sequence.computed, count, Place.DEVICE, draws))
        self.budget -= count

    def computes(self, tokens: list[int], shared: list[int]) -> bool:
        """Whether at least half of what remains of `tokens` after the blocks `shared` is computed in this step."""
        first = len(shared)
        remaining = len(tokens) - first * BLOCK_SIZE
        for chunk in self._prefills:
            theirs = chunk.sequence
            end = min((chunk.start + chunk.count) // BLOCK_SIZE, (len(tokens) - 1) // BLOCK_SIZE)
            same = first
            if theirs.blocks[:first] == shared:
                while same < end and _run(theirs.tokens, same) == _run(tokens, same):
                    same += 1
            if 2 * (same - first) * BLOCK_SIZE >= remaining:
                return True
        return False

    def step(self) -> Step | None:
        if not (self._prefills or self._decodes or self.swaps):
            return None
        return Step((SubBatch(tuple(self._prefills), tuple(self._decodes)),), tuple(self.swaps))


def _run(tokens: list[int], block: int) -> list[int]:
    """The tokens of a block."""
    return tokens[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE]
