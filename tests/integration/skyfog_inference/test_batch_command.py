"""`skyfog infer batch` as a process: whatever ends it, the same command goes on; no answer is lost or twice."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from skyfog_inference.runner.base import StepOutput
from skyfog_inference.runner.single import SingleRunner
from skyfog_inference.scheduler.base import Step
from support.faces import CLI, environment, infer
from support.processes import Process, Processes, wait_until

LIMIT_S = 120.0
SMALL = ("--threads", "1", "--device-kv-mb", "2", "--set", "engine.max_sequences=8")


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    with Processes(tmp_path) as made:
        yield made


def write_rows(folder: Path, count: int, **fields: Any) -> Path:
    path = folder / "in.jsonl"
    given = {"max_tokens": 60, "ignore_eos": True, **fields}
    rows = [{"custom_id": f"row-{n}", "prompt": f"Number {n} is", "seed": n, **given} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def start(processes: Processes, tiny: Path, rows: Path, out: Path, *words: str) -> Process:
    return infer(processes, "batch", "batch", str(rows), str(out), "--model", str(tiny), *SMALL, *words)


def answers(path: Path) -> dict[str, Any]:
    """By custom_id; each there once, every line whole."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    by_id = {each["custom_id"]: each for each in found}
    assert len(by_id) == len(found)
    return by_id


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_killed_and_an_interrupted_run_go_on_and_give_the_answers_of_a_run_in_one_go(
    processes: Processes, tiny: Path, tmp_path: Path
) -> None:
    rows, out, straight = write_rows(tmp_path, 80), tmp_path / "out.jsonl", tmp_path / "straight.jsonl"
    for number, status in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)):
        before = lines(out)
        running = start(processes, tiny, rows, out)
        wait_until("some answers", lambda: lines(out) >= before + 10, LIMIT_S)  # noqa: B023  # read at once
        running.signal(number)
        assert running.exit_status(LIMIT_S) == status
        assert lines(out) < 80
    assert "are left; the same command goes on" in running.output
    with out.open("a") as file:
        file.write('{"custom_id": "row-')  # torn
    first = answers_without_torn(out)
    last = start(processes, tiny, rows, out)
    assert last.exit_status(LIMIT_S) == 0
    assert f"{len(first)} of 80 are answered already" in last.output
    found = answers(out)
    assert len(found) == 80
    assert first.items() <= found.items()
    assert start(processes, tiny, rows, straight).exit_status(LIMIT_S) == 0
    texts = {name: each["text"] for name, each in answers(straight).items()}
    assert {name: each["text"] for name, each in found.items()} == texts
    nothing = start(processes, tiny, rows, out)
    assert nothing.exit_status(LIMIT_S) == 0
    assert "80 of 80 are answered already" in nothing.output


def answers_without_torn(path: Path) -> dict[str, Any]:
    return {each["custom_id"]: each for each in map(json.loads, path.read_text().splitlines()[:-1])}


