"""`skyfog infer serve` and `status`: an OpenAI-compatible server, and how it does."""

from __future__ import annotations

from typing import Annotated

import typer

from skyfog_core.config.inference import EngineConfig, ServerConfig
from skyfog_inference.options import Config, Set, configured, of
from skyfog_inference.terminal import console, errors_of

Model = Annotated[str | None, typer.Argument(help="a folder, a .gguf file or smollm2; without it the file's")]


def serve(
    model: Model = None,
    config: Config = None,
    port: Annotated[int | None, of(ServerConfig, "port")] = None,
    host: Annotated[str | None, of(ServerConfig, "host")] = None,
    api_key: Annotated[
        str | None, typer.Option("--api-key", envvar="SKYFOG_API_KEY", help="clients must send it; none: all may come")
    ] = None,
    name: Annotated[str | None, of(EngineConfig, "served_name", "--name")] = None,
    scheduler: Annotated[str | None, of(EngineConfig, "scheduler", metavar="fcfs|neo")] = None,
    threads: Annotated[int | None, of(EngineConfig, "threads")] = None,
    max_context: Annotated[int | None, of(EngineConfig, "max_context")] = None,
    device_kv_mb: Annotated[int | None, of(EngineConfig, "device_kv_mb")] = None,
    sets: Set = None,
) -> None:
    """Serve a model over HTTP, as the OpenAI API has it, until Ctrl-C. Status 2 where the set-up is wrong."""
    from skyfog_core import extras  # noqa: PLC0415  # what other verbs need not import
    from skyfog_core.logs import configure_logs  # noqa: PLC0415
    from skyfog_inference import served  # noqa: PLC0415
    from skyfog_inference.server.serve import bound  # noqa: PLC0415
    from skyfog_inference.server.serve import serve as serve_until_told  # noqa: PLC0415

    configure_logs("infer")
    with errors_of("serve"):
        options = {
            "engine.model": model,
            "engine.served_name": name,
            "engine.scheduler": scheduler,
            "engine.threads": threads,
            "engine.max_context": max_context,
            "engine.device_kv_mb": device_kv_mb,
            "server.port": port,
            "server.host": host,
            "server.api_key": api_key,
        }
        wanted = configured(config, options, sets)
        extras.need("inference", *served.NEEDS)
        with bound(wanted.server) as door:  # before the model is read, which takes a while
            ready = served.load(wanted.engine)
            try:
                serve_until_told(ready, wanted.server, door)
            finally:
                ready.close()


def status(
    url: Annotated[str, typer.Argument(help="of the server")] = "http://127.0.0.1:8000",
    limit_s: Annotated[float, typer.Option("--wait", min=0.1, max=60, help="seconds for its answer")] = 5.0,
) -> None:
    """How a server does: requests, tokens, cache, times. Status 1 where it does not answer."""
    from skyfog_inference.server.look import look  # noqa: PLC0415

    with errors_of("status"):
        console().print(look(url, limit_s))
