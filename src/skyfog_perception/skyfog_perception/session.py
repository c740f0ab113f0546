"""An onnxruntime session that knows which execution provider it got, and that the model fits its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from skyfog_core.config.base import nearest
from skyfog_core.errors import ConfigError, plain_reason
from skyfog_perception.manifest import Model

ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
ERRORS_ONLY = 3  # onnxruntime's log level


class Session:
    """Runs one model. `run` may be called from several threads at once."""

    skipped: tuple[str, ...]  # providers tried before the one that works, each with the reason

    def __init__(self, model: Model, providers: Sequence[str], threads: int = 1) -> None:
        """Raises ConfigError where no provider works, or the ONNX file is not what the manifest says."""
        self._name = model.manifest.input.name
        self._session, self.provider, self.skipped = _open(model, providers, threads)
        _check_input(model, self._session)
        self.output_shapes: dict[str, tuple[int | None, ...]] = {
            output.name: tuple(side if isinstance(side, int) else None for side in output.shape)
            for output in self._session.get_outputs()
        }
        self._free_batch = not isinstance(self._session.get_inputs()[0].shape[0], int)

    def can_batch(self, outputs: Sequence[str]) -> bool:
        """Whether several images fit into one run: the batch axis is free in the input and the named outputs."""
        return self._free_batch and all(self.output_shapes[name][:1] == (None,) for name in outputs)

    def run(self, tensor: npt.NDArray[Any], outputs: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        """`tensor` of the manifest's input shape and type -> the named outputs. A free batch axis may be longer."""
        return list(self._session.run(list(outputs), {self._name: tensor}))


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY
    # Threads that spin while they wait take the cores that other replicas need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _open(
    model: Model, providers: Sequence[str], threads: int
) -> tuple[onnxruntime.InferenceSession, str, tuple[str, ...]]:
    """The first provider that takes the model, its name, and why not those before it.

    A provider may be built in and yet find no device or driver.
    """
    known = list(onnxruntime.get_all_providers())
    for name in providers:
        if name not in known:
            raise ConfigError(f"unknown execution provider {name!r}{nearest(name, known)} (known: {', '.join(known)})")
    available = list(onnxruntime.get_available_providers())
    refused: list[str] = []
    for name in providers:
        if name not in available:
            refused.append(f"{name}: not in this build of onnxruntime")
            continue
        try:
            session = onnxruntime.InferenceSession(model.onnx, _options(threads), providers=[name])
        except Exception as error:  # noqa: BLE001 - each provider has errors of its own; all of them are reported
            refused.append(f"{name}: {plain_reason(error)}")
            continue
        got = str(session.get_providers()[0])
        if got == name:
            return session, got, tuple(refused)
        refused.append(f"{name}: gave {got} instead")
    reasons = "; ".join(refused)
    raise ConfigError(f"{model.name}: no execution provider works: {reasons} (available: {', '.join(available)})")


def _check_input(model: Model, session: onnxruntime.InferenceSession) -> None:
    spec = model.manifest.input
    found = {value.name: value for value in session.get_inputs()}
    if list(found) != [spec.name]:
        raise ConfigError(f"{model.name}: input.name: the model's inputs are {', '.join(found)}, not {spec.name}")
    value = found[spec.name]
    if value.type != ONNX_TYPES[spec.dtype]:
        raise ConfigError(f"{model.name}: input.dtype: the model takes {value.type}, not {spec.dtype}")
    fits = len(value.shape) == len(spec.shape) and all(
        not isinstance(theirs, int) or theirs == ours for theirs, ours in zip(value.shape, spec.shape, strict=True)
    )
    if not fits:
        raise ConfigError(f"{model.name}: input: the model takes {value.shape}, not {list(spec.shape)} ({spec.layout})")
