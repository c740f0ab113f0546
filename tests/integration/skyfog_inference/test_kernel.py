"""The C++ kernel: built when first needed, the same to the bit in any batch and on any threads, and never a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog
import torch

from skyfog_inference.attention import build
from skyfog_inference.attention.base import Rows
from skyfog_inference.attention.choose import choose
from skyfog_inference.attention.cpu import CpuAttention
from skyfog_inference.attention.torch import TorchAttention
from support.attention import Batch, drawn

ISAS = build.usable_isas()
CPU = torch.device("cpu")
BUILD_LIMIT_S = 100
BUILDER = """
import sys
sys.path.insert(0, sys.argv[1])
from skyfog_inference.attention.build import library
print(library("portable"))
"""


def long_batch(**changes: Any) -> Batch:
    fields: dict[str, Any] = {"heads": 8, "kv_heads": 2, "head_dim": 64} | changes
    return drawn([2100, 40, 700], [1, 1, 9], **fields)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_do_not_change_a_bit(isa: str, dtype: torch.dtype) -> None:
    batch = long_batch(query_type=dtype, cache_type=dtype)
    alone = batch.run(CpuAttention(1, isa))
    for threads in (2, 3, 4):
        assert torch.equal(batch.run(CpuAttention(threads, isa)), alone)


@pytest.mark.parametrize("isa", ISAS)
def test_a_sequence_is_the_same_to_the_bit_alone_and_token_by_token(isa: str) -> None:
    attention = CpuAttention(1, isa)
    batch = long_batch()
    together = batch.run(attention)
    tables, lengths = batch.rows.tables, batch.rows.lengths.tolist()
    for back in range(9):  # the queries of the last sequence
        length = torch.tensor([lengths[2] - 8 + back], dtype=torch.int32)
        rows = Rows(torch.tensor([0, 1], dtype=torch.int32), length, tables[2:])
        single = replace(batch, query=batch.query[2 + back : 3 + back], rows=rows)
        assert torch.equal(single.run(attention)[0], together[2 + back])


CRAMPED = """
import resource
import sys
sys.path[:0] = sys.argv[1:]
from skyfog_inference.attention.cpu import CpuAttention
from support.attention import drawn
batch, attention = drawn([4096], [256], 64, 1, 16), CpuAttention(1)
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (8 << 20), now + (8 << 20)))
batch.run(attention)
"""


def test_a_long_prompt_needs_little_memory_beside_the_cache() -> None:
    """Its splits find 18 MB together, of which one thread holds half a megabyte at a time."""
    folders = [str(Path(build.__file__).parents[2]), str(Path(__file__).parents[2])]
    done = subprocess.run(
        [sys.executable, "-c", CRAMPED, *folders],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_no_batch_is_no_work() -> None:
    batch = long_batch()
    rows = Rows(torch.zeros(1, dtype=torch.int32), torch.zeros(0, dtype=torch.int32), batch.rows.tables[:0])
    assert replace(batch, query=batch.query[:0], rows=rows).run(CpuAttention(1)).shape == (0, 8, 64)


def wrong_table(batch: Batch) -> Batch:
    tables = batch.rows.tables.clone()
    tables[0, 5] = len(batch.keys)
    return replace(batch, rows=replace(batch.rows, tables=tables))


def longer(batch: Batch) -> Batch:
    return replace(batch, rows=replace(batch.rows, lengths=batch.rows.lengths + 100_000))


def too_many_queries(batch: Batch) -> Batch:
    lengths = batch.rows.lengths.clone()
    lengths[2] = 3
    return replace(batch, rows=replace(batch.rows, lengths=lengths))


def starts_backwards(batch: Batch) -> Batch:
    starts = batch.rows.starts.clone()
    starts[1] = 40
    return replace(batch, rows=replace(batch.rows, starts=starts))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong_table, "beyond the cache"),
        (longer, "too short"),
        (too_many_queries, "more queries than"),
        (starts_backwards, "more queries than"),
        (lambda batch: replace(batch, query=batch.query[:-1]), "starts should go from 0 to the 10"),
        (lambda batch: replace(batch, query=batch.query[:, :7]), "do not share"),
        (lambda batch: replace(batch, query=batch.query.half()), "fp32 or bf16"),
        (lambda batch: replace(batch, keys=batch.keys.bfloat16()), "fp32 or bf16"),
        (lambda batch: replace(batch, keys=batch.keys[::2], values=batch.values[::2]), "contiguous"),
        (lambda batch: replace(batch, values=batch.values[1:]), "one shape"),
        (lambda batch: replace(batch, query=batch.query[..., :60]), "multiple of 16"),
        (lambda batch: replace(batch, query=batch.query.transpose(0, 1)[:8].transpose(0, 1)[..., :32]), "one shape"),
        (lambda batch: replace(batch, rows=replace(batch.rows, lengths=batch.rows.lengths.long())), "int32"),
        (lambda batch: replace(batch, rows=replace(batch.rows, tables=batch.rows.tables[:2])), "same sequences"),
    ],
)
def test_what_does_not_fit_is_refused(change: Any, message: str) -> None:
    batch = change(long_batch())
    with pytest.raises(ValueError, match=message):
        batch.run(CpuAttention(1))


def test_a_head_dim_over_the_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="up to 256, not 272"):
        drawn([4], [1], 2, 1, 272).run(CpuAttention(1))


def test_two_processes_build_at_once(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"  # writes in two steps, so that what is read between them is half of it
    compiler.write_text('#!/bin/sh\nfor last; do :; done\necho one >"$last"\necho two >>"$last"\n')
    compiler.chmod(0o755)
    caches = tmp_path / "cache"
    environment = os.environ | {"XDG_CACHE_HOME": str(caches), "AMENT_PREFIX_PATH": "", "CXX": str(compiler)}
    source = str(Path(build.__file__).parents[2])
    builders = [
        subprocess.Popen([sys.executable, "-c", BUILDER, source], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = {builder.communicate(timeout=BUILD_LIMIT_S)[0].strip() for builder in builders}
    assert [builder.returncode for builder in builders] == [0, 0]
    (path,) = answers
    assert Path(path).read_text() == "one\ntwo\n"
    assert [file.name for file in (caches / "skyfog/kernels").iterdir()] == [Path(path).name]


@pytest.fixture
def library() -> Path:
    try:
        return build.library(ISAS[0])
    except build.NoKernel as error:
        pytest.skip(str(error))


@pytest.fixture
def no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Neither an installed library nor one in the cache, and no compiler."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "install"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path


def test_torch_stands_in_where_there_is_no_compiler(no_library: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        assert isinstance(choose(CPU, torch.bfloat16), TorchAttention)
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("attention_without_kernel", "no C++ compiler (c++ or g++)")
    ]


def test_a_compiler_that_fails_is_quoted(no_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = no_library / "c++"
    compiler.write_text("#!/bin/sh\necho 'out of luck' >&2\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(build.NoKernel, match="out of luck"):
        build.library("portable")
    assert not list((no_library / "cache/skyfog/kernels").iterdir())


def test_a_library_that_was_installed_needs_no_compiler(library: Path, no_library: Path) -> None:
    installed = no_library / "install" / build.SHARE
    installed.mkdir(parents=True)
    (installed / library.name).symlink_to(library)
    assert build.library(ISAS[0]) == installed / library.name


def test_the_choice_goes_by_device_and_type() -> None:
    assert isinstance(choose(CPU, torch.float16), TorchAttention)
    assert isinstance(choose(torch.device("meta"), torch.bfloat16), TorchAttention)
    if build.compiler() is not None:
        assert isinstance(choose(CPU, torch.bfloat16), CpuAttention)
