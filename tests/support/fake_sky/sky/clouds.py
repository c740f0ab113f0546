"""One cloud with four zones, one kind of machine in each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ZONES = ("us-central1-a", "us-central1-b", "europe-west4-a", "europe-west4-b")


class GCP:
    def get_feasible_launchable_resources(self, resources: Resources, num_nodes: int) -> SimpleNamespace:
        machine = resources.instance_type or "n2-standard-4"
        return SimpleNamespace(resources_list=[resources.copy(cloud=self, instance_type=machine)])

    def __str__(self) -> str:
        return "GCP"


class Resources:
    def __init__(
        self,
        infra: str = "",
        instance_type: str = "",
        use_spot: bool = False,
        cloud: GCP | None = None,
        **others: Any,
    ) -> None:
        cloud_name, region, zone = [*infra.split("/"), "", "", ""][:3]
        self.cloud = GCP() if cloud_name else cloud
        self.region = region or None
        self.zone = zone or None
        self.instance_type = instance_type
        self.accelerators = None
        self.use_spot = use_spot
        self.others = others

    def copy(self, **changes: Any) -> Resources:
        return Resources(**{**self.to_yaml_config(), "cloud": self.cloud, **changes})

    def get_cost(self, seconds: float) -> float:
        prices = json.loads((Path(os.environ["SKYFOG_FAKE_SKY"]) / "prices.json").read_text())
        return float(prices[self.zone]["spot" if self.use_spot else "on_demand"])

    def to_yaml_config(self) -> dict[str, Any]:
        infra = "/".join(part for part in ("gcp" if self.cloud else "", self.region, self.zone) if part)
        return {**self.others, "infra": infra, "instance_type": self.instance_type, "use_spot": self.use_spot}
