from __future__ import annotations

from typing import Any

import pytest

from skyfog_core.config.base import parse
from skyfog_core.config.pool import Resources
from skyfog_core.errors import ConfigError
from skyfog_pool.provider.base import Misconfigured
from skyfog_pool.provider.ray import GIB, actor_resources
from skyfog_pool.provider.table import make_provider
from support.fake_sky_cloud import sky_spec


def resources(**values: Any) -> Resources:
    return parse(Resources, values, "test")


def test_amounts_are_skypilots() -> None:
    assert actor_resources(resources()) == ({"num_cpus": 1.0}, {})
    assert actor_resources(resources(cpus="4+", memory=16)) == ({"num_cpus": 4.0, "memory": 16 * GIB}, {})
    wanted = ({"num_cpus": 1.0, "num_gpus": 2.0}, {"ray.io/accelerator-type": "L4"})
    assert actor_resources(resources(accelerators="L4:2")) == wanted
    assert actor_resources(resources(accelerators={"L4": 2})) == wanted
    assert actor_resources(resources(accelerators="L4"))[0]["num_gpus"] == 1.0


def test_what_is_no_amount_is_named() -> None:
    with pytest.raises(Misconfigured, match=r"resources\.cpus: '4-8' is not a number"):
        actor_resources(resources(cpus="4-8"))


def test_a_wrong_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"placelimit_s: unknown key; did you mean 'place_limit_s'\?"):
        make_provider(sky_spec(provider="ray", provider_options={"placelimit_s": "auto"}), "detect")
