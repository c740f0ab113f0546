"""`skyfog infer generate`: a quick try of a model, printed as it comes."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from skyfog_core.config.inference import EngineConfig
from skyfog_inference.options import Config, Set, configured, of
from skyfog_inference.terminal import errors_of


def generate(
    prompt: Annotated[str, typer.Argument(help="what is asked, or with --raw the text to go on with")],
    model: Annotated[str | None, of(EngineConfig, "model", metavar="MODEL")] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens")] = 256,
    temperature: Annotated[float, typer.Option("--temperature", help="0: the most likely token")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p")] = 1.0,
    seed: Annotated[int | None, typer.Option("--seed", min=0)] = None,
    system: Annotated[str, typer.Option("--system", help="a system message before it")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="no chat template: go on with the text as it is")] = False,
    config: Config = None,
    threads: Annotated[int | None, of(EngineConfig, "threads")] = None,
    sets: Set = None,
) -> None:
    """Ask a model once; its answer goes to the terminal token by token."""
    from skyfog_core import extras  # noqa: PLC0415  # what other verbs need not import
    from skyfog_core.logs import configure_logs  # noqa: PLC0415
    from skyfog_inference import served  # noqa: PLC0415
    from skyfog_inference.request import SamplingParams  # noqa: PLC0415

    configure_logs("infer")
    with errors_of("generate"):
        params = SamplingParams(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
        wanted = configured(config, {"engine.model": model, "engine.threads": threads}, sets)
        extras.need("inference", *served.NEEDS)
        ready = served.load(wanted.engine)
        out = Console(highlight=False, soft_wrap=True)
        try:
            turns = [{"role": "system", "content": system}] if system else []
            turns.append({"role": "user", "content": prompt})
            tokens = ready.encode(prompt) if raw else ready.encode_chat(turns)
            for event in ready.submit(tokens, params):
                if event.error is not None:
                    raise event.error
                out.print(event.text, end="", markup=False)
            out.print()
        finally:
            ready.close()
