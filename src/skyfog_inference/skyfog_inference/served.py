"""A model as its faces (HTTP, ROS, batches) see it: texts in, streams of tokens out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from skyfog_core.config.inference import EngineConfig
from skyfog_inference.metrics import EngineMetrics
from skyfog_inference.request import SamplingParams
from skyfog_inference.stream import Stream

NEEDS = ("torch", "tokenizers", "safetensors", "gguf", "jinja2")  # modules of the extra `inference`


class Engine(Protocol):
    """What runs the requests."""

    context: int

    def submit(self, prompt: Sequence[int], params: SamplingParams) -> Stream: ...
    def drain(self, limit_s: float) -> bool: ...
    def close(self) -> None: ...
    def unwell(self) -> str: ...
    def metrics(self) -> EngineMetrics: ...


class Tokenizer(Protocol):
    """Text to tokens."""

    def encode(self, text: str) -> list[int]: ...
    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int]: ...
    def piece(self, token: int) -> str: ...
    def piece_bytes(self, token: int) -> bytes: ...


class Served:
    """One model under a name. Any thread may call it."""

    def __init__(self, name: str, engine: Engine, tokenizer: Tokenizer) -> None:
        self.name = name
        self.context = engine.context  # tokens of the longest sequence
        self.submit = engine.submit
        self.unwell = engine.unwell
        self.metrics = engine.metrics
        self.drain = engine.drain
        self.close = engine.close
        self.encode = tokenizer.encode
        self.encode_chat = tokenizer.encode_chat
        self.piece = tokenizer.piece
        self.piece_bytes = tokenizer.piece_bytes


def load(config: EngineConfig) -> Served:
    """Read the model and start its engine. Raises ConfigError that names what is wrong."""
    from skyfog_inference import assembly  # noqa: PLC0415  # imports torch

    return assembly.serve(config)
