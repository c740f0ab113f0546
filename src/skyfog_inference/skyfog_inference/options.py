"""Options of `skyfog infer` verbs that stand for keys of InferenceConfig, and how they join a configuration file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from skyfog_core.config.base import load_yaml, parse
from skyfog_core.config.inference import EngineConfig, InferenceConfig, ServerConfig

Config = Annotated[
    Path | None, typer.Option("--config", metavar="YAML", help="an InferenceConfig; see config/inference/")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="any key of the file, such as engine.max_sequences=64; repeatable"),
]


def of(schema: type[EngineConfig | ServerConfig], name: str, *flags: str, metavar: str | None = None) -> Any:
    """An option that overrides the key `name`; its help is the schema's."""
    field = schema.model_fields[name]
    return typer.Option(*(flags or (f"--{name.replace('_', '-')}",)), metavar=metavar, help=field.description or name)


def configured(file: Path | None, given: Mapping[str, Any], sets: list[str] | None) -> InferenceConfig:
    """The file's configuration with what options say: `given` by dotted key, None where an option was not given.

    Raises ConfigError that names the file or option, the key and its bound.
    """
    tree = (load_yaml(InferenceConfig, file) if file is not None else InferenceConfig()).model_dump()
    for text in sets or []:
        key, equals, value = text.partition("=")
        section, _, leaf = key.partition(".")
        if not equals or leaf == "":
            raise typer.BadParameter(f"{text!r} is not SECTION.KEY=VALUE", param_hint="--set")
        tree.setdefault(section, {})[leaf] = _value(value)
    for key, value in given.items():
        section, _, leaf = key.partition(".")
        if value is not None:
            tree[section][leaf] = value
    return parse(InferenceConfig, tree, "options" if file is None else f"{file} with options")


def _value(text: str) -> Any:
    """As YAML reads a plain value."""
    import yaml  # noqa: PLC0415  # only where a key is set so

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
