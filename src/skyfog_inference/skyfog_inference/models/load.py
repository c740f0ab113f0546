"""A model by its name or path: its config, its weights in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from skyfog_core.errors import ConfigError
from skyfog_inference.models.config import ModelConfig
from skyfog_inference.models.hf import read_config
from skyfog_inference.weights.resident import ResidentWeights, load_resident
from skyfog_inference.weights.safetensors import SafetensorsSource

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Model:
    """Ready to run."""

    config: ModelConfig
    weights: ResidentWeights


def load(name: str, dtype: str = "auto", device: str = "cpu") -> Model:
    """Raises ConfigError that names the file and what is wrong with it."""
    folder = Path(name)
    if not folder.is_dir():
        raise ConfigError(f"{name}: is no folder")
    config = read_config(folder)
    with SafetensorsSource(folder) as source:
        stored = source.tensor("model.norm.weight").dtype
        wanted = stored if dtype == "auto" else DTYPES[dtype]
        return Model(config, load_resident(config, source, wanted, torch.device(device)))
