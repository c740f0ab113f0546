"""Random models, made once; one server of a tiny model, for all tests that do not break it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import structlog
from typer.testing import CliRunner

from skyfog_inference.cli import app
from support.faces import Server, write_tiny
from support.inference import model_folder, one_thread
from support.processes import Processes

__all__ = ["model_folder", "one_thread"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Processes(tmp_path_factory.mktemp("server")) as processes:
        yield Server(processes, str(tiny), "--device-kv-mb", "2", "--set", "engine.max_waiting=64")


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture
def here() -> Iterator[Callable[..., Any]]:
    """`here("batch", …)`: a `skyfog infer` command in this process, where torch is loaded already."""
    yield lambda *words: CliRunner().invoke(app, [str(word) for word in words])
    structlog.reset_defaults()
