"""A cloud as the fake SkyPilot has it, seen from outside: for the conformance suite and for tests of the provider."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import skyfog_pool
from skyfog_core.config.base import parse
from skyfog_core.config.pool import ServiceSpec
from skyfog_pool.policy.market import LaunchFault
from skyfog_pool.provider.program import Program
from skyfog_pool.provider.skypilot import WORKER, SkyPilotOptions, SkyPilotProvider
from support.conformance import Ability

FAKE_SKY = Path(__file__).parent / "fake_sky"
PRICES = {
    "us-central1-a": (0.06, 0.2),
    "us-central1-b": (0.066, 0.2),
    "europe-west4-a": (0.077, 0.22),
    "europe-west4-b": (0.083, 0.22),
}


def sky_spec(**more: Any) -> ServiceSpec:
    """A spec for the fake."""
    plain = {"service": {"replicas": 2}, "resources": {"infra": "gcp", "use_spot": True}, "provider": "skypilot"}
    return parse(ServiceSpec, {**plain, **more}, "test")


class FakeSkyCloud:
    """A conformance Cloud."""

    pool = "detect"
    zones = ("us-central1-a", "europe-west4-b")
    limit_s = 30.0
    hang_limit_s = 20.0
    lacks: Mapping[Ability, str] = {"notice": "SkyPilot tells of none: the machine's own metadata does"}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "clusters").mkdir(parents=True)
        self.outage("")
        self._write("faults", [])
        self._write("enabled", ["GCP"])
        self._prices = {zone: {"spot": spot, "on_demand": other} for zone, (spot, other) in PRICES.items()}
        self._write("prices", self._prices)
        self._providers: list[SkyPilotProvider] = []

    def provider(self, spec: ServiceSpec | None = None, call_limit_s: float = 2.0) -> SkyPilotProvider:
        options = SkyPilotOptions(
            call_limit_s=call_limit_s, launch_limit_s=3.0, prices_every_s=0.2, workspace="/srv/skyfog"
        )
        found_in = Path(skyfog_pool.__file__).parents[1]
        environment = {"PYTHONPATH": f"{found_in}:{FAKE_SKY}", "SKYFOG_FAKE_SKY": str(self.folder)}
        program = Program("skypilot", Path(sys.executable), WORKER, environment)
        made = SkyPilotProvider(spec or sky_spec(), self.pool, options, program)
        self._providers.append(made)
        return made

    def machines(self) -> int:
        return len(list((self.folder / "clusters").glob("*.json")))

    def cluster(self, name: str) -> dict[str, Any]:
        """What the cloud has of one: its task, and how often that was run."""
        made: dict[str, Any] = json.loads((self.folder / "clusters" / f"{name}.json").read_text())
        return made

    def set_status(self, name: str, status: str) -> None:
        made = self.cluster(name) | {"status": status}
        (self.folder / "clusters" / f"{name}.json").write_text(json.dumps(made))

    def fail_launch(self, fault: LaunchFault | Literal["lost"], zone: str) -> None:
        faults = json.loads((self.folder / "faults.json").read_text())
        self._write("faults", [*faults, [fault, zone]])

    def outage(self, kind: Literal["", "error", "hang"]) -> None:
        (self.folder / "outage").write_text(kind)

    def preempt(self, instance: str) -> None:
        (self.folder / "clusters" / f"{instance}.json").unlink()

    crash = preempt

    def price(self, zone: str, usd: float) -> None:
        self._prices[zone]["spot"] = usd
        self._write("prices", self._prices)

    def enable(self, *clouds: str) -> None:
        self._write("enabled", clouds)

    def close(self) -> None:
        for provider in self._providers:
            provider.close()

    def _write(self, name: str, value: object) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps(value))
