"""`skyfog infer`: serve a language model, try one, run a file of requests through one.

Each verb stands in `cli_<topic>.py`, which imports what is heavy (torch, a web server) only when it runs.
"""

from __future__ import annotations

import typer

from skyfog_inference.cli_batch import batch
from skyfog_inference.cli_generate import generate
from skyfog_inference.cli_pack import pack
from skyfog_inference.cli_profile import profile
from skyfog_inference.cli_serve import serve, status

app = typer.Typer(
    help="Language models on few or small accelerators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


for _verb in (serve, generate, batch, status, pack, profile):
    app.command()(_verb)
