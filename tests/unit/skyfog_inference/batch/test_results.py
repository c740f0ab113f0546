"""A batch's output: whole lines, whatever happened before."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from skyfog_core.errors import ConfigError, ServiceFailed
from skyfog_core.units import S
from skyfog_inference.batch.results import Results


def answer(custom_id: str) -> dict[str, Any]:
    return {"custom_id": custom_id, "text": "tête \ud800"}


def test_answers_are_there_again(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for ids in (["a", "b"], ["c"]):
        results = Results(path)
        for each in ids:
            results.write(answer(each), 0)
        results.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [answer(each) for each in "abc"]
    results = Results(path)
    assert results.done == {"a", "b", "c"}
    results.close()


@pytest.mark.parametrize("torn", ['{"custom_id": "b"', '{"custom_id": "b"}', "\0\0\0"])
def test_a_torn_last_line_is_cut(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"custom_id": "a"}\n' + torn)
    results = Results(path)
    assert results.done == {"a"}
    results.write(answer("b"), 0)
    results.close()
    assert [json.loads(line)["custom_id"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("my notes\nand more")
    with pytest.raises(ConfigError, match="line 1 is no answer of a batch"):
        Results(path)
    assert path.read_text() == "my notes\nand more"


def test_two_batches_do_not_share_a_file(tmp_path: Path) -> None:
    results = Results(tmp_path / "out.jsonl")
    with pytest.raises(ConfigError, match="another batch writes it"):
        Results(tmp_path / "out.jsonl")
    results.close()
    Results(tmp_path / "out.jsonl").close()


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        Results(tmp_path / "none" / "out.jsonl")


def test_what_is_no_plain_file_is_refused_and_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), Path("/dev/full"), tmp_path / "pipe"):
        with pytest.raises(ConfigError, match="should be a plain file"):
            Results(path)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.jsonl"
    results = Results(path)
    results.write(answer("a"), 0)
    real, calls = os.pwrite, []

    def full(file: int, data: bytes, offset: int) -> int:
        calls.append(offset)
        if len(calls) == 1:
            return real(file, data[:5], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(ServiceFailed, match="No space left on device; the 1 answers in it are whole"):
            results.write(answer("b"), 0)
    assert len(path.read_text().splitlines()) == 1
    results.write(answer("b"), 0)  # there is room again
    results.close()
    assert [json.loads(line)["custom_id"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_the_disk_is_asked_once_a_second_to_keep_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    results = Results(tmp_path / "out.jsonl")
    for index, now_ns in enumerate([0, S, S + 1, 2 * S - 1, 2 * S]):
        results.write(answer(str(index)), now_ns)
    assert len(synced) == 2
    results.close()
    assert len(synced) == 3
