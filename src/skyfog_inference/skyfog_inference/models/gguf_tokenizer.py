"""The tokenizer that a GGUF file describes, rebuilt: byte-level BPE of SmolLM2, Qwen2 and Llama 3."""

from __future__ import annotations

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from skyfog_core.errors import ConfigError, plain_reason
from skyfog_inference.models import tokenizer
from skyfog_inference.models.chat import ChatTemplate
from skyfog_inference.models.gguf import GGUFFile

CONTROL, USER_DEFINED = 3, 4  # token types
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Where text is cut before pairs are merged; None: digits one by one, then GPT-2's rule.
CUTS = {
    "smollm": None,
    "qwen2": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{REST}",
    "llama-bpe": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{REST}",
}


def read_tokenizer(file: GGUFFile) -> tokenizer.Tokenizer:
    """Raises ConfigError for a kind that is not known."""
    kind, cut = file.field("tokenizer.ggml.model", str), file.field("tokenizer.ggml.pre", str, "default")
    if kind != "gpt2" or cut not in CUTS:
        raise ConfigError(
            f"{file.where}: tokenizer.ggml: should be of model gpt2 with pre one of {', '.join(CUTS)}, "
            f"not {kind} with {cut}"
        )
    pieces = file.field("tokenizer.ggml.tokens", list)
    merges = [tuple(merge.split(" ")) for merge in file.field("tokenizer.ggml.merges", list)]
    try:
        # Llama 3's takes a word that is a token as it is, before it merges anything.
        model = models.BPE({piece: at for at, piece in enumerate(pieces)}, merges, ignore_merges=cut == "llama-bpe")
    except Exception as error:  # noqa: BLE001 the library raises nothing narrower
        raise ConfigError(f"{file.where}: tokenizer.ggml.merges: {plain_reason(error)}") from None
    backend = Tokenizer(model)
    if cut == "qwen2":
        backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = _cutter(CUTS[cut])
    backend.decoder = decoders.ByteLevel()
    types = file.field("tokenizer.ggml.token_type", list)
    for number in (CONTROL, USER_DEFINED):
        special = number == CONTROL
        added = [piece for piece, its in zip(pieces, types, strict=False) if its == number]
        tokens = [AddedToken(piece, special=special, normalized=False) for piece in added]
        (backend.add_special_tokens if special else backend.add_tokens)(tokens)
    tokenizer.check_vocabulary(backend, file.config, file.where)
    begins = file.field("tokenizer.ggml.add_bos_token", bool, False)
    return tokenizer.Tokenizer(backend, _template(file, pieces), file.config.bos_token_id if begins else None)


def _cutter(rule: str | None) -> pre_tokenizers.PreTokenizer:
    if rule is None:
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(rule), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _template(file: GGUFFile, pieces: list[str]) -> ChatTemplate | None:
    template = file.field("tokenizer.chat_template", str, "")
    config = file.config
    named = {"bos_token": config.bos_token_id, "eos_token": next(iter(config.eos_token_ids), None)}
    tokens = {key: pieces[at] for key, at in named.items() if at is not None and at < len(pieces)}
    return ChatTemplate(template, tokens, file.where) if template else None
