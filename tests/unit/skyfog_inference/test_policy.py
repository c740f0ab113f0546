from __future__ import annotations

from dataclasses import replace

import pytest

from skyfog_core.errors import ConfigError
from skyfog_inference.cost.hrm import Level, Machine
from skyfog_inference.cost.machines import GB, L4, MIXTRAL_8X7B
from skyfog_inference.placement.policy import Limits, Workload, evaluate, search


@pytest.mark.parametrize(
    ("generated", "micro_batch", "count"), [(32, 324, 14), (64, 228, 16), (128, 164, 16), (256, 132, 12)]
)
def test_published_policies_of_the_l4_come_out_exactly(generated: int, micro_batch: int, count: int) -> None:
    policy = search(L4, MIXTRAL_8X7B, Workload(77, generated))
    assert (policy.micro_batch, policy.micro_batches) == (micro_batch, count)
    assert not policy.gpu_attention
    assert policy.gpu_experts
    assert policy.cache_on_gpu == 0


def test_predicted_figures_of_the_published_policy() -> None:
    policy = search(L4, MIXTRAL_8X7B, Workload(77, 32))
    assert policy.batch == 4_536
    assert policy.bound == "link"
    assert policy.weights_on_gpu == pytest.approx(0.0559, rel=0.01)
    assert policy.step_s == pytest.approx(4.957, rel=0.001)
    assert policy.decode_tokens_per_s(32) == pytest.approx(944.66, rel=0.001)


def test_a_published_size_of_the_padded_runs_lies_on_the_same_grid() -> None:
    # Table 4, synthetic reasoning padded to 256 on the L4: 100 x 15; the count of ours is 16.
    policy = search(L4, MIXTRAL_8X7B, Workload(256, 50))
    assert policy.micro_batch == 100
    assert abs(policy.micro_batches - 15) <= 1


def test_no_other_size_is_better_than_the_one_found() -> None:
    work = Workload(77, 32)
    best = search(L4, MIXTRAL_8X7B, work)
    for micro_batch in range(4, 500, 32):
        for count in range(1, 40):
            policy = evaluate(L4, MIXTRAL_8X7B, work, micro_batch, count)
            assert policy is None or policy.tokens_per_s <= best.tokens_per_s


def test_a_machine_that_holds_everything_moves_nothing() -> None:
    big = replace(L4, device=replace(L4.device, memory=400 * GB), host=replace(L4.host, bandwidth=1 * GB))
    policy = search(big, MIXTRAL_8X7B, Workload(77, 32))
    assert policy.gpu_attention
    assert policy.weights_on_gpu == policy.cache_on_gpu == 1
    assert policy.link_s == policy.cpu_s == 0


def test_attention_moves_to_the_gpu_where_the_link_outruns_the_cpu() -> None:
    # Section 6.3: two A100 and a faster and faster link; attention of a slow CPU does not pay.
    device = Level("2 A100", 624e12, 4_078 * GB, 160 * GB)
    slow = Machine("slow CPU", device, Level("CPU", 0.16e12, 10 * GB, 200 * GB), link=500 * GB)
    assert search(slow, MIXTRAL_8X7B, Workload(512, 32)).gpu_attention


def test_a_few_requests_are_a_small_batch() -> None:
    policy = search(L4, MIXTRAL_8X7B, Workload(77, 32), Limits(first=1, step=1, requests=10))
    assert policy.batch <= 10


def test_a_disk_computes_nothing() -> None:
    here = Machine(
        "two cores", Level("cores", 4e11, 30 * GB, 2 * GB), Level("disk", 0, 1.5 * GB, 60 * GB), link=1.5 * GB
    )
    small = replace(MIXTRAL_8X7B, hidden_size=1_024, intermediate_size=3_584, layers=20, heads=16, head_dim=64)
    policy = search(here, small, Workload(64, 32), Limits(first=8, step=8, requests=256))
    assert policy.gpu_attention
    assert policy.gpu_experts
    assert policy.cpu_s == 0
    assert 0 < policy.weights_on_gpu < 1
    assert policy.cache_on_gpu == 1
    assert policy.link_s == pytest.approx((1 - policy.weights_on_gpu) * 8 * 3 * 1_024 * 3_584 * 2 / 1.5e9)


def test_what_fits_is_found_at_every_size_of_memory() -> None:
    # Experts take all that is left: computed anew, that could come to a little less than nothing.
    for memory in range(20_000_000_000, 30_000_000_000, 49_999_999):
        here = Machine("here", Level("cores", 250e9, 15 * GB, memory), Level("disk", 0, 3 * GB, 200 * GB), link=3 * GB)
        policy = evaluate(here, MIXTRAL_8X7B, Workload(32, 8), 8, 2, gpu_attention=True)
        assert policy is not None
        assert 0 < policy.weights_on_gpu < 1


def test_what_fits_nowhere_is_said() -> None:
    tiny = replace(L4, host=replace(L4.host, memory=20 * GB))
    with pytest.raises(ConfigError, match=r"Mixtral-8x7B with 77 \+ 32 tokens does not fit in 24 GB \(L4\), 20 GB"):
        search(tiny, MIXTRAL_8X7B, Workload(77, 32))