def test_a_wrong_row_has_an_error_and_the_others_an_answer(
    here: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    rows = tmp_path / "in.jsonl"
    hi = [{"role": "user", "content": "Hi"}]
    asked: list[dict[str, Any]] = [
        {"custom_id": "plain", "prompt": "Once", "max_tokens": 4, "ignore_eos": True, "logprobs": 1},
        {"custom_id": "none", "prompt": "Once", "max_tokens": 0},
        {"custom_id": "nan", "prompt": "Once", "temperature": float("nan")},
        {"custom_id": "long", "prompt": "x" * 300},
        {"custom_id": "chat", "messages": hi, "max_tokens": 4, "ignore_eos": True},
        {"custom_id": "openai", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": hi, "n": 2}},
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in asked))
    run = here("batch", rows, tmp_path / "out.jsonl", "--model", tiny, *SMALL)
    assert run.exit_code == 1
    assert "2 answered, 4 failed, 8 tokens" in run.output
    found = answers(tmp_path / "out.jsonl")
    assert found["plain"]["usage"] == {
        "prompt_tokens": 4,
        "completion_tokens": 4,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert (found["plain"]["finish_reason"], len(found["plain"]["logprobs"])) == ("length", 4)
    assert "logprobs" not in found["chat"]
    assert {name: each["error"]["param"] for name, each in found.items() if "error" in each} == {
        "none": "max_tokens",
        "nan": "temperature",
        "long": "prompt",
        "openai": "n",
    }


def test_steps_that_fail_cost_no_row_its_answer(
    here: Callable[..., Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, out, straight = write_rows(tmp_path, 12, max_tokens=4), tmp_path / "out.jsonl", tmp_path / "straight.jsonl"
    assert here("batch", rows, straight, "--model", tiny, *SMALL).exit_code == 0
    execute, steps = SingleRunner.execute, list[Step | None]()

    def failing(runner: SingleRunner, step: Step) -> StepOutput:
        steps.append(step)
        if len(steps) == 3 or 8 <= len(steps) < 1_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return execute(runner, step)

    monkeypatch.setattr(SingleRunner, "execute", failing)
    run = here("batch", rows, out, "--model", tiny, *SMALL)
    left = 12 - lines(out)
    assert 0 < left < 12
    assert run.exit_code == 1
    assert f"{left} failed twice by no fault of theirs: OSError: [Errno 5] Input/output error" in run.output
    assert f"{left} of 12 are left; the same command goes on with them" in run.output
    steps += [None] * 1_000  # the disk is well again
    assert here("batch", rows, out, "--model", tiny, *SMALL).exit_code == 0
    assert answers(out) == answers(straight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"custom_id": "a", "prompt": "x"}\n{\n', "in.jsonl: line 2: is not JSON"),
        ('{"custom_id": "a", "prompt": "x"}\n' * 2, "line 2: custom_id 'a' is that of line 1 too"),
    ],
)
def test_a_file_that_is_no_batch_is_refused_before_anything_runs(
    processes: Processes, tiny: Path, tmp_path: Path, text: str, message: str
) -> None:
    rows = tmp_path / "in.jsonl"
    rows.write_text(text)
    run = start(processes, tiny, rows, tmp_path / "out.jsonl")
    assert run.exit_status(LIMIT_S) == 2
    assert message in run.output
    assert not (tmp_path / "out.jsonl").exists()


def test_a_disk_that_is_full_ends_the_run_and_keeps_what_is_written(
    processes: Processes, tiny: Path, tmp_path: Path
) -> None:
    rows, out = write_rows(tmp_path, 40), tmp_path / "out.jsonl"
    words = [str(rows), str(out), "--model", str(tiny), "--threads", "1", "--device-kv-mb", "2"]
    limited = 'ulimit -f 8; exec "$0" -c "$@"'  # no file above 8 KB: a write is cut in the middle of a line
    run = processes.start("full", "bash", "-c", limited, sys.executable, CLI, "batch", *words, env=environment())
    assert run.exit_status(LIMIT_S) == 1
    assert "File too large" in run.output
    assert "the same command goes on from there" in run.output
    kept = answers(out)
    assert 0 < len(kept) < 40


def test_a_model_that_is_packed_gives_the_same_answers_from_disk(
    here: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    rows, out, streamed = write_rows(tmp_path, 20), tmp_path / "out.jsonl", tmp_path / "streamed.jsonl"
    packed, profile = tmp_path / "packed", tmp_path / "machine.json"
    level = {"name": "cpu", "flops": 1e11, "bandwidth": 2e10, "memory": 8e9}
    profile.write_text(json.dumps({"machine": {"name": "m", "device": level, "host": level, "link": 1e9}}))
    assert here("pack", tiny, packed).exit_code == 0
    assert here("batch", rows, out, "--model", tiny, *SMALL).exit_code == 0
    offload = ("--offload", 8_000, "--profile", profile)
    run = here("batch", rows, streamed, "--model", packed, *offload)
    assert run.exit_code == 0, run.output
    assert "predicted" in run.output
    assert "of predicted" in run.output
    assert "policy: order S1, N=" in run.output
    in_pieces = tmp_path / "pieces.jsonl"
    assert "policy: order S3, N=" in here("batch", rows, in_pieces, "--model", packed, *offload, "--order", "s3").output
    texts = [{name: each["text"] for name, each in answers(path).items()} for path in (out, streamed, in_pieces)]
    assert texts[0] == texts[1] == texts[2]
    beyond = here("batch", rows, tmp_path / "no.jsonl", "--model", packed, *offload, "--set", "engine.max_context=9999")
    assert beyond.exit_code == 2
    assert "max_context: should be at most the model's 256, not 9999" in beyond.output
    not_packed = here("batch", rows, tmp_path / "no.jsonl", "--model", tiny, *offload)
    assert not_packed.exit_code == 2
    assert "is not packed for streaming: skyfog infer pack" in not_packed.output
    no_order = here("batch", rows, tmp_path / "no.jsonl", "--model", packed, *offload, "--order", "S5")
    assert no_order.exit_code == 2
    assert "engine.order: " in no_order.output
    in_memory = here("batch", rows, tmp_path / "no.jsonl", "--model", tiny, "--order", "S2")
    assert in_memory.exit_code == 2
    assert "give --offload too" in in_memory.output
