from dataclasses import replace

import pytest

from skyfog_inference.cost.hrm import Level, Machine
from skyfog_inference.cost.machines import MIXTRAL_8X7B
from skyfog_inference.cost.roofline import Efficiency, RooflineCost

DENSE = replace(MIXTRAL_8X7B, experts=0, experts_per_token=0)
MACHINE = Machine("m", Level("d", 100e12, 1e12, 24e9), Level("h", 1e12, 100e9, 64e9), link=10e9)
IDEAL = Efficiency(1, 1, 1, 1, 1, launch_ms=0, step_ms=0)
NUMBERS = 2 * 4_096 * (4_096 + 1_024) + 3 * 4_096 * 14_336  # weights of a layer


def test_few_tokens_wait_for_weights_and_many_for_the_processor() -> None:
    cost = RooflineCost(DENSE, MACHINE, IDEAL)
    assert cost.linear_ms(0) == 0
    assert cost.linear_ms(1) == cost.linear_ms(50) == pytest.approx(1e3 * 2 * NUMBERS / 1e12)
    assert cost.linear_ms(1_000) == pytest.approx(1e3 * 2 * NUMBERS * 1_000 / 100e12)


def test_attention_reads_the_cache_where_it_is() -> None:
    cost = RooflineCost(DENSE, MACHINE, IDEAL)
    assert cost.device_decode_ms(1_000) == pytest.approx(1e3 * 4_096 * 1_000 / 1e12)
    assert cost.host_decode_ms(3, 1_000) == pytest.approx(1e3 * 4_096 * 1_000 / 100e9)
    assert cost.swap_ms(1_000) == pytest.approx(1e3 * 4_096 * 1_000 / 10e9)


def test_a_layer_is_never_faster_than_its_launch() -> None:
    cost = RooflineCost(DENSE, MACHINE, replace(IDEAL, launch_ms=5.0))
    assert cost.linear_ms(1) == 5
    assert cost.linear_ms(10_000) > 5


def test_two_devices_halve_what_they_share() -> None:
    one, two = (RooflineCost(DENSE, MACHINE, IDEAL, devices) for devices in (1, 2))
    for stage in ("linear_ms", "prefill_ms", "device_decode_ms", "swap_ms"):
        assert getattr(two, stage)(512) == pytest.approx(getattr(one, stage)(512) / 2)
    assert two.host_decode_ms(1, 512) == one.host_decode_ms(1, 512)
