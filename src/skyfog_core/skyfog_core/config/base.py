"""What every schema shares: frozen, unknown keys refused, and errors that name file, key and bound."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from skyfog_core.errors import ConfigError


class Strict(BaseModel):
    """A frozen schema: unknown keys are refused, values are not silently converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


S = TypeVar("S", bound=Strict)


def nearest(word: str, known: list[str]) -> str:
    """A hint such as `; did you mean 'deadline_ms'?`, or nothing where no known word is near."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _known_keys(schema: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at `path` inside `schema`; [] where the path leaves the schemas."""
    here: Any = schema
    for part in path:
        field = getattr(here, "model_fields", {}).get(part)
        annotation = field.annotation if field else here
        inner = [a for a in getattr(annotation, "__args__", ()) if isinstance(a, type) and issubclass(a, BaseModel)]
        here = inner[0] if inner else annotation
    return list(getattr(here, "model_fields", {}))


def _explain(schema: type[BaseModel], error: ErrorDetails) -> str:
    *parent, key = error["loc"] or ("",)
    where = ".".join(str(part) for part in error["loc"]) or "the whole"
    if error["type"] == "extra_forbidden":
        known = _known_keys(schema, tuple(parent))
        return f"{where}: unknown key{nearest(str(key), known)} (known: {', '.join(known)})"
    if error["type"] == "missing":
        return f"{where}: is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}, not {error['input']!r}"


def parse(schema: type[S], values: Mapping[str, Any], source: str) -> S:
    """Build `schema` from plain values. Raises ConfigError that names `source`, every bad key and its bound."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        lines = [f"{source}: {_explain(schema, detail)}" for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from None


def load_yaml(schema: type[S], path: Path) -> S:
    """Build `schema` from a YAML file. Raises ConfigError that names the file, the key and its bound."""
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, not a table of keys")
    return parse(schema, values, str(path))
