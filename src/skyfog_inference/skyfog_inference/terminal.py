"""What the verbs of `skyfog infer` print on, and how they end where something is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from skyfog_core.errors import ConfigError, SkyfogError

EXIT_FAILED = 1
EXIT_OPTIONS = 2
LOG_WIDTH = 140  # of tables, where no terminal says how wide it is


def console(stderr: bool = False) -> Console:
    """Where verbs print."""
    made = Console(highlight=False, stderr=stderr)
    if not made.is_terminal:
        made.width = LOG_WIDTH
    return made


def complain(verb: str, error: object) -> None:
    """A line of error a line."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for line in str(error).splitlines():
        errors.print(f"skyfog infer {verb}: {line}", markup=False)


@contextmanager
def errors_of(verb: str) -> Iterator[None]:
    """Say an error of ours in its own words and end: status 2 where options or files are wrong, else 1."""
    try:
        yield
    except ConfigError as error:
        complain(verb, error)
        raise typer.Exit(EXIT_OPTIONS) from None
    except SkyfogError as error:
        complain(verb, error)
        raise typer.Exit(EXIT_FAILED) from None
