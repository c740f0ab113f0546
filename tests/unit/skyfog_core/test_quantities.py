"""Amounts as a person writes them."""

from __future__ import annotations

from typing import Any

import pytest

from skyfog_core.config.base import Strict, parse
from skyfog_core.config.quantities import Amount, Dimension, Quantiles, Units
from skyfog_core.errors import ConfigError

DATA, TIME = Dimension.DATA, Dimension.TIME


class Holder(Strict):
    bytes: Amount
    more: list[Amount] = []


def refusal(value: Any, dimension: Dimension = DATA, **own: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Units(own).amount(value, dimension)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "dimension", "expected"),
    [
        ("1.89 Mbit", DATA, 236_250),
        ("236 kB", DATA, 236_000),
        ("1KiB", DATA, 1_024),
        (" 8 bit ", DATA, 1),
        ("1e3 B", DATA, 1_000),
        (".5 s", TIME, 500),
        ("40us", TIME, 0.04),
        ("2. min", TIME, 120_000),
        (7.5, TIME, 7.5),
        (0, DATA, 0),
    ],
)
def test_amounts_come_out_in_bytes_and_ms(text: float | str, dimension: Dimension, expected: float) -> None:
    assert Units({}).amount(text, dimension) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5 kb", "unknown unit 'kb'; did you mean 'kbit'?"),  # kilobit or kilobyte: not ours to guess
        ("5", "should be a number and a unit, such as '1.89 Mbit' or '40 ms', not '5'; 5 without quotes is in bytes"),
        ("big", "should be a number and a unit"),
        ("1,5 kB", "should be a number and a unit"),
        ("nan B", "should be a number and a unit"),
        ("٣ B", "should be a number and a unit"),  # digits of another script
        ("", "should be a number and a unit"),
        ("-1 kB", "should be within 0 and 1e+12 bytes, not -1000"),
        ("1e999 B", "should be within 0 and 1e+12 bytes, not inf"),
        ("5 ms", "'5 ms' is time, not data (allowed: B, bytes, kB, MB,"),
        (float("nan"), "should be within 0 and 1e+12 bytes, not nan"),
        (2e12, "should be within 0 and 1e+12 bytes, not 2e+12"),
        (Quantiles(p50=3, p90=2, p99=4), "quantiles fall: p50 3, p90 2, p99 4"),
        (Quantiles(p50=3, p90=5, p99=4), "quantiles fall: p50 3, p90 5, p99 4"),
        (Quantiles(p50=3, p90=4, p99=2e12), "should be within 0 and 1e+12 bytes, not 2e+12"),
    ],
)
def test_what_is_no_amount_is_refused_with_what_is_allowed(text: float | str | Quantiles, message: str) -> None:
    assert refusal(text).startswith(message)


def test_own_units_stand_on_others_in_any_order() -> None:
    units = Units({"film": "10 frame", "frame": "3 row", "row": "1.5 kB", "blink": "0.1 s"})
    assert units.amount("2 film", DATA) == pytest.approx(90_000)
    assert units.amount("2 blink", TIME) == pytest.approx(200)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"a": "1 a"}, "a: goes in a circle: a -> a"),
        ({"a": "1 b", "b": "1 a"}, "a: goes in a circle: a -> b -> a"),
        ({"kB": "5 B"}, "kB: is a unit already; take another name"),
        ({"a": "1 frmae", "frame": "1 kB"}, "a: unknown unit 'frmae'; did you mean 'frame'?"),
        ({"two words": "1 B"}, "two words: a unit's name is a letter"),
        ({"a": "0 B"}, "a: a unit is more than zero and finite, not '0 B'"),
        ({"a": "-1 B"}, "a: a unit is more than zero and finite, not '-1 B'"),
        ({"a": "1e999 B"}, "a: a unit is more than zero and finite"),
        ({"a": "much"}, "a: should be a number and a unit"),
    ],
)
def test_a_unit_that_leads_nowhere_is_refused_by_name(own: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Units(own)
    assert str(caught.value).splitlines()[0].startswith(message)


def test_every_wrong_unit_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        Units({"a": "1 x", "b": "1 kB", "c": "1 y"})
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == ["a", "c"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1], "f: bytes: should be a number, a text such as '1.89 Mbit', or quantiles p50, p90, p99, not [1]"),
        (True, "f: bytes: should be a number, a text"),
        (None, "f: bytes: should be a number, a text"),
        (-1, "f: bytes: input should be greater than or equal to 0, not -1"),
        (float("inf"), "f: bytes: input should be a finite number, not inf"),
        ({"p50": 1, "p90": 2}, "f: bytes.p99: is missing"),
        ({"p50": 1, "p90": 2, "p99": "x"}, "f: bytes.p99: input should be a valid number, not 'x'"),
        (
            {"p50": 1, "p90": 2, "p95": 3, "p99": 3},
            "f: bytes.p95: unknown key; did you mean 'p99'? (known: p50, p90, p99)",
        ),
    ],
)
def test_in_a_file_the_key_is_named_and_only_the_form_that_was_meant(value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Holder, {"bytes": value}, "f")
    (line,) = str(caught.value).splitlines()
    assert line.startswith(message)


def test_in_a_list_too() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(Holder, {"bytes": 1, "more": [1, {"p50": 1, "p90": 2, "p98": 3}]}, "f")
    assert "f: more.1.p98: unknown key" in str(caught.value)
