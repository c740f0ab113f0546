"""The rows of a batch's input: one JSON object a line, in the plain form or in OpenAI's.

    {"custom_id": "a", "prompt": "Once", "max_tokens": 20}
    {"custom_id": "b", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0}
    {"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"prompt": "Once"}}

A file that is not of this form is refused before anything runs; a row that asks for what cannot be (max_tokens 0) only
fails by itself, later.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skyfog_core.errors import ConfigError, InvalidRequest
from skyfog_inference.server.protocol import ChatRequest, CompletionRequest, read

MOST_TOLD = 10  # wrong lines
MAX_ID = 512  # characters, as OpenAI's
URLS: dict[str, type[ChatRequest | CompletionRequest]] = {
    "/v1/completions": CompletionRequest,
    "/v1/chat/completions": ChatRequest,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One request of the file; `body` is as it stands there, not yet checked."""

    line: int  # from 1
    custom_id: str
    url: str
    body: Mapping[str, Any]

    def request(self) -> ChatRequest | CompletionRequest:
        """Raises InvalidRequest that names the field and what it may be."""
        asked: ChatRequest | CompletionRequest = read(URLS[self.url], self.body)
        if asked.choices > 1:
            raise InvalidRequest(f"n: should be 1 in a batch, not {asked.choices}: give each choice a row and a seed")
        if isinstance(asked, CompletionRequest) and len(asked.prompt) > 1:
            raise InvalidRequest(f"prompt: should be one text in a batch, not {len(asked.prompt)}: give each a row")
        return asked


def check(path: Path) -> dict[str, int]:
    """The line of each custom_id. Raises ConfigError that names every line which is no row, up to MOST_TOLD."""
    seen: dict[str, int] = {}
    wrong: list[str] = []
    for line, text in _lines(path):
        try:
            row = parse(line, text)
        except ConfigError as error:
            wrong.append(f"{path}: line {line}: {error}")
            continue
        first = seen.setdefault(row.custom_id, line)
        if first != line:
            wrong.append(f"{path}: line {line}: custom_id {row.custom_id!r} is that of line {first} too")
    if wrong:
        more = len(wrong) - MOST_TOLD
        raise ConfigError("\n".join([*wrong[:MOST_TOLD], *([f"{path}: … and {more} more"] if more > 0 else [])]))
    return seen


def rows(path: Path, done: Collection[str] = ()) -> Iterator[Row]:
    """Those of a checked file that are not `done`, in its order."""
    for line, text in _lines(path):
        row = parse(line, text)
        if row.custom_id not in done:
            yield row


def parse(line: int, text: bytes) -> Row:
    """One line as a row. Raises ConfigError that says what is wrong with it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"should be a JSON object, not {type(found).__name__}")
    custom_id = found.pop("custom_id", None)
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_ID:
        raise ConfigError(f"custom_id: should be a text of 1 to {MAX_ID} characters, not {str(custom_id)[:80]!r}")
    if "body" not in found and "url" not in found:
        return Row(line, custom_id, "/v1/chat/completions" if "messages" in found else "/v1/completions", found)
    body, url, method = found.pop("body", None), found.pop("url", None), found.pop("method", "POST")
    if url not in URLS or method != "POST":
        raise ConfigError(f"url: should be POST to {' or '.join(URLS)}, not {method} to {url!r}")
    if not isinstance(body, dict):
        raise ConfigError(f"body: should be a JSON object, not {type(body).__name__}")
    if found:
        raise ConfigError(f"{', '.join(found)}: unknown beside custom_id, method, url and body")
    return Row(line, custom_id, url, body)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers. Raises ConfigError where the file cannot be read."""
    try:
        with path.open("rb") as file:
            for number, text in enumerate(file, start=1):
                if text.strip():
                    yield number, text
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
