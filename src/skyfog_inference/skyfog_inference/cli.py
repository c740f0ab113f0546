"""`skyfog infer`: serve a language model, try one, run a file of requests through one.

Each verb stands in `cli_<topic>.py`, which imports what is heavy (torch, a web server) only when it runs.
"""

from __future__ import annotations

import typer

app = typer.Typer(
    help="Language models on few or small accelerators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _verbs() -> None:
    """Keeps a single verb from becoming the whole command."""
