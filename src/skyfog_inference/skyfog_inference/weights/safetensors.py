"""Tensors out of safetensors files: one, or several with an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from skyfog_core.errors import ConfigError, plain_reason
from skyfog_inference.models.hf import read_json

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


class SafetensorsSource:
    """A folder's tensors, mapped: a tensor is read when it is asked for. Close it, or use it in `with`."""

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._file_of: dict[str, str] = {}
        self._files: dict[str, Any] = {}
        try:
            self._open(folder)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: Path) -> None:
        if (folder / INDEX).exists():
            where = f"{folder / INDEX}"
            named = read_json(folder / INDEX).get("weight_map")
            if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
                raise ConfigError(f"{where}: weight_map: should hold a file for every tensor")
            # A name that leads out of the folder would have us read what nobody meant to give.
            if strange := next((file for file in named.values() if Path(file).name != file), None):
                raise ConfigError(f"{where}: weight_map: {strange!r} is no name of a file beside it")
            self._file_of = dict(named)
        elif not (folder / SINGLE).exists():
            raise ConfigError(f"{folder}: holds neither {SINGLE} nor {INDEX}")
        for name in sorted(set(self._file_of.values()) or {SINGLE}):
            self._files[name] = _opened(folder / name)
        if not self._file_of:
            self._file_of = dict.fromkeys(self._files[SINGLE].keys(), SINGLE)
        held = {(file, key) for file, tensors in self._files.items() for key in tensors.keys()}  # noqa: SIM118 no dict
        if missing := next(((key, file) for key, file in self._file_of.items() if (file, key) not in held), None):
            raise ConfigError(f"{folder / missing[1]}: tensor {missing[0]} is missing, which {INDEX} says is there")

    def __contains__(self, name: str) -> bool:
        return name in self._file_of

    def tensor(self, name: str) -> torch.Tensor:
        """Raises KeyError, or ConfigError where the file cannot be read."""
        file = self._file_of[name]
        try:
            return self._files[file].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{self.where}/{file}: tensor {name}: {plain_reason(error)}") from None

    def close(self) -> None:
        """Let go of the files; tensors that were read stay valid."""
        for file in self._files.values():
            file.__exit__(None, None, None)
        self._files.clear()

    def __enter__(self) -> SafetensorsSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _opened(path: Path) -> Any:
    try:
        handle: Any = safe_open(path, framework="pt")
        return handle.__enter__()
    except FileNotFoundError:
        raise ConfigError(f"{path}: is missing") from None
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: is no whole safetensors file: {plain_reason(error)}") from None
