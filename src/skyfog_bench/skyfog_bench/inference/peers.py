"""The engines that `inference_memory` runs from environments of their own, each by a script of `baselines`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from skyfog_bench.inference.gguf_file import gguf_of
from skyfog_bench.inference.models import MADE, Shape
from skyfog_bench.processes import BenchError, Process, Processes
from skyfog_core.environments import INSTALL_COMMAND, python_of

BASELINES = Path(__file__).parent.parent / "baselines"
LOAD_LIMIT_S = 420.0  # vLLM compiles the model when it first sees it
CONVERT_LIMIT_S = 600.0  # a minute for a mixture of experts
CONTEXTS_OF = 256  # tokens: llama.cpp rounds contexts itself


@dataclass(frozen=True, slots=True)
class Peer:
    """Where it is, and how it wants a model."""

    name: str
    environment: str
    script: str
    model: Callable[[Processes, Peer, Shape, Path], Path]

    def start(self, processes: Processes, shape: Shape, folder: Path, most: int, context: int) -> Process:
        """Loaded. Raises BenchError that says why not, such as that it is not installed."""
        model = self.model(processes, self, shape, folder)
        process = self.process(processes)
        context = -(-context // CONTEXTS_OF) * CONTEXTS_OF
        job = {"model": str(model), "most": most, "context": context, "batched_tokens": most * context}
        try:
            process.ask(LOAD_LIMIT_S, **job, threads=len(os.sched_getaffinity(0)))
        except BenchError:
            processes.end([process])
            raise
        return process

    def process(self, processes: Processes) -> Process:
        """Without a model yet. Raises BenchError where it is not installed."""
        if (python := python_of(self.environment)) is None:
            raise BenchError(f"{INSTALL_COMMAND} {self.environment}")
        return processes.start_script(self.name, python, BASELINES / self.script)


def _gguf(_processes: Processes, peer: Peer, shape: Shape, folder: Path) -> Path:
    if python_of(peer.environment) is None:  # then it is not worth writing the file
        return folder
    return gguf_of(shape, folder)


def _converted(processes: Processes, peer: Peer, _shape: Shape, folder: Path) -> Path:
    """The folder beside the model, made now where it is not there."""
    target = folder.parent / f"{folder.name}.{peer.environment}"
    made = target / "openvino_model.xml"
    if made.is_file() and made.stat().st_mtime >= (folder / MADE).stat().st_mtime:
        return target
    making = target.with_suffix(f".{os.getpid()}")
    process = peer.process(processes)
    try:
        process.ask(CONVERT_LIMIT_S, folder=str(folder), into=str(making))
        shutil.rmtree(target, ignore_errors=True)
        making.replace(target)
    finally:
        processes.end([process])
        shutil.rmtree(making, ignore_errors=True)
    return target


def _itself(_processes: Processes, _peer: Peer, _shape: Shape, folder: Path) -> Path:
    return folder


PEERS = (
    Peer("llama.cpp", "llamacpp", "llama_cpp.py", _gguf),
    Peer("OpenVINO GenAI", "openvino", "openvino_llm.py", _converted),
    Peer("vLLM", "vllm", "vllm_cpu.py", _itself),
)
