"""`skyfog infer pack`: a model's weights in the order in which they are streamed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skyfog_core.errors import ServiceFailed
from skyfog_inference.terminal import console, errors_of


def pack(
    model: Annotated[Path, typer.Argument(help="a folder with config.json and safetensors")],
    out: Annotated[Path, typer.Argument(help="a folder for the packed model, as large as the model")],
    dtype: Annotated[str, typer.Option(metavar="auto|float32|bfloat16|float16", help="auto: as stored")] = "auto",
) -> None:
    """Pack a model for `skyfog infer batch --offload`, which runs it in less memory than it has weights."""
    from rich.progress import Progress  # noqa: PLC0415

    from skyfog_inference.weights import pages  # noqa: PLC0415  # imports torch

    with errors_of("pack"):
        if dtype not in {"auto", *pages.DTYPES}:
            raise typer.BadParameter(f"should be one of auto, {', '.join(pages.DTYPES)}", param_hint="--dtype")
        with Progress(console=console(stderr=True)) as progress:
            bar = progress.add_task("layers")
            try:
                pages.pack(model, out, dtype, lambda done, total: progress.update(bar, completed=done, total=total))
            except OSError as error:
                raise ServiceFailed(f"{error.filename or out}: {error.strerror or error}") from None
        console().print(f"packed into {out}", markup=False)
