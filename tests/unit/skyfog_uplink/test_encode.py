"""A captured image becomes an option's bytes, and comes back in the size that was sent."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from skyfog_core.errors import ConfigError, InvalidRequest
from skyfog_uplink.encode import decode, encode, sent_size
from skyfog_uplink.policy.model import Option, constant

RAMP = np.stack(np.broadcast_arrays(np.arange(64)[None, :] * 4, np.arange(48)[:, None] * 5, 128), -1).astype(np.uint8)


def option(codec: str, quality: int = 90, width: int = 0, height: int = 0) -> Option:
    zero = constant(0.0)
    return Option("o", "m", 0.5, constant(1.0), zero, zero, codec, quality, width, height)


@pytest.mark.parametrize("codec", ["png", "raw"])
def test_what_is_without_loss_comes_back_as_it_was(codec: str) -> None:
    assert (decode(encode(RAMP, option(codec)), option(codec), 48, 64) == RAMP).all()


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_quality_costs_bytes_and_gives_likeness(codec: str) -> None:
    noise = np.random.default_rng(3).normal(0, 20, RAMP.shape)
    image = np.clip(RAMP + noise, 0, 255).astype(np.uint8)
    sizes, errors = [], []
    for quality in (10, 50, 95):
        how = option(codec, quality)
        data = encode(image, how)
        sizes.append(len(data))
        errors.append(np.abs(decode(data, how, 48, 64).astype(int) - image).mean())
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert sizes[0] < sizes[2]


@pytest.mark.parametrize("codec", ["jpeg", "webp", "png", "raw"])
def test_an_image_is_made_small_and_keeps_its_shape_and_colours(codec: str) -> None:
    how = option(codec, width=32, height=32)
    back = decode(encode(RAMP, how), how, 48, 64)
    assert back.shape == (24, 32, 3)
    expected = cv2.resize(RAMP, (32, 24), interpolation=cv2.INTER_AREA)
    assert np.abs(back.astype(int) - expected).mean() < 6


@pytest.mark.parametrize(
    ("given", "limit", "sent"),
    [
        ((480, 640), (0, 0), (480, 640)),  # as captured
        ((480, 640), (240, 320), (240, 320)),
        ((480, 640), (240, 640), (240, 320)),  # the tighter side decides
        ((480, 640), (960, 1280), (480, 640)),  # never larger
        ((1, 5_000), (10, 10), (1, 10)),  # never nothing
    ],
)
def test_size_that_is_sent(given: tuple[int, int], limit: tuple[int, int], sent: tuple[int, int]) -> None:
    assert sent_size(*given, option("jpeg", width=limit[1], height=limit[0])) == sent


def test_an_option_without_an_image_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"codec 'none' sends no image \(allowed: jpeg, webp, png, raw\)"):
        encode(RAMP, option("none"))


@pytest.mark.parametrize(("codec", "side"), [("jpeg", 65_536), ("webp", 16_384)])
def test_an_image_that_a_codec_cannot_hold_is_refused(codec: str, side: int) -> None:
    with pytest.raises(InvalidRequest, match=f"{side} x 1 pixels do not fit {codec}"):
        encode(np.zeros((1, side, 3), np.uint8), option(codec))


@pytest.mark.parametrize("codec", ["jpeg", "webp", "png", "raw"])
@pytest.mark.parametrize("data", [b"", b"nothing of the kind"])
def test_bytes_that_are_no_image_are_refused(codec: str, data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="option o: "):
        decode(data, option(codec), 48, 64)


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="are no png of 32 x 24"):
        decode(encode(RAMP, option("png")), option("png", width=32, height=32), 48, 64)


def test_rows_that_do_not_follow_one_another_are_sent_all_the_same() -> None:
    view = RAMP[:, ::2]
    assert (decode(encode(view, option("raw")), option("raw"), 48, 32) == view).all()
    assert (decode(encode(view, option("png")), option("png"), 48, 32) == view).all()
