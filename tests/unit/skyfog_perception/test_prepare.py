"""Images come out as RGB, or the field at fault is named before anything is decoded."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import cv2
import numpy as np
import pytest

from skyfog_core.errors import InvalidRequest
from skyfog_perception import prepare
from skyfog_perception.manifest import InputSpec
from skyfog_perception.prepare import compressed_to_rgb, jpeg_size, to_tensor, webp_size

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
STRIPES = np.array([[RED, GREEN, BLUE]] * 2, np.uint8)  # [2, 3, 3]


def packed(kind: str, image: np.ndarray = STRIPES, *flags: int) -> bytes:
    return cv2.imencode(kind, image[:, :, ::-1] if image.ndim == 3 else image, flags)[1].tobytes()


def test_a_png_comes_out_as_it_went_in() -> None:
    assert (compressed_to_rgb(packed(".png")) == STRIPES).all()


def test_a_grey_16_bit_and_a_transparent_png_become_rgb() -> None:
    grey = compressed_to_rgb(packed(".png", np.full((2, 2), 0x1234, np.uint16)))
    assert (grey == 0x12).all()
    clear = cv2.imencode(".png", np.full((2, 2, 4), (1, 2, 3, 0), np.uint8))[1].tobytes()
    assert (compressed_to_rgb(clear) == [3, 2, 1]).all()


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_keeps_its_colours_and_size(progressive: int) -> None:
    image = np.zeros((40, 64, 3), np.uint8)
    image[:, :32] = RED
    content = packed(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    assert jpeg_size(content) == (40, 64)
    rgb = compressed_to_rgb(content).astype(int)
    assert rgb.shape == image.shape
    assert np.abs(rgb[:, [0, 63]] - image[:, [0, 63]]).max() < 8


def exif_thumbnail(content: bytes, orientation: int = 1) -> bytes:
    """`content` with an EXIF segment that holds an orientation, and a whole small JPEG as a camera's thumbnail."""
    tags = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tags + packed(".jpg", np.zeros((8, 8, 3), np.uint8))
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]


def test_size_and_end_are_those_of_the_picture_and_not_of_its_thumbnail() -> None:
    whole = exif_thumbnail(packed(".jpg", np.zeros((40, 64, 3), np.uint8)))
    assert jpeg_size(whole) == (40, 64)
    with pytest.raises(InvalidRequest, match="before its end marker"):
        compressed_to_rgb(whole[:-40])


