"""Whatever a file holds, a table comes out of it or a ConfigError; and distributions are what quantiles say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from skyfog_core.config.base import parse
from skyfog_core.config.quantities import BUILT_IN, Dimension, Quantiles, Units
from skyfog_core.config.uplink import UplinkTableSpec
from skyfog_core.errors import ConfigError
from skyfog_uplink.policy.formulate import Formulation
from skyfog_uplink.policy.tables import doubts, load_table, spread, table_of

FLOOR = {"model": "tiny", "accuracy": 0.3, "exec_ms": 40}
OPTION = {
    "name": "big",
    "model": "large",
    "accuracy": 0.6,
    "bytes": "0.8 Mbit",
    "exec_ms": {"p50": 20, "p90": 25, "p99": 30},
}
SERVICE = {"cloud": "/detect", "type": "a/srv/B", "rate_hz": 10, "slo_ms": 150, "floor": FLOOR, "options": [OPTION]}
WHOLE = {
    "name": "t",
    "source": "test",
    "units": {"frame": "3 row", "row": "10 kB"},
    "services": {"front": SERVICE, "left": {"like": "front", "weight": 2}},
    "scenes": {"night": {"above_mps": 3, "weights": {"left": 2}}},
}
WORDS = ["front", "left", "1 kB", "2 frame", "5 ms", "1 x", "-1 B", "", "none", "jpeg", "frame", "like", "p50", "bytes"]
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=8), st.dates()
)
keys = st.one_of(st.sampled_from([*WORDS, *SERVICE, *OPTION, *WHOLE]), st.text(max_size=5), st.integers(), st.none())
rubbish = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in nested tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here] + [path for key, inner in items for path in paths(inner, (*here, key))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


def read(values: Any) -> None:
    try:
        table = table_of(parse(UplinkTableSpec, values, "f"), "f")
    except ConfigError as error:
        refused = str(error)
    else:
        refused = "f: "
        doubts(table)
        assert not np.isnan(Formulation(table).exactly((10.0, 20.0, 30.0, 40.0)).needed_bps).any()
    assert refused.startswith("f: ")


@given(values=st.dictionaries(keys, rubbish, max_size=5))
def test_rubbish_gives_a_table_or_a_config_error(values: dict[Any, Any]) -> None:
    read(values)


@given(where=st.sampled_from(paths(WHOLE)[1:]), new=rubbish)
@settings(max_examples=300, deadline=None)
def test_a_table_with_rubbish_in_it_gives_a_table_or_a_config_error(where: tuple[Any, ...], new: Any) -> None:
    read(changed(WHOLE, where, new))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables") / "t.yaml"


@given(
    text=st.one_of(
        st.text(max_size=80),
        st.text("{}[]:,-&*!?|>'\"%@` \nab01.#<~", max_size=60),
        rubbish.map(lambda value: yaml.safe_dump(value, allow_unicode=True)),
    )
)
def test_any_file_gives_a_table_or_a_config_error(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except UnicodeEncodeError:  # half of a pair of surrogates: no file can hold it
        return
    with pytest.raises(ConfigError, match=r"t\.yaml: "):
        load_table(file)


@given(p50=st.floats(0, 1e6), rise=st.floats(0, 1e6), tail=st.floats(0, 1e6))
def test_a_spread_keeps_its_quantiles_and_never_falls(p50: float, rise: float, tail: float) -> None:
    quantiles = Quantiles(p50=p50, p90=p50 + rise, p99=p50 + rise + tail)
    amount = spread(quantiles)
    for share, value in ((0.5, quantiles.p50), (0.9, quantiles.p90), (0.99, quantiles.p99)):
        assert amount.quantile(share) == pytest.approx(value, rel=1e-9, abs=1e-9)
    assert sum(amount.weights) == pytest.approx(1.0)


@given(number=st.floats(1e-3, 10), unit=st.sampled_from(sorted(BUILT_IN)))
def test_a_unit_of_one_s_own_is_what_it_says(number: float, unit: str) -> None:
    dimension, size = BUILT_IN[unit]
    units = Units({"mine": f"{number!r} {unit}"})
    assert units.amount("2 mine", dimension) == pytest.approx(2 * number * size)
    other = Dimension.TIME if dimension is Dimension.DATA else Dimension.DATA
    with pytest.raises(ConfigError, match="mine"):
        units.amount("2 mine", other)
