import pytest

from skyfog_inference.blocks import BLOCK_SIZE, BlockManager, OutOfBlocks


def text(*kinds: int) -> list[int]:
    """Whole blocks, each of one token."""
    return [kind for kind in kinds for _ in range(BLOCK_SIZE)]


def fill(blocks: BlockManager, tokens: list[int]) -> list[int]:
    """Hold and publish all blocks of a text."""
    shared = blocks.lookup(tokens)
    blocks.share(shared)
    held = shared + blocks.allocate(-(-len(tokens) // BLOCK_SIZE) - len(shared))
    blocks.publish(tokens, held, len(tokens))
    return held


def test_too_many_blocks_are_refused_whole() -> None:
    blocks = BlockManager(3)
    blocks.allocate(2)
    with pytest.raises(OutOfBlocks, match="2 blocks wanted, 1 of 3"):
        blocks.allocate(2)
    assert blocks.available == 1


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    blocks = BlockManager(4)
    held = fill(blocks, text(1, 2))
    assert blocks.lookup(text(1, 2)) == held[:1]
    assert blocks.lookup([*text(1, 2), 3]) == held


def test_only_full_and_computed_blocks_are_found() -> None:
    blocks = BlockManager(4)
    held = blocks.allocate(2)
    tokens = text(1, 2)
    blocks.publish(tokens, held, BLOCK_SIZE - 1)
    assert blocks.lookup([*tokens, 0]) == []
    blocks.publish(tokens, held, 2 * BLOCK_SIZE - 1)
    assert blocks.lookup([*tokens, 0]) == held[:1]


def test_equal_blocks_after_different_beginnings_are_different() -> None:
    blocks = BlockManager(4)
    fill(blocks, text(1, 5))
    second = fill(blocks, text(2, 5))
    assert blocks.lookup([*text(2, 5), 0]) == second


def test_freed_contents_are_found_until_their_block_is_needed() -> None:
    blocks = BlockManager(3)
    held = fill(blocks, text(1, 2))
    blocks.free(held)
    assert (blocks.available, blocks.cached) == (3, 2)
    assert blocks.lookup([*text(1, 2), 0]) == held
    blocks.allocate(2)  # the empty one, then the end of the text
    assert blocks.lookup([*text(1, 2), 0]) == held[:1]
    assert blocks.evictions == 1
    blocks.check()


def test_what_was_used_last_is_given_up_last() -> None:
    blocks = BlockManager(2)
    one, two = fill(blocks, text(1)), fill(blocks, text(2))
    blocks.free(one)
    blocks.free(two)
    blocks.share(blocks.lookup([*text(1), 0]))
    blocks.free(one)
    assert blocks.allocate(1) == two


def test_a_shared_block_stays_until_its_last_holder_lets_go() -> None:
    blocks = BlockManager(3)
    held = fill(blocks, text(1))
    blocks.share(held)
    blocks.free(held)
    assert blocks.used == 1
    blocks.free(held)
    assert blocks.used == 0
    with pytest.raises(AssertionError, match="let go"):
        blocks.free(held)


def test_the_cost_counts_blocks_that_sharing_takes_from_the_available() -> None:
    blocks = BlockManager(4)
    held = fill(blocks, text(1, 2))
    assert blocks.cost(held, 1) == 1
    blocks.free(held)
    assert blocks.cost(held, 1) == 3


def test_wrong_contents_are_not_found_again() -> None:
    blocks = BlockManager(4)
    blocks.free(fill(blocks, text(1, 2)), reusable=False)
    assert blocks.lookup([*text(1, 2), 0]) == []
    assert blocks.cached == 0
    blocks.check()


def test_of_two_copies_one_is_kept() -> None:
    blocks = BlockManager(4)
    first, second = blocks.allocate(1), blocks.allocate(1)
    for held in (first, second):
        blocks.publish(text(1), held, BLOCK_SIZE)
    blocks.free(first)
    assert blocks.cached == 0
    assert blocks.lookup([*text(1), 0]) == second
    blocks.free(second)
    assert blocks.cached == 1
    blocks.check()


def test_a_beginning_that_was_lost_and_computed_again_leads_to_the_rest() -> None:
    blocks = BlockManager(4)
    first, second = blocks.allocate(1), blocks.allocate(1)
    blocks.publish(text(1, 2), first + second, 2 * BLOCK_SIZE)
    blocks.free(first)
    blocks.allocate(3)  # the cached one too
    assert blocks.lookup([*text(1, 2), 0]) == []
    blocks.free(first)
    again = blocks.allocate(1)
    blocks.publish(text(1), again, BLOCK_SIZE)
    assert blocks.lookup([*text(1, 2), 0]) == again + second
    blocks.check()


def test_without_sharing_nothing_is_found() -> None:
    blocks = BlockManager(4, sharing=False)
    held = fill(blocks, text(1, 2))
    assert blocks.lookup([*text(1, 2), 0]) == []
    blocks.free(held)
    assert blocks.cached == 0


def test_the_books_notice_a_lost_block() -> None:
    blocks = BlockManager(2)
    held = blocks.allocate(1)
    with pytest.raises(AssertionError, match="others than the books say"):
        blocks.check([])
    blocks.check(held)
