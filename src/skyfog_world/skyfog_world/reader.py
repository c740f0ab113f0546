"""Reading an SDF file element by element, so that every complaint names the file, the element and what is allowed."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from skyfog_core.config.base import nearest
from skyfog_core.errors import ConfigError, plain_reason
from skyfog_core.poses import Pose
from skyfog_world.frames import from_rpy

# Elements of this namespace are ours; SDFormat itself skips every element whose name has a prefix.
OURS = "{https://skyfog.example.org/sdf}"
ANY = math.inf


class Element:
    """An XML element with the file it is from and its place there."""

    def __init__(self, xml: ET.Element, file: Path, place: str, warnings: list[str]) -> None:
        self.xml = xml
        self.file = file
        self.place = place
        self.warnings = warnings

    @property
    def tag(self) -> str:
        return self.xml.tag.replace(OURS, "skyfog:")

    def error(self, what: str) -> ConfigError:
        """To be raised."""
        return ConfigError(f"{self.file}: {self.place}: {what}")

    def children(self, tag: str) -> list[Element]:
        return [self._child(xml) for xml in self.xml.findall(tag.replace("skyfog:", OURS))]

    def every_child(self) -> list[Element]:
        return [self._child(xml) for xml in self.xml]

    def child(self, tag: str) -> Element | None:
        found = self.children(tag)
        return found[0] if found else None

    def need(self, tag: str) -> Element:
        """The child. Raises ConfigError where there is none."""
        found = self.child(tag)
        if found is None:
            raise self.error(f"has no <{tag}>")
        return found

    def only_knows(self, *tags: str) -> None:
        """Note every child with another tag as not supported."""
        for child in self.every_child():
            if child.tag not in tags:
                hint = nearest(child.tag, list(tags))
                self.warnings.append(
                    f"{self.file}: {self.place}: <{child.tag}> is not supported{hint} (supported: {', '.join(tags)})"
                )

    def attribute(self, name: str) -> str:
        """Raises ConfigError where it is missing or empty."""
        value = self.xml.get(name, "").strip()
        if not value:
            raise self.error(f"needs the attribute {name!r}")
        return value

    def text(self, tag: str, default: str | None = None) -> str:
        """The child's text. Raises ConfigError where it is missing and has no default."""
        found = self.child(tag)
        text = (found.xml.text or "").strip() if found is not None else ""
        if text:
            return text
        if default is None:
            raise self.error(f"needs <{tag}>")
        return default

    def flag(self, tag: str, default: bool) -> bool:
        text = self.text(tag, str(default)).lower()
        if text not in ("true", "false", "1", "0"):
            raise self.error(f"<{tag}> is {text!r}, neither true nor false")
        return text in ("true", "1")

    def number(self, tag: str, default: float | None = None, *, low: float = -ANY, above: float = -ANY) -> float:
        """A finite number, at least `low` and more than `above`. Raises ConfigError."""
        text = self.text(tag, None if default is None else repr(default))
        value = self._finite(tag, [text])[0]
        if value < low or value <= above:
            bound = f"more than {above:g}" if value <= above else f"at least {low:g}"
            raise self.error(f"<{tag}> is {value:g}; it must be {bound}")
        return value

    def value(self, *, signed: bool) -> float:
        """The element's own text as a finite number, at least 0 unless `signed`. Raises ConfigError."""
        found = self._finite(self.tag, [(self.xml.text or "").strip()])[0]
        if found < 0 and not signed:
            raise self.error(f"<{self.tag}> is {found:g}; it must be at least 0")
        return found

    def whole(self, tag: str, *, low: int, high: int) -> int:
        """An integer within bounds. Raises ConfigError."""
        value = self.number(tag)
        if value != int(value) or not low <= value <= high:
            raise self.error(f"<{tag}> is {value:g}; it must be a whole number from {low} to {high}")
        return int(value)

    def numbers(self, tag: str, count: int, default: Sequence[float] | None = None) -> tuple[float, ...]:
        """`count` finite numbers. Raises ConfigError."""
        text = self.text(tag, None if default is None else " ".join(repr(float(v)) for v in default))
        values = self._finite(tag, text.split())
        if len(values) != count:
            raise self.error(f"<{tag}> has {len(values)} numbers, not {count}")
        return values

    def sizes(self, tag: str, count: int, default: Sequence[float] | None = None) -> tuple[float, ...]:
        """`count` numbers over zero. Raises ConfigError."""
        values = self.numbers(tag, count, default)
        if min(values) <= 0:
            raise self.error(f"<{tag}> is {' '.join(f'{v:g}' for v in values)}; every number must be more than 0")
        return values

    def colour(self, tag: str, default: Sequence[float]) -> tuple[float, float, float, float]:
        """Red, green, blue and opacity, 0 to 1; the last may be left out."""
        text = self.text(tag, " ".join(str(v) for v in default))
        values = self._finite(tag, text.split())
        if len(values) not in (3, 4) or min(values) < 0 or max(values) > 1:
            raise self.error(f"<{tag}> is {text!r}; it must be 3 or 4 numbers from 0 to 1")
        red, green, blue, *rest = values
        return red, green, blue, rest[0] if rest else 1.0

    def pose(self) -> Pose:
        """The child <pose>, x y z roll pitch yaw; none means no offset. Raises ConfigError."""
        found = self.child("pose")
        if found is None or not (found.xml.text or "").strip():
            return from_rpy(0, 0, 0, 0, 0, 0)
        values = self.numbers("pose", 6)
        if found.xml.get("degrees", "false") == "true":
            values = (*values[:3], *(math.radians(v) for v in values[3:]))
        return from_rpy(*values)

    def relative_to(self, default: str) -> str:
        """The frame that <pose> is stated in."""
        found = self.child("pose")
        return (found.xml.get("relative_to") if found is not None else None) or default

    def _child(self, xml: ET.Element) -> Element:
        tag = xml.tag.replace(OURS, "skyfog:")
        name = xml.get("name")
        place = f"{self.place}/{tag} {name!r}" if name else f"{self.place}/{tag}"
        return Element(xml, self.file, place.removeprefix("sdf/"), self.warnings)

    def _finite(self, tag: str, words: Sequence[str]) -> tuple[float, ...]:
        values = []
        for word in words:
            try:
                value = float(word)
            except ValueError:
                raise self.error(f"<{tag}> is {word!r}, no number") from None
            if not math.isfinite(value):
                raise self.error(f"<{tag}> is {word}; it must be finite")
            values.append(value)
        return tuple(values)


def read(file: Path, warnings: list[str]) -> Element:
    """The <sdf> element of a file. Raises ConfigError where there is none, or the file is no XML."""
    try:
        xml = ET.parse(file).getroot()  # noqa: S314
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except ET.ParseError as error:
        raise ConfigError(f"{file}: is no XML: {plain_reason(error)}") from None
    root = Element(xml, file, "sdf", warnings)
    if xml.tag != "sdf":
        raise root.error(f"the outermost element is <{xml.tag}>, not <sdf>")
    return root
