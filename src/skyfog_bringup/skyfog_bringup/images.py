"""What the camera plays: photographs out of Python packages, a folder of photographs, or a video."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from skyfog_core.errors import ConfigError
from skyfog_core.rng import stream

Rgb = NDArray[np.uint8]  # [H, W, 3]

MAX_SIDE = 1280  # larger photographs are scaled down: what a robot's camera gives, and a detector needs
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff")
# Photographs with something in them that a detector knows, and which are inside the installed packages.
FROM_PACKAGES = (
    ("skimage", "data/astronaut.png"),
    ("skimage", "data/chelsea.png"),
    ("skimage", "data/coffee.png"),
    ("skimage", "data/motorcycle_left.png"),
    ("sklearn", "datasets/images/flower.jpg"),
    ("sklearn", "datasets/images/china.jpg"),
)


class Images(Protocol):
    """An endless series of images: the same index gives the same image, also in another process."""

    @property
    def count(self) -> int:
        """How many there are before they come again."""
        ...

    def name(self, index: int) -> str:
        """What to call the image, e.g. "chelsea"."""
        ...

    def get(self, index: int) -> Rgb:
        """The image. Raises ConfigError where it can no longer be read."""
        ...


class Photographs:
    """Photographs in rounds: each once a round, in an order that depends on the seed."""

    def __init__(self, files: list[Path], seed: int) -> None:
        self._files = files
        self._seed = seed
        self._read: dict[Path, Rgb] = {}

    @property
    def count(self) -> int:
        return len(self._files)

    def _file(self, index: int) -> Path:
        lap, place = divmod(index, len(self._files))
        order = list(self._files)
        stream(self._seed, "photographs", str(lap)).shuffle(order)
        return order[place]

    def name(self, index: int) -> str:
        return self._file(index).stem

    def get(self, index: int) -> Rgb:
        file = self._file(index)
        if file not in self._read:
            if len(self._read) >= 64:
                self._read.clear()
            self._read[file] = read_photograph(file)
        return self._read[file]


class Video:
    """The frames of a video, again from the start after its end."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._video = cv2.VideoCapture(str(file))
        self._frames = int(self._video.get(cv2.CAP_PROP_FRAME_COUNT))
        self._next = 0
        if self._frames < 1 or not self._video.read()[0]:
            raise ConfigError(f"{file}: holds no frames that OpenCV can read")
        self._next = 1

    @property
    def count(self) -> int:
        return self._frames

    def name(self, index: int) -> str:
        return f"{self._file.stem}_{index % self._frames:06d}"

    def get(self, index: int) -> Rgb:
        frame = index % self._frames
        if frame != self._next:
            self._video.set(cv2.CAP_PROP_POS_FRAMES, frame)
        good, image = self._video.read()
        self._next = frame + 1
        if not good:
            raise ConfigError(f"{self._file}: frame {frame} of {self._frames} cannot be read")
        return _scaled(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def open_images(where: str, seed: int) -> Images:
    """`where` as a user gives it. Raises ConfigError that says what is wrong with it and what is allowed."""
    if not where:
        return Photographs(package_photographs(), seed)
    path = Path(where).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in PHOTO_SUFFIXES and file.is_file())
        if not files:
            raise ConfigError(f"{path}: no photographs in this folder (of {' '.join(PHOTO_SUFFIXES)})")
        for file in files:
            read_photograph(file)
        return Photographs(files, seed)
    if not path.exists():
        raise ConfigError(f"{path}: no such folder or video")
    if path.suffix.lower() in PHOTO_SUFFIXES:
        read_photograph(path)
        return Photographs([path], seed)
    return Video(path)


def package_photographs() -> list[Path]:
    """Where the installed packages hold photographs. Raises ConfigError where none is left."""
    found = []
    for package, inside in FROM_PACKAGES:
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None and (file := Path(spec.origin).parent / inside).is_file():
            found.append(file)
    if not found:
        raise ConfigError("no photographs: neither scikit-image nor scikit-learn is installed; give --image")
    return found


def read_photograph(file: Path) -> Rgb:
    """[H, W, 3] uint8 RGB, upright, no side over MAX_SIDE. Raises ConfigError for what is no photograph."""
    try:
        with Image.open(file) as image:  # Pillow: OpenCV complains on stderr about colour profiles
            return _scaled(np.asarray(ImageOps.exif_transpose(image).convert("RGB")))
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{file}: is no photograph that can be read: {error}") from None


def to_jpeg(image: Rgb, quality: int) -> bytes:
    """The image as JPEG, `quality` 1..100."""
    good, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert good
    return bytes(data)


def _scaled(image: Any) -> Rgb:
    side = max(image.shape[:2])
    if side > MAX_SIDE:
        image = cv2.resize(image, None, fx=MAX_SIDE / side, fy=MAX_SIDE / side, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image, dtype=np.uint8)
