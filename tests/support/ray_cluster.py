"""Run in Ray's environment: a cluster of three nodes on this machine, ordered about by lines on stdin.

    kill NODE | fill ZONE | empty | stop | go | end

A node is called as its zone. `stop` and `go` freeze the head's GCS, which answers every driver. Answers `ok` a line.
"""

from __future__ import annotations

import os
import signal
import sys

import ray
from ray.cluster_utils import Cluster

answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)
ZONE, CPUS = "ray.io/availability-zone", 8


def node(zone: str) -> dict[str, object]:
    return {
        "num_cpus": CPUS,
        "object_store_memory": 80 * 1024 * 1024,
        "labels": {ZONE: zone, "ray.io/availability-region": "here"},
    }


zones = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
raylets = {zone: cluster.add_node(**node(zone)) for zone in zones}
ray.init(address=cluster.address, namespace="test", log_to_driver=False)
gcs = cluster.head_node.all_processes["gcs_server"][0].process


@ray.remote(num_cpus=CPUS)
class Filler:
    def there(self) -> bool:
        return True


fillers = []
answers.write(f"{cluster.address}\n")
for line in sys.stdin:
    verb, *rest = line.split()
    match verb:
        case "kill":
            raylets[rest[0]].kill_raylet()
        case "revive":
            raylets[rest[0]] = cluster.add_node(**node(rest[0]))
        case "fill":
            fillers.append(Filler.options(label_selector={ZONE: rest[0]}).remote())
            ray.get(fillers[-1].there.remote())
        case "empty":
            for filler in fillers:
                ray.kill(filler)
            fillers.clear()
        case "stop":
            gcs.send_signal(signal.SIGSTOP)
        case "go":
            gcs.send_signal(signal.SIGCONT)
        case "end":
            break
    answers.write("ok\n")
