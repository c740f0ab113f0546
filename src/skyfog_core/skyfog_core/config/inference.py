"""Schemas of `skyfog_inference`: the model that is served, its memory, its scheduler, its faces."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from skyfog_core.config.base import Strict


class EngineConfig(Strict):
    """One model on one machine."""

    model: Annotated[
        str, Field(min_length=1, description="a folder with config.json and safetensors, a .gguf file, or smollm2")
    ] = "smollm2"
    served_name: Annotated[str, Field(max_length=200, description="in /v1/models; empty: the model's own")] = ""
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], Field(description="auto: as stored, if a CPU is fast at it")
    ] = "auto"
    kv_dtype: Annotated[Literal["auto", "float32", "bfloat16"], Field(description="auto: as the weights")] = "auto"
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto: cuda where there is one")] = "auto"
    threads: Annotated[int, Field(ge=0, le=1_024, description="of the device's worker on a CPU; 0: all cores")] = 0
    host_threads: Annotated[int, Field(ge=0, le=1_024, description="of attention on the host; 0: all cores")] = 0
    max_context: Annotated[int, Field(ge=0, le=10_000_000, description="tokens of a sequence; 0: the model's")] = 0
    device_kv_mb: Annotated[int, Field(ge=1, description="keys and values on the device")] = 512
    host_kv_mb: Annotated[
        int, Field(ge=0, description="keys and values on the host; 0: preempted work begins anew")
    ] = 0
    scheduler: Annotated[Literal["fcfs", "neo"], Field(description="neo: part of attention runs on the host")] = "fcfs"
    max_batched_tokens: Annotated[int, Field(ge=16, le=1_000_000, description="tokens of a step")] = 2_048
    max_sequences: Annotated[int, Field(ge=1, le=100_000, description="sequences of a step")] = 256
    max_waiting: Annotated[int, Field(ge=1, le=1_000_000, description="requests beyond it are refused")] = 1_024
    order: Annotated[
        Literal["S1", "S2", "S3", "S4"], Field(description="of tasks where weights are streamed; S1 is CGOPipe")
    ] = "S1"
    prefix_sharing: Annotated[bool, Field(description="sequences with one beginning share its blocks")] = True
    profile: Annotated[str, Field(description="table that `skyfog infer profile` wrote; empty: measure at start")] = ""


class ServerConfig(Strict):
    """The OpenAI-compatible HTTP server."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535, description="0: a free one, written to the log")] = 8_000
    api_key: Annotated[str, Field(description="clients must send it; empty: none needed")] = ""
    drain_s: Annotated[float, Field(ge=0, le=3_600, description="on SIGTERM: this long for requests under way")] = 30.0


class InferenceConfig(Strict):
    """A whole inference node."""

    engine: EngineConfig = EngineConfig()
    server: ServerConfig = ServerConfig()


class GenerateConfig(EngineConfig):
    """The service `generate`: a node of its own, or embedded in a replica."""

    calls: Annotated[int, Field(ge=1, le=1_024, description="answered at once by the node; a replica has its own")] = 32


class GenerateActionConfig(Strict):
    """The action `generate` on a robot, which asks the service of the fleet for a few tokens at a time."""

    service: Annotated[str, Field(min_length=1, description="skyfog_interfaces/srv/Generate")] = "/generate"
    max_goals: Annotated[int, Field(ge=1, le=1_000, description="texts at once; more are rejected")] = 16
    max_call_tokens: Annotated[
        int, Field(ge=1, le=4_096, description="of a call; calls grow to it from one; a replica that dies costs one")
    ] = 8  # each is a feedback, and a client keeps 10 that it has not read
    call_limit_s: Annotated[float, Field(gt=0, le=3_600, description="a call without an answer is made again")] = 30.0
    pause_ms: Annotated[int, Field(ge=1, le=60_000, description="before a call that failed is made again")] = 200
    patience_s: Annotated[float, Field(gt=0, le=86_400, description="without a token; then the goal fails")] = 60.0
