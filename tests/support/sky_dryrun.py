"""Run in SkyPilot's environment: a task (JSON on stdin) through SkyPilot's own checks and optimiser, nothing launched.

Prints, as JSON, the machine that it chose. That the cloud is enabled is said here, since without credentials none is.
"""

from __future__ import annotations

import json
import os
import sys

import sky
from sky import check, execution, optimizer

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
asked = json.load(sys.stdin)
check.get_cached_enabled_clouds_or_refresh = lambda *_, **__: [sky.clouds.GCP()]
task = sky.Task.from_yaml_config(asked["task"])
execution.launch(task, cluster_name=asked["name"], dryrun=True)
with sky.Dag() as dag:
    dag.add(task)
best = optimizer.Optimizer.optimize(dag, quiet=True).tasks[0].best_resources  # of a launch, only printed
answers.write(
    json.dumps(
        {
            "region": best.region,
            "zone": best.zone,
            "instance_type": best.instance_type,
            "spot": best.use_spot,
            "ports": best.ports,
            "labels": best.labels,
            "envs": task.envs,
        }
    )
)
answers.close()
