"""One model, ready to run: what detection and segmentation share. No ROS."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skyfog_core import budget, cancel
from skyfog_core.cancel import Cancellation
from skyfog_core.clock import SteadyClock
from skyfog_core.config.base import nearest
from skyfog_core.errors import ConfigError, InvalidRequest
from skyfog_core.images import Rgb
from skyfog_perception.batch import Batcher, Item, Outputs, Tensor
from skyfog_perception.decode import make_decoder
from skyfog_perception.decode.boxes import BoxDecoder, Ids
from skyfog_perception.decode.deeplab import DeepLab
from skyfog_perception.manifest import UNLABELLED, Task, load_model
from skyfog_perception.placement import Placement
from skyfog_perception.prepare import to_tensor
from skyfog_perception.session import Session

CPU = ("CPUExecutionProvider",)
DEFAULT_MAX_BATCH = 8
MAX_WAITING = 64


@dataclass(frozen=True, slots=True)
class Times:
    """Where the milliseconds of one image went."""

    prepare_ms: float  # image to tensor
    inference_ms: float  # with the wait for others that use the model
    postprocess_ms: float  # tensors to result


class Network:
    """Keeps nothing between calls and may be called from several threads at once."""

    def __init__(
        self,
        folder: Path,
        task: Task,
        providers: Sequence[str] = CPU,
        threads: int = 1,
        max_batch: int = DEFAULT_MAX_BATCH,
    ) -> None:
        """Load the model in `folder`. Raises ConfigError that names file, key and what is allowed."""
        model = load_model(folder)
        if model.manifest.task != task:
            raise ConfigError(f"{model.name}: task: is a model to {model.manifest.task}, not to {task}")
        self._input = model.manifest.input
        self.labels = model.labels
        self.decoder: BoxDecoder | DeepLab = make_decoder(model)
        self._session = Session(model, providers, threads)
        self.decoder.check(self._session.output_shapes)
        # What the file leaves open besides the batch is compared with each run.
        self._is_open = any(None in self._session.output_shapes[name][1:] for name in self.decoder.outputs)
        self._clock = SteadyClock()
        self.max_batch = max_batch if self._session.can_batch(self.decoder.outputs) else 1
        self._batcher = Batcher(self._run, self._clock, self.max_batch, MAX_WAITING) if self.max_batch > 1 else None
        first = 1 if task == "segment" else 0  # class 0 of a semantic head is the background
        self._ids = {label: i for i, label in enumerate(model.labels) if i >= first and label != UNLABELLED}
        self.name = model.name
        self.sha256 = model.manifest.sha256

    @property
    def provider(self) -> str:
        """The execution provider that runs the model."""
        return self._session.provider

    @property
    def skipped(self) -> tuple[str, ...]:
        """Providers that were to be tried before it, each with the reason why it does not work."""
        return self._session.skipped

    @property
    def class_names(self) -> tuple[str, ...]:
        """Every class that can be found."""
        return tuple(self._ids)

    def check_request(self, score_threshold: float, class_names: Sequence[str], limit: int, limit_name: str) -> Ids:
        """The wanted class ids; no names: all. Raises InvalidRequest that names the field and what is allowed."""
        if not 0.0 <= score_threshold <= 1.0:  # nor is NaN
            raise InvalidRequest(f"score_threshold: {score_threshold} is not within 0..1")
        if limit < 1:
            raise InvalidRequest(f"{limit_name}: {limit} is less than 1")
        for name in class_names:
            if name not in self._ids:
                raise InvalidRequest(self._unknown_class(name))
        return np.asarray(sorted({self._ids[name] for name in class_names or self._ids}), np.intp)

    def infer(self, rgb: Rgb) -> tuple[Outputs, Placement, list[float]]:
        """An image, uint8 RGB [H, W, 3] -> the decoder's outputs, and the times before and after preparing, and now.

        Raises NotExecuted where the request's budget ran out, or it was withdrawn, before the model was free,
        Overloaded where too many wait, ConfigError where the model says something else than its manifest.
        """
        times = [time.perf_counter()]
        tensor, placement = to_tensor(rgb, self._input)
        times.append(time.perf_counter())
        outputs = self._in_turn(tensor)
        if self._is_open:
            self.decoder.check(dict(zip(self.decoder.outputs, (output.shape for output in outputs), strict=True)))
        times.append(time.perf_counter())
        return outputs, placement, times

    def _in_turn(self, tensor: Tensor) -> Outputs:
        item = Item(tensor, budget.deadline_ns(), cancel.current() or Cancellation())
        if self._batcher is not None:
            return self._batcher.submit(item)
        item.refuse_if_in_vain(self._clock.now_ns())
        if item.error is not None:
            raise item.error
        return self._run(tensor)

    def _run(self, tensor: Tensor) -> Outputs:
        return self._session.run(tensor, self.decoder.outputs)

    def _unknown_class(self, name: str) -> str:
        known = list(self._ids)
        lower = name.strip().lower()
        hint = f"; did you mean '{lower}'?" if lower in self._ids else nearest(lower, known)
        return f"class_names: {self.name} has no class {name!r}{hint} (known: {', '.join(known)})"


def times_of(stamps: Sequence[float]) -> Times:
    """Four stamps in seconds, before and after each stage -> its three durations."""
    return Times(*(np.diff(stamps) * 1e3).tolist())
