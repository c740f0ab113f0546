"""What every schema shares: frozen, unknown keys refused, and errors that name file, key and bound."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Tag, ValidationError
from pydantic_core import ErrorDetails

from skyfog_core.errors import ConfigError

MERGE = "tag:yaml.org,2002:merge"  # of `<<`, which may stand several times
QUOTE = "'"  # pydantic puts names in an error's context between these


class Strict(BaseModel):
    """A frozen schema: unknown keys are refused, values are not silently converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


S = TypeVar("S", bound=Strict)

# Of what a file holds where it should not: a nest of aliases of a few lines may be gigabytes long when written out.
BRIEFLY = reprlib.Repr()
BRIEFLY.maxlevel, BRIEFLY.maxlist, BRIEFLY.maxdict = 3, 10, 10
BRIEFLY.maxstring = BRIEFLY.maxlong = BRIEFLY.maxother = 200


def nearest(word: str, known: list[str]) -> str:
    """A hint such as `; did you mean 'deadline_ms'?`, or nothing where no known word is near."""
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def _members(annotation: Any) -> list[type[BaseModel]]:
    """The schemas in an annotation: one, several of a union, or none."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [member for part in getattr(annotation, "__args__", ()) for member in _members(part)]


def _by_tag(members: list[type[BaseModel]], key: str) -> dict[str, type[BaseModel]]:
    """The schemas of a union that is told apart by `key`, by each value that means one of them."""
    return {tag: member for member in members for tag in get_args(member.model_fields[key].annotation)}


def _tagged(union: Any, tag: str) -> Any:
    """The part of a union, told apart by a function, that is marked with `tag`."""
    return next(part for part in get_args(union) if Tag(tag) in get_args(part)[1:])


def _told_apart_by(metadata: Iterable[Any]) -> Discriminator | None:
    """The function that tells the parts of a union apart, if one does."""
    return next((mark for mark in metadata if isinstance(mark, Discriminator)), None)


def _follow(schema: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[str], list[str]]:
    """Where `loc` leads in `schema`: the keys as the file has them, and the keys that are known there.

    pydantic puts the tag of a union's member into `loc`, which is no key.
    """
    shown: list[str] = []
    here: Any = schema
    discriminator: str | Discriminator | None = None
    for part in loc:
        if discriminator is not None:
            tag, tagged = str(part), isinstance(discriminator, Discriminator)
            here = _tagged(here, tag) if tagged else _by_tag(_members(here), str(discriminator))[tag]
            discriminator = None
            continue
        shown.append(str(part))
        if get_origin(here) in {dict, list}:
            here = get_args(here)[-1]
            if get_origin(here) is Annotated:
                discriminator = _told_apart_by(here.__metadata__)
                here = get_args(here)[0]
            continue
        members = _members(here)
        field = members[0].model_fields.get(str(part)) if len(members) == 1 else None
        if field is not None:
            here = field.annotation
            discriminator = field.discriminator or _told_apart_by(field.metadata)
    members = [] if get_origin(here) in {dict, list} else _members(here)
    return shown, list(members[0].model_fields) if len(members) == 1 else []


def _explain(schema: type[BaseModel], error: ErrorDetails) -> str:
    *parent, key = error["loc"] or ("",)
    shown, _ = _follow(schema, tuple(error["loc"]))
    where = ".".join(shown) or "the whole"
    context = error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        _, known = _follow(schema, tuple(parent))
        return f"{where}: unknown key{nearest(str(key), known)} (known: {', '.join(known)})"
    if error["type"] == "missing":
        return f"{where}: is missing"
    if error["type"] == "union_tag_not_found":
        return f"{where}.{context['discriminator'].strip(QUOTE)}: is missing"
    if error["type"] == "union_tag_invalid":
        tags, tag = context["expected_tags"], context["tag"]
        hint = nearest(tag, [known.strip(f" {QUOTE}") for known in tags.split(",")])
        return f"{where}.{context['discriminator'].strip(QUOTE)}: should be one of {tags}{hint}, not {tag!r}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}, not {BRIEFLY.repr(error['input'])}"


def parse(schema: type[S], values: Mapping[str, Any], source: str) -> S:
    """Build `schema` from plain values. Raises ConfigError that names `source`, every bad key and its bound."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        lines = [f"{source}: {_explain(schema, detail)}" for detail in error.errors()]
        raise ConfigError("\n".join(lines)) from None


class _Loader(yaml.SafeLoader):
    """Refuses what YAML forbids and PyYAML lets pass: a key that is given twice, of which the first would be lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == MERGE:
                continue
            if (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add((key.tag, key.value))
        return node


# What PyYAML raises for a value that is not what its tag says, for a date that is none, and for too deep a nest.
NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


def load_yaml(schema: type[S], path: Path) -> S:
    """Build `schema` from a YAML file. Raises ConfigError that names the file, the key and its bound."""
    try:
        values = yaml.load(path.read_text(), _Loader)  # noqa: S506  # is a SafeLoader
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except NOT_YAML as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, not a table of keys")
    return parse(schema, values, str(path))
