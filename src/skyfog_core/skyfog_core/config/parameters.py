"""A schema as ROS parameters, without ROS: names with dots, one type each, bounds and description from the field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from skyfog_core.config.base import S, parse
from skyfog_core.errors import ConfigError

Scalar = bool | int | float | str
Value = Scalar | list[str] | list[int] | list[float] | list[bool]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One ROS parameter: its value, what it is for, and its bounds where it is a number (both inclusive)."""

    name: str
    value: Value
    description: str
    low: float | None = None
    high: float | None = None
    live: bool = False  # may be changed while the node runs


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"services.detect.type": t} -> {"services": {"detect": {"type": t}}}.

    Raises ConfigError for a key that is a value by one name and a table by another.
    """
    tree: dict[str, Any] = {}
    for name, value in sorted(flat.items()):  # a value comes before what would stand below it
        *parents, leaf = name.split(".")
        here = tree
        for depth, parent in enumerate(parents, start=1):
            below = here.setdefault(parent, {})
            if not isinstance(below, dict):
                raise ConfigError(f"parameters: {'.'.join(parents[:depth])}: is both a value and, by {name}, a table")
            here = below
        here[leaf] = value
    return tree


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The inverse of `nest`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _bounds(field: FieldInfo) -> tuple[float | None, float | None]:
    low: Any = None
    high: Any = None
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge):
            low = bound.ge
        if isinstance(bound, annotated_types.Gt):  # exact for integers; a double's range is checked by the schema
            low = bound.gt + 1 if isinstance(bound.gt, int) and field.annotation is int else bound.gt
        if isinstance(bound, annotated_types.Le):
            high = bound.le
        if isinstance(bound, annotated_types.Lt):
            high = bound.lt - 1 if isinstance(bound.lt, int) and field.annotation is int else bound.lt
    return low, high


def parameters_of(config: BaseModel, prefix: str = "") -> Iterator[Parameter]:
    """Every parameter of a built config, nested schemas by dotted names. None means not set and is left out."""
    for key, field in type(config).model_fields.items():
        value = getattr(config, key)
        if isinstance(value, BaseModel):
            yield from parameters_of(value, f"{prefix}{key}.")
        elif isinstance(value, Mapping):
            for name, inner in value.items():
                yield from parameters_of(inner, f"{prefix}{key}.{name}.")
        elif value is not None:
            low, high = _bounds(field)
            plain = list(value) if isinstance(value, (list, tuple)) else value
            extra = field.json_schema_extra
            live = isinstance(extra, dict) and bool(extra.get("live"))
            yield Parameter(f"{prefix}{key}", plain, field.description or "", low, high, live)


class _RosLoader(yaml.SafeLoader):
    """Plain YAML, and the lists that launch_ros writes: it tags them as Python tuples, which ROS reads as lists."""


def _list_of(loader: _RosLoader, node: yaml.SequenceNode) -> list[Any]:
    return loader.construct_sequence(node)


_RosLoader.add_constructor("tag:yaml.org,2002:python/tuple", _list_of)


def _load(path: Path) -> Any:
    with path.open() as file:
        return yaml.load(file, _RosLoader)  # noqa: S506  # a SafeLoader


def check_files(files: Sequence[Path]) -> None:
    """Refuse what ROS's own parser would drop or die on. Raises ConfigError that names file, line or key."""
    for path in files:
        try:
            content = _load(path)
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror or error}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
        for section in _parameter_sections(content):
            for key, value in flatten(section).items():
                _check_ros_value(str(path), key, value)


def _check_ros_value(source: str, key: str, value: object) -> None:
    if value is None:
        raise ConfigError(f"{source}: {key}: has no value; leave the key out to get its default")
    if isinstance(value, list):
        kinds = sorted({type(item).__name__ for item in value})
        if not value:
            raise ConfigError(f"{source}: {key}: an empty list has no type in ROS 2; leave the key out")
        if len(kinds) > 1:
            raise ConfigError(f"{source}: {key}: a ROS 2 list holds one type, not {' and '.join(kinds)}: {value!r}")


def file_of(key: str, files: Sequence[Path]) -> str:
    """The last of `files` that sets `key`, or a key below it (as ROS: the last one wins), else "parameters"."""
    for path in reversed(files):
        try:
            content = _load(path)
        except (OSError, yaml.YAMLError):
            continue
        names = (name for section in _parameter_sections(content) for name in flatten(section))
        if any(f"{name}.".startswith(f"{key}.") for name in names):
            return str(path)
    return "parameters"


def _parameter_sections(content: object) -> Iterator[Mapping[str, Any]]:
    """Each `ros__parameters` table of a ROS parameter file, however deep the node names nest."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key == "ros__parameters" and isinstance(value, Mapping):
                yield value
            else:
                yield from _parameter_sections(value)


def from_flat(schema: type[S], flat: Mapping[str, Any], files: Sequence[Path] = ()) -> S:
    """Build `schema` from ROS's flat names. Raises ConfigError that names file, key and bound."""
    used = [str(path) for path in files if any(file_of(key, [path]) != "parameters" for key in flat)]
    return parse(schema, nest(flat), " + ".join(used) or "parameters")
