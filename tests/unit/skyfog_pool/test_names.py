from __future__ import annotations

import pytest

from skyfog_pool.provider.base import LaunchRefused, Order
from skyfog_pool.provider.names import Tags, machine_name, name_prefix, pool_of, tags_of

ORDER = Order("detect", 3, 2, "0a1b", "us-central1-a", "spot")


def test_a_name_says_whose_the_machine_is() -> None:
    name = machine_name(ORDER)
    assert name == "skyfog-detect-r3-v2-0a1b"
    assert tags_of(name) == Tags("detect", 3, 2, "0a1b")
    assert name.startswith(name_prefix("detect"))


def test_a_pool_whose_name_looks_like_another_replica_is_kept_apart() -> None:
    name = "skyfog-detect-r1-v1-a-r2-v3-beef"
    assert tags_of(name) == Tags("detect-r1-v1-a", 2, 3, "beef")
    assert pool_of(name) == "detect-r1-v1-a"
    assert tags_of("my-cluster") is None
    assert tags_of("skyfog-detect") is None


def test_a_token_that_no_name_may_hold_is_refused() -> None:
    bad = Order("detect", 3, 2, "0a/b", "us-central1-a", "spot")
    with pytest.raises(LaunchRefused, match="0a/b"):
        machine_name(bad)
