"""From text to tokens and back, and back piece by piece while a sequence is still growing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from tokenizers import Tokenizer as Backend

from skyfog_core.errors import ConfigError, InvalidRequest, plain_reason
from skyfog_inference.models.chat import ChatTemplate, template_of
from skyfog_inference.models.config import ModelConfig

log = structlog.get_logger()

BROKEN = "\ufffd"  # what bytes decode to that are no whole character
MOST_PENDING = 64  # tokens that are held back in the hope that they become a character
LEAST_SHARE = 0.9  # of the embedding's rows have a token
PADDED = 512  # rows at most that are there for a round number
ONE_BYTE = re.compile("<0x([0-9A-F]{2})>")  # a token of Llama 2's

# Byte-level vocabularies write every byte as a letter, as GPT-2 did: what prints as itself, others from 256 on.
_PRINTED = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
_OTHERS = sorted(set(range(256)) - set(_PRINTED))
BYTE_OF = {chr(byte): byte for byte in _PRINTED} | {chr(256 + at): byte for at, byte in enumerate(_OTHERS)}


class Tokenizer:
    """A model's tokenizer. Safe to use from several threads."""

    def __init__(self, backend: Backend, chat: ChatTemplate | None = None, first: int | None = None) -> None:
        """first: a token before every text, where `backend` does not put it there by itself."""
        self._backend = backend
        self.chat = chat
        self._first = first

    def encode(self, text: str, special: bool = True) -> list[int]:
        """special: with what the model expects before a text (BOS), which a chat template writes by itself.

        Special tokens that are written out in the text are understood in either case. Raises InvalidRequest for half
        a surrogate pair, which JSON can hold and which is no character.
        """
        try:
            ids: list[int] = self._backend.encode(text, add_special_tokens=special).ids
        except TypeError:  # the library says that it is no str
            raise InvalidRequest("prompt: holds half of a surrogate pair, which is no character") from None
        return ids if self._first is None or not special else [self._first, *ids]

    def decode(self, tokens: Sequence[int], skip_special: bool = True) -> str:
        """Bytes that are no whole character become U+FFFD."""
        return str(self._backend.decode(list(tokens), skip_special_tokens=skip_special))

    def encode_chat(self, messages: Sequence[dict[str, Any]]) -> list[int]:
        """A conversation, up to where the answer begins. Raises InvalidRequest where the template refuses it."""
        return self.encode(ChatTemplate.render_of(self.chat, messages), special=False)

    def piece(self, token: int) -> str:
        """One token by itself, as logprobs show it."""
        return self.decode([token], skip_special=False)

    def piece_bytes(self, token: int) -> bytes:
        """Of one token by itself, where it is half a character too."""
        text = self.piece(token)
        if BROKEN not in text:
            return text.encode()
        raw = self._backend.id_to_token(token) or ""
        if byte := ONE_BYTE.fullmatch(raw):
            return bytes([int(byte[1], 16)])
        return bytes(BYTE_OF[letter] for letter in raw) if BYTE_OF.keys() >= set(raw) else text.encode()

    def id_of(self, piece: str) -> int | None:
        """Of a token by its text; None where there is none."""
        found: int | None = self._backend.token_to_id(piece)
        return found

    def stream(self, skip_special: bool = True) -> Detokenizer:
        """For one sequence."""
        return Detokenizer(self, skip_special)


class Detokenizer:
    """Text of a growing sequence: what `push` and `finish` return, put together, is what `decode` gives.

    Decoding token by token is wrong: a character's bytes may be spread over tokens, and a decoder may treat the first
    token in its own way (a leading space is dropped). So a window of tokens is decoded each time, which begins before
    what is new, and what it ends with is held back while it is no whole character.
    """

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special
        self._window: list[int] = []
        self._sent = 0  # characters of the window's text that are out
        self._fresh = 0  # tokens at the window's end since text last ended in a whole character

    def push(self, token: int) -> str:
        """The text that has become certain: often a word, sometimes nothing."""
        self._window.append(token)
        self._fresh += 1
        text = self._text()
        whole = text.rstrip(BROKEN)
        new = whole[self._sent :]
        if len(whole) == len(text) and new:
            self._keep(self._fresh)
        elif len(self._window) > MOST_PENDING:
            # These bytes never become characters; but the last of them may begin one.
            new = text[self._sent : -1] if text.endswith(BROKEN) else text[self._sent :]
            self._keep(MOST_PENDING // 2)
        else:
            self._sent += len(new)
        return new

    def finish(self) -> str:
        """What was held back: the sequence ends, and half a character stays one."""
        rest = self._text()[self._sent :]
        self._window, self._sent, self._fresh = [], 0, 0
        return rest

    def _text(self) -> str:
        return self._tokenizer.decode(self._window, self._skip_special)

    def _keep(self, tokens: int) -> None:
        """Go on with the last tokens, whose text is out but for half a character at its end."""
        self._window = self._window[-tokens:]
        text = self._text()
        self._sent = len(text) - text.endswith(BROKEN)
        self._fresh = 0


def read_tokenizer(folder: Path, config: ModelConfig) -> Tokenizer:
    """`tokenizer.json` and the chat template beside it. Raises ConfigError."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ConfigError(f"{path}: is missing")
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # noqa: BLE001 the library raises nothing narrower
        raise ConfigError(f"{path}: is no tokenizer: {plain_reason(error)}") from None
    check_vocabulary(backend, config, str(path))
    return Tokenizer(backend, template_of(folder))


def check_vocabulary(backend: Backend, config: ModelConfig, source: str) -> None:
    """Raise ConfigError where a token has no row in the embedding: the tokenizer is another model's.

    Rows without a token are usual, since embeddings are padded. It is logged where they are more than a tenth of all,
    and more than padding explains.
    """
    vocabulary = backend.get_vocab(with_added_tokens=True)
    piece, largest = max(vocabulary.items(), key=lambda item: item[1], default=("", -1))
    if largest >= config.vocab_size:
        raise ConfigError(
            f"{source}: token {piece!r} has the id {largest}, but {config.name} has {config.vocab_size} tokens: "
            "the tokenizer belongs to another model"
        )
    if len(vocabulary) < min(LEAST_SHARE * config.vocab_size, config.vocab_size - PADDED):
        log.warning(
            "tokenizer_small",
            tokenizer=source,
            tokens=len(vocabulary),
            model=config.name,
            embedding=config.vocab_size,
            why="more than a tenth of the embedding has no token: does the tokenizer belong to another model?",
        )