def test_pixels_stay_as_stored_whatever_exif_says_of_orientation() -> None:
    turned = exif_thumbnail(packed(".jpg", np.zeros((40, 64, 3), np.uint8)), orientation=6)
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape == (64, 40, 3)  # the tag is read
    assert compressed_to_rgb(turned).shape == (40, 64, 3)


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
FILES = {
    "jpeg": packed(".jpg", NOISE),
    "progressive": packed(".jpg", NOISE, 2, 1),
    "png": packed(".png", NOISE),
    "webp": packed(".webp", NOISE, cv2.IMWRITE_WEBP_QUALITY, 80),
    "webp without loss": packed(".webp", NOISE, cv2.IMWRITE_WEBP_QUALITY, 101),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_cut_anywhere_is_refused(kind: str) -> None:
    content = FILES[kind]
    assert compressed_to_rgb(content).shape == NOISE.shape
    for length in [*range(0, 700, 7), *range(700, len(content), 97), len(content) - 1]:
        with pytest.raises(InvalidRequest, match="compressed_image"):
            compressed_to_rgb(content[:length])


@pytest.mark.parametrize("kind", FILES)
def test_colours_are_the_same_by_an_opencv_that_cannot_decode_to_rgb(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = compressed_to_rgb(FILES[kind])
    monkeypatch.setattr(prepare, "STRAIGHT_TO_RGB", None)
    assert (compressed_to_rgb(FILES[kind]) == expected).all()
    assert not (expected[..., 0] == expected[..., 2]).all()


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file of these chunks."""
    body = b"".join(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def canvas(width: int, height: int, flags: int = 0) -> tuple[bytes, bytes]:
    """The chunk that begins a WebP of several."""
    return b"VP8X", struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def test_a_webp_on_a_canvas_is_read_and_one_that_moves_is_refused() -> None:
    image = np.zeros((40, 64, 3), np.uint8)
    image[:, :32] = RED
    still = packed(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 80)
    inside = (still[12:16], still[20 : 20 + struct.unpack_from("<I", still, 16)[0]])
    content = riff(canvas(64, 40), inside)
    assert webp_size(content) == webp_size(still) == (40, 64)
    assert (compressed_to_rgb(content) == compressed_to_rgb(still)).all()
    with pytest.raises(InvalidRequest, match="still picture"):
        compressed_to_rgb(riff(canvas(64, 40, flags=2), inside))


def test_a_webp_that_claims_a_large_canvas_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(InvalidRequest, match="16777216 x 16777216 pixels are too many"):
        compressed_to_rgb(riff(canvas(2**24, 2**24)))


def test_bytes_after_the_end_of_a_jpeg_are_passed_over() -> None:
    assert compressed_to_rgb(FILES["jpeg"] + bytes(64)).shape == NOISE.shape


def test_other_formats_are_refused_by_their_first_bytes() -> None:
    for content in (b"GIF89a", b"RIFF....WAVE", b"\0" * 12 + FILES["png"], packed(".bmp")):
        with pytest.raises(InvalidRequest, match="neither JPEG, PNG nor WebP"):
            compressed_to_rgb(content)


def png_of(width: int, height: int) -> bytes:
    """A small file whose header claims any size."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_from_its_header_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "imdecode")
    huge = FILES["jpeg"].replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 65535, 65500), 1)
    for content, size in ((png_of(100_000, 100_000), "100000 x 100000"), (huge, "65500 x 65535")):
        with pytest.raises(InvalidRequest, match=f"{size} pixels are too many; at most 16777216"):
            compressed_to_rgb(content)


def test_the_bound_on_pixels_can_be_set_and_is_inclusive() -> None:
    assert compressed_to_rgb(FILES["png"], max_pixels=64 * 64).shape == NOISE.shape
    with pytest.raises(InvalidRequest, match="at most 4095"):
        compressed_to_rgb(FILES["png"], max_pixels=64 * 64 - 1)


def test_a_png_that_claims_no_or_too_many_pixels_for_its_data_is_refused() -> None:
    for content in (png_of(0, 5), png_of(2**31, 1), png_of(64, 64)):
        with pytest.raises(InvalidRequest, match="compressed_image"):
            compressed_to_rgb(content)


def spec(**changes: Any) -> InputSpec:
    given = {"name": "x", "layout": "nhwc", "dtype": "uint8", "height": 2, "width": 3, "colors": "rgb", **changes}
    return InputSpec(**given)


def test_a_plain_tensor_is_the_image_itself_where_the_size_fits() -> None:
    tensor, _ = to_tensor(STRIPES, spec())
    assert tensor.dtype == np.uint8
    assert (tensor == STRIPES[None]).all()


def test_layout_colours_and_normalisation_follow_the_manifest() -> None:
    tensor, _ = to_tensor(
        STRIPES,
        spec(layout="nchw", colors="bgr", dtype="float32", mean=[255.0, 0.0, 0.0], std=[1.0, 5.0, 0.5]),
    )
    assert tensor.shape == (1, 3, 2, 3)
    assert tensor.dtype == np.float32
    assert tensor.flags.c_contiguous
    assert tensor[0, :, 0, 0].tolist() == [-255.0, 0.0, 510.0]  # red
    assert tensor[0, :, 0, 2].tolist() == [0.0, 0.0, 0.0]  # blue is first in BGR


def test_the_image_is_stretched_to_the_input() -> None:
    tensor, _ = to_tensor(np.repeat(np.repeat(STRIPES, 10, 0), 20, 1), spec())
    assert (tensor == STRIPES[None]).all()
