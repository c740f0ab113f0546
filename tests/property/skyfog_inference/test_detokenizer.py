"""Streams of text: never half a character, and together what decoding all at once gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skyfog_inference.models.tokenizer import BROKEN
from support.vocabularies import BYTES, FALLBACK, streamed


@given(st.text(max_size=40))
def test_text_streams_as_it_is_without_half_characters(text: str) -> None:
    pieces = streamed(BYTES, BYTES.encode(text))
    assert "".join(pieces) == BYTES.decode(BYTES.encode(text)) == text
    assert BROKEN in text or not any(BROKEN in piece for piece in pieces)


@given(st.lists(st.integers(0, 258), max_size=300))
def test_any_tokens_stream_to_what_they_decode_to(tokens: list[int]) -> None:
    assert "".join(streamed(BYTES, tokens)) == BYTES.decode(tokens)


@given(st.lists(st.sampled_from(["é", "b", "▁a", "▁", "a", "</s>", "日", "🤖"]), max_size=30))
def test_bytes_among_words_stream_to_what_they_decode_to(parts: list[str]) -> None:
    ids = [
        token
        for part in parts
        for token in (
            [FALLBACK.id_of(part)]
            if FALLBACK.id_of(part) is not None
            else [FALLBACK.id_of(f"<0x{byte:02X}>") for byte in part.encode()]
        )
    ]
    pieces = streamed(FALLBACK, ids)
    assert "".join(pieces) == FALLBACK.decode(ids)
    assert not any(BROKEN in piece for piece in pieces)
