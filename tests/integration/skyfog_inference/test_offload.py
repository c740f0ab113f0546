"""A packed model under a memory limit: the policy fits it, and the whole of it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from skyfog_core.errors import ConfigError
from skyfog_inference import offload
from skyfog_inference.cost.hrm import Level, Machine
from skyfog_inference.engine import Engine
from skyfog_inference.models.load import load
from skyfog_inference.placement.policy import Workload
from skyfog_inference.request import SamplingParams
from skyfog_inference.weights.pages import pack, read_index
from support.inference import generate_greedy, single_runner

Folders = Callable[[str], Path]
MACHINE = Machine("here", Level("cores", 1e11, 1e10, 1e9), Level("disk", 0, 1e9, 1e12), 1e9)
PROMPTS = [[5, 9, 200, 3], [7] * 20, [250], [1, 2, 3]]


@pytest.fixture(scope="module")
def packed(model_folder: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack(model_folder("mixtral-deep"), tmp_path_factory.mktemp("packed"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a tiny model the tests' own memory and the libraries' would hide that anything is bounded."""
    monkeypatch.setattr(offload, "own_bytes", lambda: 0)
    monkeypatch.setattr(offload, "SCRATCH", 0)


def _asked(folder: Path, more: float, requests: int = 4) -> offload.Asked:
    """Room for all but the experts, for two layers of them, and for a share of the rest."""
    _config, index = read_index(folder)
    layers = [sum(page.size for page in layer.experts) for layer in index.layers]
    fixed = index.top.size + sum(layer.attention.size for layer in index.layers) + 2 * max(layers)
    other = 500_000  # cache, prompts, logits
    return offload.Asked(int(fixed + more * sum(layers) + other), Workload(8, 6), requests)


@pytest.mark.parametrize("more", [0.0, 0.3])
def test_what_the_policy_says_fits_and_draws_the_same(
    packed: Path, model_folder: Folders, small: None, more: float
) -> None:
    asked = _asked(packed, more)
    made = offload.build(packed, MACHINE, asked)
    assert made.runner.weights.residency.bytes <= asked.memory
    assert 0 <= made.policy.weights_on_gpu < 1
    engine = Engine(made.scheduler, made.runner, vocab_size=made.config.vocab_size, context=64)
    streams = [engine.submit(prompt, SamplingParams(max_tokens=6, temperature=0)) for prompt in PROMPTS]
    while engine.turn():
        engine.check()
    model = load(str(model_folder("mixtral-deep")))
    assert [[event.token for event in stream] for stream in streams] == generate_greedy(
        single_runner(model.config, model.weights), PROMPTS, 6
    )
    assert "of predicted" in made.measured()
    assert f"order S1, N={made.policy.batch}" in made.predicted()
    engine.close()


def test_with_more_memory_all_are_done_sooner(packed: Path, small: None) -> None:
    config, index = read_index(packed)
    found = [
        offload.choose_policy(config, index, MACHINE, asked, asked.memory)
        for asked in (_asked(packed, more) for more in (0.0, 0.2, 0.5, 2.0))
    ]
    took = [offload.step_s(policy) * -(-4 // policy.batch) for policy in found]
    assert took == sorted(took, reverse=True)
    assert took[0] > took[-1]
    assert found[-1].weights_on_gpu == 1


def test_all_requests_run_at_once_where_they_fit(packed: Path, small: None) -> None:
    config, index = read_index(packed)
    asked = replace(_asked(packed, 0.5), requests=7)
    assert offload.choose_policy(config, index, MACHINE, asked, asked.memory).batch >= 7


def test_too_little_memory_is_said(packed: Path) -> None:
    room = offload.SCRATCH + 300_000
    with pytest.raises(ConfigError, match=r"with 8 \+ 6 tokens does not fit: .* 10[01] MB are left"):
        offload.choose_policy(*read_index(packed), MACHINE, _asked(packed, 0), room)


@pytest.mark.parametrize("requests", [1, 7, 5_000])
def test_any_number_of_requests_finds_a_policy(packed: Path, small: None, requests: int) -> None:
    asked = _asked(packed, 0.1, requests)
    policy = offload.choose_policy(*read_index(packed), MACHINE, asked, asked.memory)
    assert 1 <= policy.micro_batch <= policy.batch
