"""Links as mahimahi records them: the milliseconds at which a link could have carried one packet of 1,500 bytes.

A trace begins anew when its last opportunity is over. An opportunity that finds nothing to carry is gone; small packets
share one, and a large packet takes several.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

from skyfog_core.errors import ConfigError
from skyfog_core.units import MS, S

PACKET_BYTES = 1_500


class Opportunities:
    """When a link can carry PACKET_BYTES: at `at_ns`, ascending from the trace's begin, and again after `period_ns`."""

    def __init__(self, at_ns: Iterable[int], period_ns: int) -> None:
        """Raises ValueError where they are none, not ascending, or not all within the period."""
        self.at_ns = tuple(at_ns)
        self.period_ns = period_ns
        if not self.at_ns or list(self.at_ns) != sorted(self.at_ns):
            raise ValueError("opportunities must be given, in the order of their times")
        if self.at_ns[0] < 0 or self.at_ns[-1] > period_ns or period_ns <= 0:
            raise ValueError(f"opportunities from {self.at_ns[0]} to {self.at_ns[-1]} ns in {period_ns} ns")

    @property
    def mean_bps(self) -> float:
        return len(self.at_ns) * PACKET_BYTES * 8 * S / self.period_ns

    def time_ns(self, number: int) -> int:
        """When opportunity `number` is, counted from the trace's begin on through all its rounds."""
        lap, place = divmod(number, len(self.at_ns))
        return lap * self.period_ns + self.at_ns[place]

    def first(self, since_ns: int) -> int:
        """The number of the first opportunity at `since_ns` or later."""
        lap, before_ns = divmod(since_ns - 1, self.period_ns)  # so that the end of a round counts as its own
        return lap * len(self.at_ns) + bisect_left(self.at_ns, before_ns + 1)

    def bits(self, begin_ns: int, end_ns: int) -> int:
        """What the link can carry in [begin, end)."""
        return (self.first(end_ns) - self.first(begin_ns)) * PACKET_BYTES * 8

    def scaled(self, factor: float) -> Opportunities:
        """The same ups and downs at `factor` of the rate. Raises ValueError where nothing is left."""
        old, new = len(self.at_ns), round(len(self.at_ns) * factor)
        return Opportunities((self.at_ns[-(-number * old // new) - 1] for number in range(1, new + 1)), self.period_ns)

    def write(self, path: Path) -> None:
        """As a mahimahi file; times are rounded to its milliseconds. It lasts until its last opportunity."""
        path.write_text("".join(f"{round(at / MS)}\n" for at in self.at_ns))


def read(path: Path) -> Opportunities:
    """A mahimahi trace. Raises ConfigError that names the file, and the line where one is wrong."""
    at_ns = []
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(text.split(), start=1):
        if not line.isascii() or not line.isdigit():
            raise ConfigError(f"{path}: line {number}: {line[:40]!r} is not a number of milliseconds")
        at_ns.append(int(line) * MS)
    try:
        return Opportunities(at_ns, at_ns[-1] if at_ns else 0)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
