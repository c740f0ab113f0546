import pytest

from skyfog_inference.placement.batching import batch


def test_the_longest_goes_first_to_the_batch_with_fewest_tokens() -> None:
    batches = batch([3, 9, 4, 8], count=2, size=4, new_tokens=1, cache_tokens=100)
    assert batches.micro_batches == ((1, 0), (3, 2))
    assert batches.aborted == ()


def test_a_full_micro_batch_is_closed_and_comes_first() -> None:
    batches = batch([9, 2, 2, 2], count=2, size=2, new_tokens=0, cache_tokens=100)
    assert batches.micro_batches == ((1, 2), (0, 3))


def test_what_would_burst_the_cache_waits_for_the_next_batch() -> None:
    batches = batch([10, 5, 5], count=1, size=8, new_tokens=3, cache_tokens=21)
    assert batches.micro_batches == ((0, 1),)  # 10 + 5 + 2 * 3 = 21
    assert batches.aborted == (2,)


def test_when_all_are_closed_the_rest_waits() -> None:
    batches = batch([1, 1, 1], count=1, size=2, new_tokens=1, cache_tokens=100)
    assert batches.micro_batches == ((0, 1),)
    assert batches.aborted == (2,)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="no batches of 0 x 4"):
        batch([1], count=0, size=4, new_tokens=1, cache_tokens=10)
