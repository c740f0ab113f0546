"""The engine with the scheduler neo: assembled from its configuration, with a table measured or read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from skyfog_core.config.inference import EngineConfig
from skyfog_core.errors import ConfigError
from skyfog_inference import assembly
from skyfog_inference.cost.table import SECTION, StageTable, load_table
from skyfog_inference.profile import write
from skyfog_inference.profile_neo import Grid, powers
from skyfog_inference.request import SamplingParams
from skyfog_inference.runner.base import StepOutput
from skyfog_inference.runner.pipeline import PipelineRunner
from skyfog_inference.scheduler.base import Step
from support.inference import VOCAB, reference

# A profile is measured in 6 s on a machine that does nothing else, and in ten times that on a busy one.
pytestmark = pytest.mark.timeout(400)

TINY = Grid(most_tokens=16, most_prompt=32, most_context=128, most_sequences=4, repeats=1)
NEW = 40
LIMIT_S = 60.0


def engine_config(folder: Path, **more: str | int) -> EngineConfig:
    # 128 blocks on the device, which 30 sequences of 100 tokens outgrow.
    return EngineConfig(
        model=str(folder), scheduler="neo", device_kv_mb=1, host_kv_mb=8, threads=1, host_threads=1, **more
    )  # type: ignore[arg-type]


def save(path: Path, table: StageTable) -> None:
    write(path, {SECTION: table.model_dump(mode="json")})


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(0, VOCAB, (60,), generator=generator).tolist() for _ in range(30)]


def test_a_profile_is_measured_written_and_read(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    said: list[str] = []
    config = engine_config(model_folder("llama-gqa"))
    table = assembly.profiled(config, TINY, said.append)
    assert len(said) == 6
    assert (table.layers, table.device_threads, table.host_threads, table.dtype) == (2, 1, 1, "float32")
    assert table.linear.at == (1, 2, 4, 8, 16)
    assert table.host_decode.sequences == (1, 4)
    assert min(*table.linear.ms, *table.prefill.ms, *table.swap.ms, *table.other.ms, table.launch_ms) > 0
    path = tmp_path / "profile.json"
    save(path, table)
    assert load_table(path, model=table.model, dtype="float32") == table


def test_the_engine_draws_what_transformers_does(
    model_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, theirs = model_folder("llama-gqa"), reference("llama-gqa")
    path = tmp_path / "profile.json"
    table = assembly.profiled(engine_config(folder), TINY, lambda _text: None)
    # A host that is free hides always, so that two batches run.
    free = table.host_decode.model_copy(update={"ms": tuple((0.0,) * len(row) for row in table.host_decode.ms)})
    save(path, table.model_copy(update={"host_decode": free, "launch_ms": 0.0}))
    asked, execute = threading.Event(), PipelineRunner.execute

    def once_all_are_asked(runner: PipelineRunner, step: Step) -> StepOutput:
        """Or the first would have ended before the last came, and all had room."""
        assert asked.wait(LIMIT_S)
        return execute(runner, step)

    monkeypatch.setattr(PipelineRunner, "execute", once_all_are_asked)
    with closing(assembly.serve(engine_config(folder, profile=str(path)))) as served:
        params = SamplingParams(max_tokens=NEW, temperature=0.0, ignore_eos=True)
        streams = [served.submit(prompt, params) for prompt in prompts()]
        asked.set()
        ours = [[event.token for event in stream if event.token is not None] for stream in streams]
        assert served.metrics().scheduler.preemptions > 0
    for prompt, tokens in zip(prompts(), ours, strict=True):
        whole = theirs.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)
        assert tokens == whole[0, len(prompt) :].tolist()


def test_neo_without_memory_on_the_host_is_refused(model_folder: Callable[[str], Path]) -> None:
    config = engine_config(model_folder("llama-gqa")).model_copy(update={"host_kv_mb": 0})
    with pytest.raises(ConfigError, match="host_kv_mb"):
        assembly.serve(config)
    with pytest.raises(ConfigError, match="host_kv_mb"):
        assembly.profiled(config, TINY, lambda _text: None)


def test_a_table_of_another_model_is_refused(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    table = assembly.profiled(engine_config(model_folder("llama-gqa")), TINY, lambda _text: None)
    path = tmp_path / "profile.json"
    save(path, table.model_copy(update={"model": "other"}))
    with pytest.raises(ConfigError, match="was measured for model other"):
        assembly.serve(engine_config(model_folder("llama-gqa"), profile=str(path)))


def test_the_points_of_a_grid_end_with_the_most() -> None:
    assert powers(1, 8) == (1, 2, 4, 8)
    assert powers(16, 100, by=4) == (16, 64, 100)
    assert powers(16, 4) == (4,)
