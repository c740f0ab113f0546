"""NEO: online requests on one device, with part of the decodes' attention and of the cache on the host.

Three queues, each in the order of arrival: prompts that wait, decodes whose keys and values the device holds, and
decodes whose keys and values the host holds. Every step, by the rules of the published code (`neo_rules`):

1. All decodes of the device go on, and are accounted.
2. Over the budget or out of blocks: the last of the device goes to the front of the host's queue (swap out).
3. Else the host's first comes back while the device's blocks stay within 0.95 (swap in); never both in one step.
4. Prompts are taken strictly in order: to the device if they fit there and no earlier one of this step went to the
   host, whose room for everything that the device might still swap out is kept free.
5. Decodes of the host are split over two batches as long as they hide behind the device's work.
6. Two batches run if they draw more tokens per time of the device than one batch for the device alone.

Beyond the published code: a prompt longer than a whole step is computed in pieces; prefixes are shared within each
tier; a sequence that no tier has room for gives its blocks up and is computed anew; and a decode of the host that has
waited too long runs in any case.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping

from skyfog_core.errors import InvalidRequest
from skyfog_core.units import MS
from skyfog_inference.blocks import BLOCK_SIZE, BlockManager, blocks_for
from skyfog_inference.cost.base import CostModel
from skyfog_inference.request import Place, Sequence
from skyfog_inference.scheduler.base import Chunk, SchedulerState, Step, Swap
from skyfog_inference.scheduler.neo_rules import Budget, NeoConfig, form


class NeoScheduler:
    """One device and one host; a Scheduler."""

    def __init__(
        self, config: NeoConfig, cost: CostModel, device_blocks: int, host_blocks: int, *, sharing: bool = True
    ) -> None:
        self._config = config
        self._cost = cost
        self._device_blocks = BlockManager(device_blocks, sharing=sharing)
        self._host_blocks = BlockManager(host_blocks, sharing=sharing)
        self._waiting: deque[Sequence] = deque()  # those in front may have a place and blocks already
        self._device: list[Sequence] = []
        self._host: deque[Sequence] = deque()
        self._moved_ns: dict[str, int] = {}  # when each sequence last came on
        self._preemptions = 0
        self._shared_tokens = 0

    def add(self, sequence: Sequence, now_ns: int) -> None:
        """Take a sequence on; `max_tokens` is lowered to what the larger tier holds.

        Raises InvalidRequest where neither tier holds its tokens, or its id is taken.
        """
        if sequence.id in self._moved_ns:
            raise InvalidRequest(f"id: {sequence.id!r} is under way already")
        if len(sequence.tokens) >= self.longest:
            room = self.longest - 1
            raise InvalidRequest(f"prompt: {len(sequence.tokens)} tokens, and the larger cache holds {room}")
        sequence.max_tokens = min(sequence.max_tokens, self.longest - sequence.prompt_len)
        self._moved_ns[sequence.id] = now_ns
        place = next((i for i, other in enumerate(self._waiting) if _goes_before(sequence, other)), len(self._waiting))
        self._waiting.insert(place, sequence)

    def abort(self, sequence_id: str, now_ns: int) -> bool:
        if sequence_id not in self._moved_ns:
            return False
        self._end({sequence_id})
        return True

    def schedule(self, now_ns: int) -> Step | None:
        budget = Budget(self._config.max_sequences, self._config.max_batched_tokens)
        for _ in self._device:
            budget.spend(1)
        swaps, made_room = self._swap_out(budget)
        for sequence in self._device:
            self._grow(sequence)
        if not made_room:
            swaps = self._swap_in(budget)
        self._make_room_for_first_of_host()
        prefills, taken = self._admit(budget)
        overdue = self._overdue(now_ns, budget)
        device_decodes = [_decode(sequence) for sequence in self._device]
        host_decodes = self._host_decodes(overdue)
        batches = form(self._cost, self._config, prefills, device_decodes, host_decodes, overdue, budget)
        computed = {chunk.sequence.id for batch in batches for chunk in batch.chunks}
        for sequence in reversed(taken):
            if sequence.id not in computed:
                self._let_go(sequence)
            elif not sequence.preemptions:
                self._shared_tokens += sequence.shared
        for batch in batches:
            for chunk in batch.host_decodes:
                self._grow(chunk.sequence)
        return Step(batches, tuple(swaps)) if batches or swaps else None

    def on_step(self, step: Step, drawn: Mapping[str, int], ended: Collection[str], took_ns: int, now_ns: int) -> None:
        failed: set[str] = set()  # their keys and values may be wrong
        for batch in step.batches:
            for chunk in batch.chunks:
                sequence = chunk.sequence
                sequence.computed = chunk.start + chunk.count
                self._moved_ns[sequence.id] = now_ns
                if sequence.id in drawn:
                    self._tier(sequence.place).publish(sequence.tokens, sequence.blocks, sequence.computed)
                    sequence.tokens.append(drawn[sequence.id])
                elif chunk.draws:
                    failed.add(sequence.id)
            for chunk in batch.prefills:
                if chunk.draws:
                    assert self._waiting[0] is chunk.sequence, "prompts are computed in the order of their queue"
                    queue = self._device if chunk.place is Place.DEVICE else self._host
                    queue.append(self._waiting.popleft())
        self._end(set(ended), failed)

    @property
    def longest(self) -> int:
        # The last token that is drawn is never computed.
        return BLOCK_SIZE * max(self._device_blocks.total, self._host_blocks.total) + 1

    def has_work(self) -> bool:
        return bool(self._moved_ns)

    def state(self) -> SchedulerState:
        return SchedulerState(
            waiting=len(self._waiting),
            on_device=len(self._device),
            on_host=len(self._host),
            device_blocks_used=self._device_blocks.used,
            device_blocks=self._device_blocks.total,
            host_blocks_used=self._host_blocks.used,
            host_blocks=self._host_blocks.total,
            preemptions=self._preemptions,
            shared_tokens=self._shared_tokens,
        )

    def check(self) -> None:
        everyone = [*self._waiting, *self._device, *self._host]
        ids = [sequence.id for sequence in everyone]
        assert len(set(ids)) == len(ids), "a sequence stands in two queues"
        assert set(ids) == set(self._moved_ns), "a sequence is lost"
        assert all(sequence.place is Place.DEVICE for sequence in self._device)
        assert all(sequence.place is Place.HOST for sequence in self._host)
        placed = [sequence.place is not Place.NOWHERE for sequence in self._waiting]
        assert placed == sorted(placed, reverse=True), "one without blocks waits before one with blocks"
        for sequence in everyone:
            assert len(sequence.blocks) >= blocks_for(sequence.computed), f"{sequence.id} has too few blocks"
            assert bool(sequence.blocks) == (sequence.place is not Place.NOWHERE)
        for place in (Place.DEVICE, Place.HOST):
            held = [block for sequence in everyone if sequence.place is place for block in sequence.blocks]
            self._tier(place).check(held)

    def _swap_out(self, budget: Budget) -> tuple[list[Swap], bool]:
        """Rule 2: over the budget or out of blocks, the device's last goes to the front of the host's queue.

        Also whether any had to go; where the host has no room, one is computed anew instead.
        """
        swaps: list[Swap] = []
        made_room = False
        while self._device and (budget.overspent or self._growth(self._device) > self._device_blocks.available):
            victim = self._device.pop()
            budget.give_back(1)
            made_room = True
            victim.preemptions += 1
            self._preemptions += 1
            if len(victim.blocks) > self._host_blocks.available:
                self._restart(victim)
            else:
                swaps.append(self._move(victim, Place.HOST))
                self._host.appendleft(victim)
        return swaps, made_room

    def _swap_in(self, budget: Budget) -> list[Swap]:
        """Rule 3: the host's first comes back while the device's blocks stay within `swap_in_share`."""
        swaps: list[Swap] = []
        most = round(self._device_blocks.total * self._config.swap_in_share)
        while self._host:
            first = self._host[0]
            if self._device_blocks.used + blocks_for(len(first.tokens)) > most or not budget.take(1):
                break
            swaps.append(self._move(self._host.popleft(), Place.DEVICE))
            self._device.append(first)
            self._grow(first)
        return swaps

    def _admit(self, budget: Budget) -> tuple[list[Chunk], list[Sequence]]:
        """Rule 4: prompts in the order of their queue. Also those among them that have been given blocks just now."""
        prefills: list[Chunk] = []
        taken: list[Sequence] = []
        growth = self._growth(self._host)
        for sequence in self._waiting:
            place, shared = sequence.place, sequence.computed // BLOCK_SIZE
            if place is Place.NOWHERE:
                to_host = any(chunk.place is Place.HOST for chunk in prefills)
                place, shared = self._place_for(sequence, growth, to_host)
            if place is Place.NOWHERE:
                break
            count = self._piece(sequence, max(sequence.computed, shared * BLOCK_SIZE), budget)
            if not count:
                break
            if sequence.place is Place.NOWHERE:
                self._take(sequence, place)
                taken.append(sequence)
            end = sequence.computed + count
            prefills.append(Chunk(sequence, sequence.computed, count, place, end == len(sequence.tokens)))
            if end < len(sequence.tokens):
                break
        return prefills, taken

    def _place_for(self, sequence: Sequence, growth: int, to_host: bool) -> tuple[Place, int]:
        """Where a prompt goes, or NOWHERE, and how many blocks others have computed for it there.

        The host keeps room for what its own decodes grow by and for all that the device might swap out; where it is
        empty it takes what it can.
        """
        for place in (Place.HOST,) if to_host else (Place.DEVICE, Place.HOST):
            tier = self._tier(place)
            found = tier.lookup(sequence.tokens)
            need = tier.cost(found, blocks_for(len(sequence.tokens)) - len(found))
            room = tier.available
            if place is Place.HOST and tier.used:
                room -= growth + self._device_blocks.total
            if need <= room:
                return place, len(found)
        return Place.NOWHERE, 0

    def _piece(self, sequence: Sequence, start: int, budget: Budget) -> int:
        """How many tokens of a prompt this step takes: all, or none as long as a later step can take all.

        One that is longer than any step, or has been begun, takes what is left.
        """
        count = len(sequence.tokens) - start
        if budget.take(count):
            return count
        longer = count > self._config.max_batched_tokens or sequence.place is not Place.NOWHERE
        part = max(budget.tokens, 0)
        return part if longer and part and budget.take(part) else 0

    def _overdue(self, now_ns: int, budget: Budget) -> Chunk | None:
        """The first decode of the host that has waited for `patience_ms`, if it has room to grow."""
        limit_ns = now_ns - round(self._config.patience_ms * MS)
        for sequence in self._host:
            if self._moved_ns[sequence.id] <= limit_ns:
                room = self._growth([sequence]) <= self._host_blocks.available
                return _decode(sequence) if room and budget.take(1) else None
        return None

    def _host_decodes(self, overdue: Chunk | None) -> Iterator[Chunk]:
        """The host's decodes in order, those that there are blocks for; what is yielded may not be run."""
        room = self._host_blocks.available
        if overdue is not None:
            room -= self._growth([overdue.sequence])
        for sequence in self._host:
            if overdue is not None and sequence is overdue.sequence:
                continue
            growth = self._growth([sequence])
            if growth <= room:
                room -= growth
                yield _decode(sequence)

    def _make_room_for_first_of_host(self) -> None:
        """The host's first must always be able to go on, or nothing might: the last ones give their blocks up."""
        while len(self._host) > 1 and self._growth([self._host[0]]) > self._host_blocks.available:
            victim = self._host.pop()
            victim.preemptions += 1
            self._preemptions += 1
            self._restart(victim)

    def _tier(self, place: Place) -> BlockManager:
        assert place is not Place.NOWHERE
        return self._device_blocks if place is Place.DEVICE else self._host_blocks

    @staticmethod
    def _growth(sequences: Iterable[Sequence]) -> int:
        """Blocks that sequences need beside those they have, to compute all their tokens."""
        return sum(max(blocks_for(len(sequence.tokens)) - len(sequence.blocks), 0) for sequence in sequences)

    def _grow(self, sequence: Sequence) -> None:
        more = self._growth([sequence])
        if more:
            sequence.blocks.extend(self._tier(sequence.place).allocate(more))

    def _take(self, sequence: Sequence, place: Place) -> None:
        """Give a prompt its blocks: those that others have computed, and new ones."""
        tier = self._tier(place)
        found = tier.lookup(sequence.tokens)
        tier.share(found)
        sequence.blocks = found + tier.allocate(blocks_for(len(sequence.tokens)) - len(found))
        sequence.place = place
        sequence.computed = len(found) * BLOCK_SIZE
        if not sequence.preemptions:  # else they may be its own
            sequence.shared = min(sequence.computed, sequence.prompt_len)

    def _move(self, sequence: Sequence, target: Place) -> Swap:
        """Books of a swap: the old blocks are free at once, since the runner moves before it computes."""
        source, old = sequence.place, tuple(sequence.blocks)
        new = self._tier(target).allocate(len(old))
        self._tier(source).free(old)
        sequence.blocks, sequence.place = new, target
        return Swap(sequence, source, target, old, tuple(new))

    def _let_go(self, sequence: Sequence, *, reusable: bool = True) -> None:
        """Free what a sequence holds: it has no place then, and nothing of it is computed."""
        if sequence.place is not Place.NOWHERE:
            self._tier(sequence.place).free(sequence.blocks, reusable=reusable)
        sequence.blocks, sequence.place, sequence.computed = [], Place.NOWHERE, 0

    def _restart(self, sequence: Sequence) -> None:
        """To the front of those that wait without blocks; what it has drawn becomes part of what is computed."""
        self._let_go(sequence)
        place = sum(1 for other in self._waiting if other.place is not Place.NOWHERE)
        self._waiting.insert(place, sequence)

    def _end(self, ids: Collection[str], failed: Collection[str] = ()) -> None:
        """Forget sequences and free what they hold."""
        if not ids:
            return
        for sequence in [*self._waiting, *self._device, *self._host]:
            if sequence.id in ids:
                self._let_go(sequence, reusable=sequence.id not in failed)
                del self._moved_ns[sequence.id]
        self._waiting = deque(sequence for sequence in self._waiting if sequence.id not in ids)
        self._device = [sequence for sequence in self._device if sequence.id not in ids]
        self._host = deque(sequence for sequence in self._host if sequence.id not in ids)


def _decode(sequence: Sequence) -> Chunk:
    return Chunk(sequence, len(sequence.tokens) - 1, 1, sequence.place, draws=True)


def _goes_before(sequence: Sequence, other: Sequence) -> bool:
    """Whether it overtakes one that waits: by priority, but nobody who has begun."""
    return sequence.priority > other.priority and other.place is Place.NOWHERE
