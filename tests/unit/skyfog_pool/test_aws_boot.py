"""The script that a new machine runs first; what it does is tested in tests/integration."""

from __future__ import annotations

import gzip
import random

import pytest

from skyfog_pool.provider.aws_boot import MAX_BYTES, Boot, script, user_data
from skyfog_pool.provider.base import Misconfigured
from skyfog_pool.provider.bundle import Bundle

BUNDLE = Bundle("https://b.s3.us-west-2.amazonaws.com/k?X-Amz-Signature=1&X-Amz-Expires=3600", "ab" * 32)


def test_the_same_order_gives_the_same_script() -> None:
    one, other = ({"A": "1", "B": "2"}, {"B": "2", "A": "1"})
    assert script(Boot(one, workspace=BUNDLE)) == script(Boot(other, workspace=BUNDLE))


def test_a_bundle_is_checked_before_it_is_unpacked() -> None:
    text = script(Boot({}, workspace=BUNDLE))
    assert f"'{BUNDLE.url}'" in text
    assert text.index("sha256sum --check") < text.index("tar -xzf")


def test_an_image_needs_no_workspace() -> None:
    text = script(Boot({"SKYFOG_POOL": "p"}, image="registry.example/replica:1"))
    assert "docker run --rm --init --network host --env SKYFOG_POOL registry.example/replica:1" in text
    assert "./ws" not in text


def test_a_long_script_is_packed() -> None:
    text = user_data(Boot({"LONG": "word " * 5_000}, workspace=BUNDLE))
    assert len(text) <= MAX_BYTES
    assert b"word word" in gzip.decompress(text)


def test_what_is_too_long_even_packed_is_refused() -> None:
    noise = random.Random(1).randbytes(40_000).hex()
    with pytest.raises(Misconfigured, match="at most 16384"):
        user_data(Boot({"NOISE": noise}, workspace=BUNDLE))
