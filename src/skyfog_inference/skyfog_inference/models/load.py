"""A model by its name or path: its config, its tokenizer, its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from skyfog_inference.models import gguf_tokenizer, hf, names, tokenizer
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.models.gguf import GGUFFile
from skyfog_inference.models.tokenizer import Tokenizer
from skyfog_inference.weights.resident import ResidentWeights, load_resident
from skyfog_inference.weights.safetensors import SafetensorsSource
from skyfog_inference.weights.source import TensorSource

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Model:
    """Ready to run, weights in memory."""

    config: ModelConfig
    tokenizer: Tokenizer
    weights: ResidentWeights


def load(name: str, dtype: str = "auto", device: str = "auto") -> Model:
    """Raises ConfigError that names the file and what is wrong with it."""
    files = ModelFiles(name)
    text = files.tokenizer()  # the cheapest to find wrong
    return Model(files.config, text, files.weights(dtype, device))


class ModelFiles:
    """What a name means, with its config read, and weights and tokenizer when they are asked for."""

    def __init__(self, name: str) -> None:
        """Raises ConfigError that says what a name may be, or what is wrong with the config."""
        self.path = names.find(name)
        # Read once: the lists of tokens in a GGUF file take seconds.
        self._gguf = None
        if not self.path.is_dir():
            self._gguf = GGUFFile(self.path, name if name in names.WHEELS else "")
        self.config = hf.read_config(self.path) if self._gguf is None else self._gguf.config

    def tokenizer(self) -> Tokenizer:
        """Raises ConfigError."""
        if self._gguf is None:
            return tokenizer.read_tokenizer(self.path, self.config)
        return gguf_tokenizer.read_tokenizer(self._gguf)

    @contextmanager
    def tensors(self) -> Iterator[TensorSource]:
        """By their Hugging Face names. Raises ConfigError."""
        if self._gguf is not None:
            yield self._gguf
            return
        with SafetensorsSource(self.path) as source:
            yield source

    def weights(self, dtype: str = "auto", device: str = "auto") -> ResidentWeights:
        """All of them, in memory. Raises ConfigError."""
        place = choose_device(device)
        with self.tensors() as source:
            return load_resident(self.config, source, choose_dtype(dtype, source, place), place)


def choose_device(device: str) -> torch.device:
    """auto: CUDA where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def choose_dtype(dtype: str, source: TensorSource, device: torch.device) -> torch.dtype:
    """auto: as stored; quantized weights become float32 on a CPU, else bfloat16; float16 on a CPU becomes bfloat16.

    The models that come quantized are small: rounded once more, their nearest tokens change places (SmolLM2 then no
    longer knows the capital of France). And CPUs multiply float16 slowly.
    """
    if dtype != "auto":
        return DTYPES[dtype]
    if isinstance(source, GGUFFile) and source.quantized:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    stored = source.tensor("model.embed_tokens.weight").dtype
    return torch.bfloat16 if stored is torch.float16 and device.type == "cpu" else stored
