"""Costs: tables are interpolated, and refused where they are broken or belong to something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skyfog_core.errors import ConfigError
from skyfog_inference.cost.flat import FlatCost
from skyfog_inference.cost.step import StageTimes, layer_ms, step_ms
from skyfog_inference.cost.table import Line, Plane, load_table, rising
from skyfog_inference.request import Place, Sequence
from skyfog_inference.scheduler.base import Chunk, Step, SubBatch, Swap

LINE = {"at": [1, 10], "ms": [1.0, 4.0]}
STAGES: dict[str, Any] = {
    "machine": "a machine",
    "model": "tiny",
    "dtype": "float32",
    "device_threads": 1,
    "host_threads": 1,
    "layers": 2,
    "launch_ms": 0.1,
    "linear": LINE,
    "prefill": LINE,
    "device_decode": LINE,
    "host_decode": {"sequences": [1, 3], "tokens": [10, 30], "ms": [[1.0, 2.0], [3.0, 6.0]]},
    "swap": LINE,
    "other": LINE,
}


def write(folder: Path, **changes: Any) -> Path:
    """A profile whose section differs from STAGES in `changes`."""
    path = folder / "profile.json"
    path.write_text(json.dumps({"stages": {**STAGES, **changes}}))
    return path


def test_a_line_is_linear_between_its_points_and_beyond_and_flat_below() -> None:
    line = Line(at=(2, 4, 8), ms=(1.0, 3.0, 5.0))
    assert [line(n) for n in (0, 1, 2, 3, 4, 6, 8, 12)] == [0.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0]


def test_one_point_is_a_constant() -> None:
    assert [Line(at=(4,), ms=(2.0,))(n) for n in (0, 1, 4, 9)] == [0.0, 2.0, 2.0, 2.0]


def test_a_plane_is_bilinear() -> None:
    plane = Plane(sequences=(1, 3), tokens=(10, 30), ms=((1.0, 2.0), (3.0, 6.0)))
    assert plane(0, 0) == 0.0
    assert plane(1, 10) == 1.0
    assert plane(3, 30) == 6.0
    assert plane(2, 20) == pytest.approx((1.0 + 2.0 + 3.0 + 6.0) / 4)
    assert plane(5, 10) == pytest.approx(5.0)
    assert plane(1, 50) == pytest.approx(3.0)


def test_a_written_table_is_read_again(tmp_path: Path) -> None:
    table = load_table(write(tmp_path), model="tiny", dtype="float32")
    assert table.layers == 2
    assert table.linear_ms(10) == table.swap_ms(10) == table.other_ms(10) == table.prefill_ms(10) == 4.0
    assert table.device_decode_ms(1) == 1.0
    assert table.host_decode_ms(3, 10) == 3.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"linear": {"at": [1, 2], "ms": [2.0, 1.0]}}, "more work should never take less time"),
        ({"linear": {"at": [2, 2], "ms": [1.0, 1.0]}}, "should rise"),
        ({"linear": {"at": [1, 2], "ms": [1.0]}}, "1 times for 2 points"),
        ({"linear": {"at": [], "ms": []}}, "linear.at"),
        ({"linear": {"at": [1], "ms": [-1.0]}}, "linear.ms.0"),
        ({"host_decode": {"sequences": [1, 2], "tokens": [1], "ms": [[2.0], [1.0]]}}, "less time"),
        ({"host_decode": {"sequences": [1, 2], "tokens": [1], "ms": [[2.0]]}}, "2 rows of 1"),
        ({"layers": 0}, "layers"),
        ({"surprise": 1}, "surprise"),
        ({"model": "other"}, "was measured for model other, not tiny"),
        ({"dtype": "bfloat16"}, "was measured for dtype bfloat16, not float32"),
    ],
)
def test_a_wrong_table_is_refused_with_file_and_fault(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_table(path, model="tiny", dtype="float32")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "no section 'stages'"), ("[]", "no section"), ("{", "Expecting"), ("\xff", "codec")],
)
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=message):
        load_table(path, model="tiny", dtype="float32")
    with pytest.raises(ConfigError, match="nowhere"):
        load_table(tmp_path / "nowhere", model="tiny", dtype="float32")


def test_noise_of_a_measurement_is_levelled_upwards() -> None:
    assert rising([1.0, 3.0, 2.0, 4.0]) == (1.0, 3.0, 3.0, 4.0)


def chunk(context: int, place: Place, count: int = 1) -> Chunk:
    """The last `count` tokens of a context."""
    sequence = Sequence("s", list(range(context)), context, 9, 0, computed=context - count)
    return Chunk(sequence, context - count, count, place, draws=True)


def test_a_step_of_two_batches_takes_what_the_paper_says() -> None:
    cost = FlatCost(
        layers=3, linear_base_ms=1.0, linear_token_ms=0.1, prefill_token_ms=0.2, device_token_ms=0.01,
        host_sequence_ms=0.5, host_token_ms=0.02, swap_token_ms=0.001, other_base_ms=7.0,
    )  # fmt: skip
    b0 = SubBatch((chunk(10, Place.DEVICE, 10),), (chunk(100, Place.DEVICE),), (chunk(50, Place.HOST),))
    b1 = SubBatch(host_decodes=(chunk(100, Place.HOST), chunk(100, Place.HOST)))
    first, second = StageTimes.of(cost, b0), StageTimes.of(cost, b1)
    assert first == StageTimes(1.0 + 1.2, 2.0, 1.0, 1.5)
    assert second == StageTimes(1.2, 0.0, 0.0, 5.0)
    assert layer_ms((first, second)) == max(2.2, 5.0) + max(1.2 + 3.0, 1.5)
    assert layer_ms((first, second), launch_ms=0.8) == 5.8 + 4.2
    assert layer_ms((first,)) == pytest.approx(2.2 + 3.0 + 1.5)
    swap = Swap(chunk(100, Place.HOST).sequence, Place.HOST, Place.DEVICE, (), ())
    assert step_ms(cost, Step((b0, b1), (swap,))) == pytest.approx(3 * (9.2 + 0.099) + 7.0)


def test_a_piece_of_a_prompt_takes_what_the_whole_takes_beyond_its_beginning() -> None:
    cost = FlatCost(prefill_token_ms=1.0)
    piece = SubBatch((chunk(30, Place.DEVICE, 10),))
    assert StageTimes.of(cost, piece).prefill == 10.0
