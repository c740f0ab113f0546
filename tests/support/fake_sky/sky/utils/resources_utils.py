"""Which zones a machine may be launched in."""

from __future__ import annotations

from sky.clouds import ZONES, Resources


def make_launchables_for_valid_region_zones(resources: Resources, override_optimize_by_zone: bool) -> list[Resources]:
    assert override_optimize_by_zone
    found = [resources.copy(infra=f"gcp/{zone.rpartition('-')[0]}/{zone}") for zone in ZONES]
    return [each for each in found if resources.region in {None, each.region} and resources.zone in {None, each.zone}]
