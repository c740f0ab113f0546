"""A bare script around onnxruntime, as one writes it to try a model: OpenCV, one resize, one run. Nothing of ours.

python -m skyfog_bench.baselines.bare_onnx IMAGE NAME=ONNX:SIDE:STD…   (STD 0: uint8 as it is; else (x - STD) / STD)

Its answers stop where ours go on: the tensors are not read.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from skyfog_bench.serve import serve

ERRORS_ONLY = 3


class Bare:
    """One model on one thread."""

    def __init__(self, onnx: str, side: int, std: float) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        self._side, self._std = side, std

    def call(self, jpeg: bytes) -> list[float]:
        """Milliseconds of the whole, of processor time, of decoding, preparing, inference."""
        processor = time.thread_time()
        times = [time.perf_counter()]
        bgr: Any = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        times.append(time.perf_counter())
        small = cv2.resize(bgr, (self._side, self._side))[:, :, ::-1][None]
        tensor = ((small - self._std) / self._std).astype(np.float32) if self._std else np.ascontiguousarray(small)
        times.append(time.perf_counter())
        self._session.run(None, {self._name: tensor})
        times.append(time.perf_counter())
        processor_ms = (time.thread_time() - processor) * 1e3
        stages: list[float] = (np.diff(times) * 1e3).tolist()
        return [sum(stages), processor_ms, *stages]


def main() -> None:
    """Serve `round` until standard input ends."""
    cv2.setNumThreads(1)
    jpeg = Path(sys.argv[1]).read_bytes()
    models: dict[str, Bare] = {}
    for word in sys.argv[2:]:
        name, _, rest = word.partition("=")
        onnx, side, std = rest.rsplit(":", 2)
        models[name] = Bare(onnx, int(side), float(std))

    def round_(case: str, count: int, warm: int) -> dict[str, Any]:
        return {"calls": [models[case].call(jpeg) for _ in range(warm + count)][warm:]}

    serve({"round": round_})


if __name__ == "__main__":
    main()
