"""Small tokenizers of two kinds: bytes as GPT-2 writes them, and words with bytes between them."""

from __future__ import annotations

from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from skyfog_inference.models.tokenizer import Tokenizer

END = "<|end|>"
MERGES = [("Ã", "©"), ("©", "Ã")]  # a character, and parts of two


def bytes_backend() -> Backend:
    """Every byte a token, as GPT-2 writes them, and two pairs merged: 259 tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = MERGES
    vocabulary = {piece: at for at, piece in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    backend = Backend(models.BPE(vocabulary, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(END, special=True, normalized=False)])
    return backend


def fallback_backend() -> Backend:
    """As Llama 2's: words with a mark for the space before them, bytes for what is no word."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "▁a", "é", "b"]
    backend = Backend(models.BPE({piece: at for at, piece in enumerate(pieces)}, [("▁", "a")], byte_fallback=True))
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken("</s>", special=True, normalized=False)])
    return backend


BYTES, FALLBACK = Tokenizer(bytes_backend()), Tokenizer(fallback_backend())


def streamed(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    """What comes of every token, and of the end."""
    stream = tokenizer.stream()
    return [*(stream.push(token) for token in tokens), stream.finish()]
