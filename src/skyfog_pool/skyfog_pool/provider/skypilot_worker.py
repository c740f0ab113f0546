"""What the `skypilot` provider does in SkyPilot's own environment: skypilot.py asks, by JSON lines (lines.py).

Through SkyPilot's SDK, that is through its API server, which the SDK starts on this machine where none is configured:
`sky status` of a user shows the same clusters. Only the catalogue of zones and prices is read here.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import sky
from sky.client import sdk
from sky.utils import registry, resources_utils

from skyfog_pool.provider.lines import plain, serve

Record = dict[str, Any]


class Clusters:
    """Clusters by name. A launch that is asked for while it is under way is waited for, not repeated."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._launches: dict[str, Future[None]] = {}
        self._requests: dict[str, str] = {}  # SkyPilot's, of launches under way
        self._downs: set[str] = set()  # under way
        self._failed: dict[str, str] = {}  # why the last down did
        self._endpoints: dict[str, str] = {}

    def launch(self, name: str, task: Record, dryrun: bool = False) -> Record:
        """The cluster, once its task was started. Raises what SkyPilot raises."""
        with self._lock:
            launch = self._launches.get(name)
            mine = launch is None
            if launch is None:
                launch = self._launches[name] = Future()
        if mine:
            try:
                self._launch(name, task, dryrun)
            except BaseException as error:  # noqa: BLE001  # told to all who wait
                launch.set_exception(error)
            else:
                launch.set_result(None)
            finally:
                with self._lock:
                    self._launches.pop(name, None)
                    self._requests.pop(name, None)
        launch.result()
        return next(iter(_records([name])), {})

    def _launch(self, name: str, task: Record, dryrun: bool) -> None:
        if not dryrun and _records([name]):
            return
        request = sky.launch(sky.Task.from_yaml_config(task), cluster_name=name, dryrun=dryrun)
        with self._lock:
            self._requests[name] = request
        sky.get(request)

    def clusters(self, prefix: str, port: int) -> list[Record]:
        """Those whose names begin so, as their clouds have them now, with the address of `port`.

        `going`: a down is under way; one that has failed is to be asked for again.
        """
        with self._lock:
            going = set(self._downs)
        names = [record["name"] for record in _records(None, sky.StatusRefreshMode.NONE)]
        wanted = [name for name in names if name.startswith(prefix)]
        found = _records(wanted, sky.StatusRefreshMode.FORCE) if wanted else []
        with self._lock:
            going |= self._downs
        for record in found:
            record["going"] = record["name"] in going
            if record["status"] == "UP":
                record["endpoint"] = self._endpoint(record["name"], port)
        return found

    def _endpoint(self, name: str, port: int) -> str:
        if name not in self._endpoints:
            with contextlib.suppress(ValueError, RuntimeError):  # not exposed yet
                found = sky.get(sdk.endpoints(name, port))
                self._endpoints[name] = next((address for key, address in found.items() if int(key) == port), "")
        return self._endpoints.get(name, "")

    def down(self, name: str) -> None:
        """Begin to give the cluster back. Raises RuntimeError where the last try, which is repeated, had failed."""
        with self._lock:
            if name in self._downs:
                return
            self._downs.add(name)
            failed, request = self._failed.pop(name, ""), self._requests.get(name)
        try:
            if request is not None:
                sky.get(sdk.api_cancel(request, silent=True))
            asked = sky.down(name)
        except BaseException:
            with self._lock:
                self._downs.discard(name)
            raise
        threading.Thread(target=self._wait_down, args=(name, asked), daemon=True).start()
        if failed:
            raise RuntimeError(failed)

    def _wait_down(self, name: str, asked: str) -> None:
        try:
            sky.get(asked)
        except sky.exceptions.ClusterDoesNotExist:
            pass
        except Exception as error:  # noqa: BLE001  # told at the next try
            with self._lock:
                self._failed[name] = plain(error)
        finally:
            with self._lock:
                self._downs.discard(name)
                self._endpoints.pop(name, None)


def _records(names: list[str] | None, refresh: Any = None) -> list[Record]:
    mode = refresh or sky.StatusRefreshMode.NONE
    return [_record(found) for found in sky.get(sky.status(names, refresh=mode))]


def _record(found: Any) -> Record:
    """A cluster in plain words. Before its machine is chosen it has no resources."""
    resources = getattr(found["handle"], "launched_resources", None)
    record = {
        "name": found["name"],
        "status": found["status"].name,
        "init_kind": found.get("init_kind"),
        "launched_at": found["launched_at"],
        "endpoint": "",
    }
    return record if resources is None else record | _launchable(resources)


def _launchable(resources: Any) -> Record:
    return {
        "cloud": str(resources.cloud).lower(),
        "region": resources.region or "",
        "zone": resources.zone or "",
        "spot": bool(resources.use_spot),
        "price": resources.get_cost(3600) if resources.instance_type or resources.accelerators else 0.0,
    }


def offers(resources: list[Record], enabled: list[str]) -> list[Record]:
    """Every machine that fits, zone by zone and on both markets. Those without a cloud: of all the `enabled` ones."""
    return [
        _launchable(each) | {"resources": each.to_yaml_config()}
        for wanted in resources
        for spot in (True, False)
        for each in _fitting({**wanted, "use_spot": spot}, enabled)
    ]


def _fitting(wanted: Record, enabled: list[str]) -> Iterator[Any]:
    for resources in sky.Task.from_yaml_config({"run": "true", "resources": wanted}).resources:
        named = resources.cloud
        clouds = [named] if named is not None else [registry.CLOUD_REGISTRY.from_str(name) for name in enabled]
        for cloud in clouds:
            placed = resources.copy(cloud=cloud)
            for feasible in cloud.get_feasible_launchable_resources(placed, num_nodes=1).resources_list:
                # By zone, where a cloud has zones.
                yield from resources_utils.make_launchables_for_valid_region_zones(
                    feasible, override_optimize_by_zone=True
                )


def enabled() -> list[str]:
    """Clouds that SkyPilot has credentials for. Starts its API server where that does not run."""
    return [str(cloud).lower() for cloud in sky.get(sdk.enabled_clouds())]


def logs(name: str, lines: int) -> list[str]:
    """The newest lines of what the cluster's newest job printed."""
    printed = io.StringIO()
    sky.tail_logs(name, None, follow=False, tail=lines, output_stream=printed)
    return printed.getvalue().splitlines()[-lines:]


def main() -> None:
    """Answer skypilot.py until it ends."""
    clusters = Clusters()
    serve(
        {
            "enabled": enabled,
            "offers": offers,
            "launch": clusters.launch,
            "clusters": clusters.clusters,
            "down": clusters.down,
            "logs": logs,
        }
    )


if __name__ == "__main__":
    main()
