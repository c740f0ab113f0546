"""When each task of an order runs, given what each kind costs: makespan and bubbles. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from skyfog_inference.placement.order import Key, Kind, Order, Resource


@dataclass(frozen=True, slots=True)
class Costs:
    """How long the task of each kind takes for one micro-batch, and the weights of one whole layer; any one unit."""

    pre_attention: float
    cpu_attention: float
    gpu_attention: float
    post_attention: float
    offload_qkv: float
    load_hidden: float
    load_kv: float
    layer_weights: float  # over the link; its pages share it
    pin_layer: float = 0.0

    def of(self, kind: Kind, pages: int) -> float:
        """Of one task."""
        return {
            Kind.PRE_ATTENTION: self.pre_attention,
            Kind.CPU_ATTENTION: self.cpu_attention,
            Kind.GPU_ATTENTION: self.gpu_attention,
            Kind.POST_ATTENTION: self.post_attention,
            Kind.OFFLOAD_QKV: self.offload_qkv,
            Kind.LOAD_HIDDEN: self.load_hidden,
            Kind.LOAD_KV: self.load_kv,
            Kind.LOAD_WEIGHTS: self.layer_weights / pages,
            Kind.PIN_WEIGHTS: self.pin_layer / pages,
        }[kind]


@dataclass(frozen=True, slots=True)
class Timeline:
    """Start and end of every task."""

    order: Order
    spans: Mapping[Key, tuple[float, float]]

    @property
    def makespan(self) -> float:
        return max(end for _, end in self.spans.values())

    def busy(self, resource: Resource) -> float:
        """How long a resource works."""
        keys = (task.key for task in self.order.tasks if task.resource is resource)
        return sum(self.spans[key][1] - self.spans[key][0] for key in keys)

    def idle_share(self, resource: Resource) -> float:
        """The bubbles: which part of the makespan it does nothing."""
        return 1 - self.busy(resource) / self.makespan if self.makespan else 0.0


def simulate(order: Order, costs: Costs) -> Timeline:
    """Run an order: every resource takes its tasks in turn, each as soon as what it needs has ended."""
    free = dict.fromkeys(Resource, 0.0)
    spans: dict[Key, tuple[float, float]] = {}
    for task in order.tasks:
        start = max([free[task.resource], *(spans[need][1] for need in task.needs)])
        end = start + costs.of(task.key.kind, order.pages)
        free[task.resource] = end
        spans[task.key] = (start, end)
    return Timeline(order, spans)
