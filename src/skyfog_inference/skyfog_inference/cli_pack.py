"""`skyfog infer pack`: a model's weights as pages that can be streamed from disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from skyfog_core.config.base import parse
from skyfog_core.config.inference import EngineConfig
from skyfog_core.errors import ConfigError
from skyfog_inference.options import of
from skyfog_inference.terminal import console, errors_of


def pack(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="a folder with config.json and safetensors")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="folder for the pages; as large as the model")],
    dtype: Annotated[str | None, of(EngineConfig, "dtype")] = None,
) -> None:
    """Write a model so that `--memory-mb` can stream what memory does not hold."""
    from skyfog_core import extras  # noqa: PLC0415

    with errors_of("pack"):
        chosen = parse(EngineConfig, {"dtype": dtype or "auto"}, "options").dtype
        extras.need("inference", "torch", "safetensors")
        from skyfog_inference.weights import pages  # noqa: PLC0415 - torch takes seconds to import

        with Progress(console=console(stderr=True)) as progress:
            bar = progress.add_task(f"packing {model}", total=None)
            try:
                pages.pack(
                    Path(model), out, chosen, lambda done, layers: progress.update(bar, completed=done, total=layers)
                )
            except OSError as error:
                raise ConfigError(f"{error.filename or out}: {error.strerror or error}") from None
        console().print(f"{out}: {(out / pages.PAGES).stat().st_size / 1e9:.2f} GB", markup=False, highlight=False)
