"""The books of the key-value blocks of one tier: who holds which, which are shared, which are free. Pure."""

# Theory. Keys and values of a token depend on that token and on all before it. So a full block's contents are named
# by its path in a tree whose edges are runs of BLOCK_SIZE tokens: the chained hash of other engines, with the tokens
# themselves compared, so that no collision can hand out another text's keys.
#
#   EMPTY  --allocate-->  HELD (refs >= 1)  --last holder lets go-->  CACHED (its node names it)  or  EMPTY (none does)
#   CACHED --share-->     HELD again, contents kept
#   CACHED --allocate, when no empty one is left; the one unused for longest-->  HELD, contents lost
#
# A block is named only when it is full and computed (`publish`), and nobody writes to a full block: what is shared
# is never written. Two sequences that compute the same text at the same time each have a block of it; one of them is
# kept.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

BLOCK_SIZE = 16  # tokens; what the kernel is written for, as in NEO and vLLM

Run = tuple[int, ...]  # BLOCK_SIZE tokens


def blocks_for(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // BLOCK_SIZE)


class OutOfBlocks(Exception):
    """More blocks were asked for than can be given: ask `available` first."""


class _Node:
    """A text of whole blocks. It stays while a block has its contents, or those of a longer text."""

    __slots__ = ("blocks", "children", "parent", "run")

    def __init__(self, parent: _Node | None, run: Run) -> None:
        self.parent = parent
        self.run = run
        self.children: dict[Run, _Node] = {}
        self.blocks: list[int] = []  # that have these contents; the first is the one that is found


class BlockManager:
    """Blocks 0 to total - 1 of one tier."""

    def __init__(self, total: int, *, sharing: bool = True) -> None:
        if total < 0:
            raise ValueError(f"a tier has 0 blocks or more, not {total}")
        self.total = total
        self._sharing = sharing
        self._refs = [0] * total
        self._empty = list(range(total - 1, -1, -1))
        self._cached: OrderedDict[int, None] = OrderedDict()  # unused for longest first
        self._nodes: list[_Node | None] = [None] * total
        self._root = _Node(None, ())
        self.evictions = 0

    @property
    def available(self) -> int:
        """Blocks that nobody holds."""
        return len(self._empty) + len(self._cached)

    @property
    def used(self) -> int:
        """Blocks that somebody holds."""
        return self.total - self.available

    @property
    def cached(self) -> int:
        """Of the available ones, those whose contents can be shared."""
        return len(self._cached)

    def allocate(self, count: int) -> list[int]:
        """Take `count` blocks whose contents mean nothing. Raises OutOfBlocks, and then takes none."""
        if count > self.available:
            raise OutOfBlocks(f"{count} blocks wanted, {self.available} of {self.total} are free")
        blocks = []
        for _ in range(count):
            if self._empty:
                block = self._empty.pop()
            else:
                block, _ = self._cached.popitem(last=False)
                self._forget(block)
                self.evictions += 1
            self._refs[block] = 1
            blocks.append(block)
        return blocks

    def lookup(self, tokens: Sequence[int]) -> list[int]:
        """Blocks that hold the longest beginning of `tokens`, the last token always left out; none is taken."""
        found: list[int] = []
        node: _Node | None = self._root
        for end in range(BLOCK_SIZE, len(tokens), BLOCK_SIZE):
            assert node is not None
            node = node.children.get(tuple(tokens[end - BLOCK_SIZE : end]))
            if node is None or not node.blocks:
                break
            found.append(node.blocks[0])
        return found

    def cost(self, blocks: Iterable[int], more: int) -> int:
        """How many available blocks it takes to share `blocks` and allocate `more`."""
        return more + sum(1 for block in blocks if self._refs[block] == 0)

    def share(self, blocks: Iterable[int]) -> None:
        """Hold blocks that `lookup` found, beside whoever holds them."""
        for block in blocks:
            if self._refs[block] == 0:
                del self._cached[block]
            self._refs[block] += 1

    def publish(self, tokens: Sequence[int], blocks: Sequence[int], computed: int) -> None:
        """Name the full ones of a sequence's blocks, whose first `computed` tokens are computed, for others to find.

        Costs nothing for those that are named already.
        """
        if not self._sharing:
            return
        last = computed // BLOCK_SIZE
        first = last
        while first > 0 and self._nodes[blocks[first - 1]] is None:
            first -= 1
        for i in range(first, last):
            parent = self._root if i == 0 else self._nodes[blocks[i - 1]]
            assert parent is not None
            run = tuple(tokens[i * BLOCK_SIZE : (i + 1) * BLOCK_SIZE])
            node = parent.children.get(run)
            if node is None:
                node = parent.children[run] = _Node(parent, run)
            node.blocks.append(blocks[i])
            self._nodes[blocks[i]] = node

    def free(self, blocks: Sequence[int], *, reusable: bool = True) -> None:
        """Let go of a sequence's blocks; not reusable: their contents are wrong, and nobody else may find them."""
        # From the back, so that the end of a text is given up before its beginning, without which it is no use.
        for block in reversed(blocks):
            assert self._refs[block] > 0, f"block {block} is let go by nobody who holds it"
            self._refs[block] -= 1
            if self._refs[block]:
                continue
            node = self._nodes[block]
            if reusable and node is not None and node.blocks == [block]:
                self._cached[block] = None
            else:
                self._forget(block)
                self._empty.append(block)

    def check(self, holders: Iterable[int] | None = None) -> None:
        """Raise AssertionError where a block is lost or held twice, or a name leads to the wrong block.

        `holders`: every block that anybody holds, as often as it is held.
        """
        if holders is not None:
            counts = [0] * self.total
            for block in holders:
                counts[block] += 1
            assert counts == self._refs, "blocks are held by others than the books say"
        empty, cached = set(self._empty), set(self._cached)
        held = {block for block, refs in enumerate(self._refs) if refs}
        assert len(empty) == len(self._empty), "a block is free twice"
        assert len(empty) + len(cached) + len(held) == self.total, "a block is lost, or both free and held"
        assert empty | cached | held == set(range(self.total)), "a block is lost"
        assert all(refs >= 0 for refs in self._refs)
        assert all(self._nodes[block] is None for block in empty), "an empty block has a name"
        named = {block for block, node in enumerate(self._nodes) if node is not None}
        assert cached <= named, "a cached block cannot be found"
        stack = list(self._root.children.values())
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            assert node.parent is not None
            assert node.parent.children[node.run] is node
            assert node.blocks or node.children, "a node of no use"
            for block in node.blocks:
                assert self._nodes[block] is node, "a name leads to another text's block"
                named.remove(block)
        assert not named, "a block's name is not in the tree"

    def _forget(self, block: int) -> None:
        """Take a block's name away."""
        node = self._nodes[block]
        if node is None:
            return
        self._nodes[block] = None
        node.blocks.remove(block)
        while node.parent is not None and not node.blocks and not node.children:
            del node.parent.children[node.run]
            node = node.parent
