"""The part of `skyfog infer profile` that measures a model: NEO's table, the section `stages`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skyfog_core.config.inference import EngineConfig


def stages(config: EngineConfig, quick: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """The section, measured with the threads and caches of `config`. Raises ConfigError.

    Where it gives the host no memory, the host gets as much as the device.
    """
    from skyfog_core import extras  # noqa: PLC0415
    from skyfog_inference import served  # noqa: PLC0415

    extras.need("inference", *served.NEEDS)
    from skyfog_inference import assembly  # noqa: PLC0415 - torch takes seconds to import
    from skyfog_inference.cost.table import SECTION  # noqa: PLC0415
    from skyfog_inference.profile_neo import QUICK, Grid  # noqa: PLC0415

    if not config.host_kv_mb:
        config = config.model_copy(update={"host_kv_mb": config.device_kv_mb})
    whole = Grid(most_tokens=config.max_batched_tokens, most_prompt=config.max_batched_tokens)
    table = assembly.profiled(config, QUICK if quick else whole, say)
    one = f"one decode: {table.layers * table.linear_ms(1) + table.other_ms(1):.1f} ms without attention"
    say(f"{table.model}, {table.dtype}, threads {table.device_threads} and {table.host_threads}; {one}")
    return {SECTION: table.model_dump(mode="json")}
