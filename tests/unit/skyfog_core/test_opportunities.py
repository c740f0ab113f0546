"""Traces of delivery opportunities."""

from __future__ import annotations

from pathlib import Path

import pytest

from skyfog_core.errors import ConfigError
from skyfog_core.opportunities import Opportunities, read
from skyfog_core.units import MS, S

EXAMPLE = Opportunities([0, 3 * MS, 3 * MS, 8 * MS], 8 * MS)


def test_a_trace_goes_round() -> None:
    assert [EXAMPLE.time_ns(number) // MS for number in range(-1, 6)] == [0, 0, 3, 3, 8, 8, 11]
    assert EXAMPLE.mean_bps == 4 * 12_000 * S / (8 * MS)


@pytest.mark.parametrize(("since_ms", "number"), [(0, -1), (1, 1), (3, 1), (4, 3), (8, 3), (9, 5), (11, 5), (16, 7)])
def test_the_first_opportunity_since_a_time(since_ms: int, number: int) -> None:
    assert EXAMPLE.first(since_ms * MS) == number


def test_bits_are_counted_from_the_begin_and_without_the_end() -> None:
    assert EXAMPLE.bits(1 * MS, 3 * MS) == 0
    assert EXAMPLE.bits(1 * MS, 4 * MS) == 2 * 12_000
    assert EXAMPLE.bits(1 * MS, 801 * MS) == 400 * 12_000


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.0, 1.75, 3.0])
def test_a_scaled_trace_has_its_share_of_the_rate_at_all_times(factor: float) -> None:
    trace = Opportunities([at * MS for at in range(1, 401) if at % 100 < 50], 400 * MS)
    scaled = trace.scaled(factor)
    assert scaled.mean_bps == pytest.approx(factor * trace.mean_bps, rel=0.01)
    assert scaled.period_ns == trace.period_ns
    for begin in range(0, 400, 100):
        span = (begin * MS + 1, (begin + 100) * MS + 1)
        assert abs(scaled.bits(*span) - factor * trace.bits(*span)) <= 2 * 12_000


def test_nothing_is_left_of_a_trace_scaled_to_nothing() -> None:
    with pytest.raises(ValueError, match="must be given"):
        EXAMPLE.scaled(0.1)


def test_a_file_is_written_and_read(tmp_path: Path) -> None:
    EXAMPLE.write(tmp_path / "link.up")
    assert (tmp_path / "link.up").read_text() == "0\n3\n3\n8\n"
    again = read(tmp_path / "link.up")
    assert (again.at_ns, again.period_ns) == (EXAMPLE.at_ns, EXAMPLE.period_ns)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "must be given"),
        ("5\n3\n", "in the order"),
        ("0\n", "0 to 0 ns in 0 ns"),
        ("1\nx\n", "line 2: 'x' is not"),
        ("-1\n", "line 1"),
        ("1.5\n", "line 1"),
    ],
)
def test_what_is_no_trace_is_refused(text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "link.up"
    path.write_text(text)
    with pytest.raises(ConfigError, match=what):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.up: cannot be read"):
        read(tmp_path / "gone.up")
