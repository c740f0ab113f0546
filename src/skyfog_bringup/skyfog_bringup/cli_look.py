"""What the commands share that only look: their options, and how they end."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Annotated

import typer
from rich.console import Console

from skyfog_core.errors import ConfigError, SkyfogError

EXIT_OPTIONS = 2
EXIT_FLEET = 3
LOG_WIDTH = 140  # of tables, where no terminal says how wide it is

WithJson = Annotated[bool, typer.Option("--json", help="as JSON; what is unknown is null")]
Watch = Annotated[bool, typer.Option("--watch", help="again every second, until Ctrl-C")]
Wait = Annotated[float, typer.Option("--wait", min=0.1, max=600, help="seconds to look for robots or cars")]


def look(verb: str, run: Callable[[ModuleType, Console], None]) -> None:
    """Run one of the verbs that only look, each a function of skyfog_bringup.observe."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    try:
        run(importlib.import_module("skyfog_bringup.observe"), console)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
    except SkyfogError as error:
        text = f"skyfog {verb}: {error}"
        Console(stderr=True, soft_wrap=True).print(text, markup=False, highlight=False)
        raise typer.Exit(EXIT_OPTIONS if isinstance(error, ConfigError) else EXIT_FLEET) from None
