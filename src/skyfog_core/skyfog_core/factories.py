"""What a parameter names as `module:factory`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from skyfog_core.errors import ConfigError


def load_factory(entry: str, key: str, example: str) -> Callable[..., Any]:
    """The factory. Raises ConfigError, beginning with `key`, that says which half is wrong."""
    module_name, _, attribute = entry.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"{key} {entry!r}: not module:factory, such as {example}")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key} {entry!r}: cannot import {module_name}: {error}") from None
    except AttributeError:
        raise ConfigError(f"{key} {entry!r}: {module_name} has no {attribute!r}") from None
    if not callable(factory):
        raise ConfigError(f"{key} {entry!r}: {attribute} is no factory but a {type(factory).__name__}")
    return factory  # type: ignore[no-any-return]
