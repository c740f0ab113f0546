from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skyfog_core.errors import ConfigError
from skyfog_inference.cost import plot
from skyfog_inference.cost.hrm import (
    Level,
    Machine,
    attainable,
    attention_intensity,
    balance_point,
    experts_intensity,
    first_turning_point,
    load_machine,
    local,
    machine_document,
    second_turning_point,
)
from skyfog_inference.cost.machines import L4_FIGURE_3, MIXTRAL_8X7B

SMALL = Machine("small", Level("gpu", 100.0, 50.0, 10.0), Level("cpu", 10.0, 8.0, 20.0), link=2.0)


def test_the_lowest_of_three_roofs_is_attainable() -> None:
    assert attainable(SMALL, device_intensity=10, host_intensity=100) == 100  # compute
    assert attainable(SMALL, device_intensity=1, host_intensity=100) == 50  # device memory
    assert attainable(SMALL, device_intensity=10, host_intensity=7) == 14  # link


def test_below_the_first_turning_point_the_host_is_the_faster_place() -> None:
    point = first_turning_point(SMALL)
    assert point == 5
    for intensity, moving_pays in ((0.9 * point, False), (1.1 * point, True)):
        assert (attainable(SMALL, 1e9, intensity) > local(SMALL.host, intensity)) is moving_pays


def test_where_the_link_is_as_fast_as_the_hosts_memory_moving_always_pays() -> None:
    assert first_turning_point(Machine("s", SMALL.device, SMALL.host, link=9.0)) == 0


def test_below_the_second_turning_point_the_link_bounds() -> None:
    point = second_turning_point(SMALL, device_intensity=1)
    assert point == 25 == balance_point(SMALL, device_intensity=1)
    assert attainable(SMALL, 1, 0.9 * point) < attainable(SMALL, 1, point) == attainable(SMALL, 1, 2 * point)


def test_case_study_of_the_l4() -> None:
    # Section 3.3: context 512, grouped queries: "for both float16 and int4 the operational intensity is ... smaller
    # than P1's". Figure 3 gives 100 and 32 GB/s, section 6.3 1.6 TFLOP/s; the points themselves are only drawn.
    half, four_bits = (attention_intensity(MIXTRAL_8X7B, size) for size in (2, 0.5))
    assert (half, four_bits) == (4, 16)
    assert first_turning_point(L4_FIGURE_3) == pytest.approx(50)
    assert four_bits < first_turning_point(L4_FIGURE_3)
    # Figure 5: experts with a kernel at micro-batches of 128, which is bound by the memory of the GPU.
    kernel = experts_intensity(MIXTRAL_8X7B, 128, 2)
    assert kernel == 32
    assert local(L4_FIGURE_3.device, kernel) == pytest.approx(9.6e12)
    point = second_turning_point(L4_FIGURE_3, kernel)
    assert point == pytest.approx(300) == balance_point(L4_FIGURE_3, kernel)
    # Reached at N = 1,200 tokens; "one or two prompts" are left of P1.
    assert experts_intensity(MIXTRAL_8X7B, 1_200, 2) == pytest.approx(point)
    assert experts_intensity(MIXTRAL_8X7B, 2, 2) < first_turning_point(L4_FIGURE_3)


def test_a_machine_survives_its_file(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"machine": machine_document(SMALL), "stages": {}}))
    assert load_machine(path) == SMALL


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("link", 0, "machine.link: should be a number above 0, not 0"),
        ("link", True, "machine.link"),
        ("device", None, "machine.device: this section is missing"),
        ("device", {"name": "d", "flops": 0, "bandwidth": 1, "memory": 1}, "machine.device.flops"),
        ("host", {"name": "h", "flops": -1, "bandwidth": 1, "memory": 1}, "machine.host.flops: .* at least 0"),
        ("host", {"name": "h", "flops": 0, "bandwidth": float("nan"), "memory": 1}, "machine.host.bandwidth"),
        ("name", 3, "machine.name: should be a text"),
    ],
)
def test_a_broken_profile_is_refused_with_file_and_key(tmp_path: Path, key: str, value: Any, says: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"machine": {**machine_document(SMALL), key: value}}))
    with pytest.raises(ConfigError, match=f"profile.json: {says}"):
        load_machine(path)


@pytest.mark.parametrize(("text", "says"), [("{", "is not JSON"), ("[]", "machine: this section is missing")])
def test_what_is_no_profile_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        load_machine(path)


def test_a_missing_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_machine(tmp_path / "none.json")


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    plot.draw(L4_FIGURE_3, {"float16": 4, "int4": 16}, tmp_path / "attention.png")
    plot.draw(L4_FIGURE_3, {"N=32": 8}, tmp_path / "experts.png", device_intensity=32)
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("attention.png", "experts.png"))
