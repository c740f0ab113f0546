"""The block manager against a model that remembers every block's text."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from skyfog_inference.blocks import BLOCK_SIZE, BlockManager, blocks_for

TOTAL = 12
# Texts are made of few kinds of whole blocks, so that they share beginnings, and of a rest.
TEXTS = st.tuples(st.lists(st.integers(0, 1), max_size=4), st.integers(0, BLOCK_SIZE)).map(
    lambda made: [kind for kind in made[0] for _ in range(BLOCK_SIZE)] + [7] * made[1]
)


class Holder:
    def __init__(self, tokens: list[int], blocks: list[int]) -> None:
        self.tokens = tokens
        self.blocks = blocks

    def __repr__(self) -> str:
        return f"Holder({len(self.tokens)} tokens in {self.blocks})"


class BlocksMachine(RuleBasedStateMachine):
    holders = Bundle("holders")

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockManager(TOTAL)
        self.alive: list[Holder] = []
        self.text: dict[int, tuple[int, ...]] = {}  # of every block that is named: all tokens up to its end
        self.unused: list[int] = []  # named and held by nobody, for longest first

    def refs(self, block: int) -> int:
        return sum(holder.blocks.count(block) for holder in self.alive)

    def found(self, tokens: list[int]) -> list[tuple[int, ...]]:
        texts = set(self.text.values())
        result = []
        for end in range(BLOCK_SIZE, len(tokens), BLOCK_SIZE):
            if tuple(tokens[:end]) not in texts:
                break
            result.append(tuple(tokens[:end]))
        return result

    @rule(target=holders, tokens=TEXTS.filter(bool))
    def admit(self, tokens: list[int]) -> Holder | object:
        shared = self.blocks.lookup(tokens)
        assert [self.text[block] for block in shared] == self.found(tokens)
        more = blocks_for(len(tokens)) - len(shared)
        cost = self.blocks.cost(shared, more)
        assert cost == more + sum(1 for block in shared if not self.refs(block))
        if cost > self.blocks.available:
            return multiple()
        self.blocks.share(shared)
        self.unused = [block for block in self.unused if block not in shared]
        holder = Holder(tokens, shared)
        self.alive.append(holder)
        holder.blocks = shared + self.take(more)
        return holder

    def take(self, count: int) -> list[int]:
        nameless = TOTAL - len(self.unused) - len({block for holder in self.alive for block in holder.blocks})
        taken = self.blocks.allocate(count)
        for block in taken:
            assert not self.refs(block), "a held block is given away"
            if block in self.unused:
                assert block == self.unused.pop(0), "not the one unused for longest"
                assert nameless <= 0, "a cached block is given away while an empty one is left"
            self.text.pop(block, None)
            nameless -= 1
        return taken

    @rule(holder=holders, fraction=st.floats(0, 1))
    def publish(self, holder: Holder, fraction: float) -> None:
        computed = round(fraction * len(holder.tokens))
        self.blocks.publish(holder.tokens, holder.blocks, computed)
        for i in range(computed // BLOCK_SIZE):
            self.text.setdefault(holder.blocks[i], tuple(holder.tokens[: (i + 1) * BLOCK_SIZE]))

    @rule(holder=holders, tokens=st.lists(st.integers(0, 1), min_size=1, max_size=20))
    def grow(self, holder: Holder, tokens: list[int]) -> None:
        missing = blocks_for(len(holder.tokens) + len(tokens)) - len(holder.blocks)
        if missing <= self.blocks.available:
            holder.blocks += self.take(missing)
            holder.tokens = holder.tokens + tokens

    @rule(holder=consumes(holders), reusable=st.booleans())
    def free(self, holder: Holder, reusable: bool) -> None:
        self.alive.remove(holder)
        self.blocks.free(holder.blocks, reusable=reusable)
        for block in reversed(holder.blocks):
            text = self.text.get(block)
            if self.refs(block) or text is None:
                continue
            if reusable and list(self.text.values()).count(text) == 1:
                self.unused.append(block)
            else:
                del self.text[block]

    @rule(tokens=TEXTS)
    def look(self, tokens: list[int]) -> None:
        """What is looked up is right for any text, and never takes its last token."""
        found = self.blocks.lookup(tokens)
        assert [self.text[block] for block in found] == self.found(tokens)
        assert not tokens or len(found) * BLOCK_SIZE < len(tokens)

    @rule(holder=holders)
    def look_again(self, holder: Holder) -> None:
        self.look(holder.tokens)

    @invariant()
    def balances(self) -> None:
        held = [block for holder in self.alive for block in holder.blocks]
        self.blocks.check(held)
        assert self.blocks.used == len(set(held))
        assert self.blocks.cached == len(self.unused)


TestBlocks = BlocksMachine.TestCase
TestBlocks.settings = settings(max_examples=60, stateful_step_count=40)
