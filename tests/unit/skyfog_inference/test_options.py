"""Options of `skyfog infer` join a configuration file; what is wrong is told by file or option, key and bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from skyfog_core.config.inference import InferenceConfig
from skyfog_core.errors import ConfigError
from skyfog_inference.options import configured

SHIPPED = sorted((Path(__file__).parents[3] / "config" / "inference").glob("*.yaml"))


def write(folder: Path, text: str) -> Path:
    path = folder / "c.yaml"
    path.write_text(text)
    return path


def test_options_come_after_the_file_and_those_not_given_leave_it(tmp_path: Path) -> None:
    file = write(tmp_path, "engine: {model: a, threads: 3}\nserver: {port: 5}\n")
    found = configured(file, {"engine.model": "b", "engine.threads": None}, ["server.api_key=k", "engine.threads=2"])
    assert (found.engine.model, found.engine.threads, found.server.port, found.server.api_key) == ("b", 2, 5, "k")


def test_nothing_given_is_the_defaults() -> None:
    assert configured(None, {}, None) == InferenceConfig()


@pytest.mark.parametrize(
    ("given", "sets", "message"),
    [
        ({"server.port": 70_000}, [], "options: server.port: input should be less than or equal to 65535"),
        ({}, ["engine.model_name=x"], "options: engine.model_name: unknown key"),
        ({}, ["motor.model=x"], "options: motor: unknown key"),
        ({}, ["engine.prefix_sharing=3"], "engine.prefix_sharing: input should be a valid boolean, not 3"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], sets: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configured(None, given, sets)


@pytest.mark.parametrize("text", ["engine", "engine=3", "engine.threads"])
def test_a_set_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not SECTION"):
        configured(None, {}, [text])


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.stem)
def test_what_we_ship_is_right(file: Path) -> None:
    assert configured(file, {}, None).engine.model
