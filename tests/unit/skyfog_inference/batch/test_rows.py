"""A batch's input: two forms, one meaning; what is no row is named by its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from skyfog_core.errors import ConfigError, InvalidRequest
from skyfog_inference.batch.rows import MOST_TOLD, check, rows
from skyfog_inference.server.protocol import ChatRequest, CompletionRequest

HI = [{"role": "user", "content": "Hi"}]


def write(folder: Path, *lines: Any) -> Path:
    path = folder / "in.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_rows_are_plain_or_openai(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"custom_id": "a", "prompt": "Once", "max_tokens": 3},
        "",
        {"custom_id": "b", "messages": HI},
        {"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"prompt": "x", "model": "m"}},
        {"custom_id": "d", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": HI}},
    )
    assert check(path) == {"a": 1, "b": 3, "c": 4, "d": 5}
    kinds = [type(row.request()) for row in rows(path)]
    assert kinds == [CompletionRequest, ChatRequest, CompletionRequest, ChatRequest]
    assert [row.custom_id for row in rows(path, done={"a", "c"})] == ["b", "d"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not JSON"),
        ("[" * 5_000, "is not JSON"),
        ("3", "should be a JSON object, not int"),
        ({"prompt": "x"}, "custom_id: should be a text"),
        ({"custom_id": 3, "prompt": "x"}, "custom_id: should be a text"),
        ({"custom_id": "a", "url": "/v1/embeddings", "body": {}}, "url: should be POST to /v1/completions"),
        ({"custom_id": "a", "url": "/v1/completions", "method": "GET", "body": {}}, "not GET"),
        ({"custom_id": "a", "url": "/v1/completions", "body": 3}, "body: should be a JSON object"),
        ({"custom_id": "a", "url": "/v1/completions", "body": {}, "priority": 3}, "priority: unknown"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: Any, message: str) -> None:
    path = write(tmp_path, {"custom_id": "ok", "prompt": "x"}, line)
    with pytest.raises(ConfigError, match=f"in.jsonl: line 2: .*{message}"):
        check(path)


def test_an_id_that_is_given_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    path = write(tmp_path, {"custom_id": "a", "prompt": "x"}, {"custom_id": "a", "prompt": "y"})
    with pytest.raises(ConfigError, match="line 2: custom_id 'a' is that of line 1 too"):
        check(path)


def test_many_wrong_lines_are_counted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="and 5 more") as raised:
        check(write(tmp_path, *["x"] * (MOST_TOLD + 5)))
    assert len(str(raised.value).splitlines()) == MOST_TOLD + 1


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        check(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x", "n": 2}, "n: should be 1 in a batch"),
        ({"prompt": ["x", "y"]}, "prompt: should be one text in a batch"),
        ({"prompt": "x", "max_tokens": 1.5}, "max_tokens: "),
        ({}, "prompt: is missing"),
    ],
)
def test_what_a_row_asks_wrongly_is_its_own_failure(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path, {"custom_id": "a", **row})
    check(path)
    with pytest.raises(InvalidRequest, match=message):
        next(rows(path)).request()
