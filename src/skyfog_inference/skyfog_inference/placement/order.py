"""In which order the parts of a decode step run when weights do not fit: task orders as plain data. Pure.

A decode step goes through `layers` layers, each for `micro_batches` micro-batches. Weights of layer i + 1 come over
the link while layer i computes, into the other half of a buffer of two layers. MoE-Lightning (section 4.1, figure 6)
compares four orders, which compute the same:

  S1  CGOPipe (algorithm 1): attention on the CPU, two micro-batches ahead of the GPU; weights paged, one page a
      micro-batch, so that hidden states slip in between two pages
  S2  the same overlap of CPU and GPU (FastDecode's), the weights of a layer in one piece behind its last hidden state
  S3  attention on the CPU, one micro-batch after the other (FlexGen with CPU attention), weights in one piece
  S4  attention on the GPU; keys and values of the next micro-batch come over the link (FlexGen), weights in one piece

Every resource runs its tasks one after another in the order of the list, and a task starts when those that it needs
have ended. So an executor needs a queue for each resource and an event for each task, and decides nothing. The list
itself is a valid order for one thread that runs everything.

A step begins with the weights of layer 0 in their place, and ends with them there again: layer `layers` of a
LOAD_WEIGHTS is layer 0 of the next step. What is streamed are the feed-forward weights, all experts of a layer; those
of attention stay where they are used, since the next layer's pre-attention begins before this layer's weights are done
with.

Where the tiers are RAM and disk there is no second processor: `without_host` makes the order that is left, in which
LOAD_WEIGHTS reads a page from disk and all computing is the GPU's part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

LOOK_AHEAD = 2  # micro-batches that attention on the CPU is ahead of the GPU (algorithm 1)
PINNED_PAGES = 4  # pages of the pinned buffer: two ahead, one on its way, one just gone


class Resource(Enum):
    """What runs one task at a time."""

    GPU = "GPU"
    CPU = "CPU"
    H2D = "H2D"  # host to device; from disk where that is the lower tier
    D2H = "D2H"
    PIN = "pin"  # copies from pageable into pinned memory


class Kind(Enum):
    """The parts of a step; the letters are those of figure 6."""

    PRE_ATTENTION = "A"  # norm, query, key, value
    CPU_ATTENTION = "B"
    GPU_ATTENTION = "G"  # S4, and orders without a host
    POST_ATTENTION = "C"  # output, norm, router, experts
    OFFLOAD_QKV = "D1"
    LOAD_HIDDEN = "D2"
    LOAD_WEIGHTS = "D3"  # one page
    LOAD_KV = "D4"  # S4 only
    PIN_WEIGHTS = "P"  # one page


RESOURCE = {
    Kind.PRE_ATTENTION: Resource.GPU,
    Kind.CPU_ATTENTION: Resource.CPU,
    Kind.GPU_ATTENTION: Resource.GPU,
    Kind.POST_ATTENTION: Resource.GPU,
    Kind.OFFLOAD_QKV: Resource.D2H,
    Kind.LOAD_HIDDEN: Resource.H2D,
    Kind.LOAD_WEIGHTS: Resource.H2D,
    Kind.LOAD_KV: Resource.H2D,
    Kind.PIN_WEIGHTS: Resource.PIN,
}


@dataclass(frozen=True, slots=True)
class Key:
    """Names one task of a step. Layers, micro-batches and pages count from 0.

    `part` is the page where weights move, else the micro-batch.
    """

    kind: Kind
    layer: int
    part: int


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done, and what must have ended before it starts (all of it stands earlier in the list)."""

    key: Key
    needs: tuple[Key, ...] = ()

    @property
    def resource(self) -> Resource:
        return RESOURCE[self.key.kind]


@dataclass(frozen=True, slots=True)
class Order:
    """All tasks of one step, in the order in which they are given to their resources."""

    name: str
    layers: int
    micro_batches: int
    pages: int  # of a layer's weights
    tasks: tuple[Task, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Shape:
    """Sizes of a step, and which tasks need which; the orders differ in how they line them up."""

    layers: int
    micro_batches: int
    pages: int
    attention: Kind  # which task attention is

    def pre(self, layer: int, part: int) -> Task:
        needs = (Key(Kind.POST_ATTENTION, layer - 1, part),) if layer else ()
        return Task(Key(Kind.PRE_ATTENTION, layer, part), needs)

    def offload(self, layer: int, part: int) -> Task:
        return Task(Key(Kind.OFFLOAD_QKV, layer, part), (Key(Kind.PRE_ATTENTION, layer, part),))

    def cpu_attention(self, layer: int, part: int) -> Task:
        return Task(Key(Kind.CPU_ATTENTION, layer, part), (Key(Kind.OFFLOAD_QKV, layer, part),))

    def gpu_attention(self, layer: int, part: int) -> Task:
        needs = (Key(Kind.PRE_ATTENTION, layer, part), Key(Kind.LOAD_KV, layer, part))
        return Task(Key(Kind.GPU_ATTENTION, layer, part), needs)

    def load_hidden(self, layer: int, part: int) -> Task:
        return Task(Key(Kind.LOAD_HIDDEN, layer, part), (Key(Kind.CPU_ATTENTION, layer, part),))

    def load_kv(self, layer: int, part: int) -> Task:
        """Into one of two buffers: the one before the last micro-batch must be through with its own."""
        at = layer * self.micro_batches + part - 2
        needs = (Key(Kind.GPU_ATTENTION, at // self.micro_batches, at % self.micro_batches),) if at >= 0 else ()
        return Task(Key(Kind.LOAD_KV, layer, part), needs)

    def post(self, layer: int, part: int) -> Task:
        before = Kind.LOAD_HIDDEN if self.attention is Kind.CPU_ATTENTION else Kind.GPU_ATTENTION
        weights = [Key(Kind.LOAD_WEIGHTS, layer, page) for page in range(self.pages)] if layer else []
        return Task(Key(Kind.POST_ATTENTION, layer, part), (Key(before, layer, part), *weights))

    def pin(self, layer: int, page: int) -> Iterator[Task]:
        """The page of a layer whose weights still come in this step, into the pinned buffer, a ring of pages."""
        if not 1 <= layer <= self.layers:
            return
        at = (layer - 1) * self.pages + page - PINNED_PAGES
        needs = (Key(Kind.LOAD_WEIGHTS, at // self.pages + 1, at % self.pages),) if at >= 0 else ()
        yield Task(Key(Kind.PIN_WEIGHTS, layer, page), needs)

    def load_weights(self, layer: int, page: int) -> Task:
        """Into the half of the buffer that held layer - 2, which must be through with it."""
        needs = [Key(Kind.PIN_WEIGHTS, layer, page)]
        if layer >= 2:
            needs.append(Key(Kind.POST_ATTENTION, layer - 2, self.micro_batches - 1))
        return Task(Key(Kind.LOAD_WEIGHTS, layer, page), tuple(needs))

    def ahead(self, layer: int, part: int, by: int) -> tuple[int, int]:
        """The micro-batch `by` places later: past the last one it is the next layer's."""
        return layer + (part + by) // self.micro_batches, (part + by) % self.micro_batches

    def begin(self, layer: int, part: int) -> Iterator[Task]:
        """Everything of a micro-batch up to attention on the CPU; nothing past the last layer."""
        if layer < self.layers:
            yield from (self.pre(layer, part), self.offload(layer, part), self.cpu_attention(layer, part))


def _overlapped(shape: _Shape, paged: bool) -> Iterator[Task]:
    """S1 and S2: algorithm 1, with one page behind every hidden state or all of a layer behind the last."""
    ahead = min(LOOK_AHEAD, shape.micro_batches)  # with one micro-batch there is nothing two ahead
    for part in range(ahead):
        yield from shape.begin(0, part)
        if part < shape.pages:
            yield from shape.pin(1, part)
    for layer in range(shape.layers):
        for part in range(shape.micro_batches):
            yield shape.load_hidden(layer, part)
            if paged or part == shape.micro_batches - 1:
                yield shape.load_weights(layer + 1, part if paged else 0)
            yield shape.post(layer, part)
            yield from shape.begin(*shape.ahead(layer, part, ahead))
            if paged:
                yield from shape.pin(*shape.ahead(layer + 1, part, ahead))
            elif part == shape.micro_batches - 1:
                yield from shape.pin(layer + 2, 0)


def _one_by_one(shape: _Shape) -> Iterator[Task]:
    """S3: the GPU waits for the CPU, and the CPU for the GPU."""
    yield from shape.pin(1, 0)
    for layer in range(shape.layers):
        for part in range(shape.micro_batches):
            yield from shape.begin(layer, part)
            yield shape.load_hidden(layer, part)
            if part == shape.micro_batches - 1:
                yield shape.load_weights(layer + 1, 0)
                yield from shape.pin(layer + 2, 0)
            yield shape.post(layer, part)


def _on_gpu(shape: _Shape) -> Iterator[Task]:
    """S4: keys and values of the next micro-batch are on their way while this one computes."""
    yield from shape.pin(1, 0)
    yield shape.load_kv(0, 0)
    for layer in range(shape.layers):
        for part in range(shape.micro_batches):
            if part == shape.micro_batches - 1:
                yield shape.load_weights(layer + 1, 0)
                yield from shape.pin(layer + 2, 0)
            following = shape.ahead(layer, part, 1)
            if following[0] < shape.layers:
                yield shape.load_kv(*following)
            yield shape.pre(layer, part)
            yield shape.offload(layer, part)
            yield shape.gpu_attention(layer, part)
            yield shape.post(layer, part)


def _build(name: str, layers: int, micro_batches: int) -> Order:
    if layers < 1 or micro_batches < 1:
        raise ValueError(f"{name}: needs a layer and a micro-batch, not {layers} and {micro_batches}")
    pages = micro_batches if name == "S1" else 1
    attention = Kind.GPU_ATTENTION if name == "S4" else Kind.CPU_ATTENTION
    shape = _Shape(layers, micro_batches, pages, attention)
    tasks = {
        "S1": lambda: _overlapped(shape, paged=True),
        "S2": lambda: _overlapped(shape, paged=False),
        "S3": lambda: _one_by_one(shape),
        "S4": lambda: _on_gpu(shape),
    }[name]()
    return Order(name, layers, micro_batches, pages, tuple(tasks))


def cgopipe(layers: int, micro_batches: int) -> Order:
    """S1: CGOPipe. Raises ValueError for sizes below 1, as the others do."""
    return _build("S1", layers, micro_batches)


def fastdecode(layers: int, micro_batches: int) -> Order:
    """S2: attention on the CPU beside the GPU, weights in one piece."""
    return _build("S2", layers, micro_batches)


def flexgen_cpu(layers: int, micro_batches: int) -> Order:
    """S3: FlexGen with attention on the CPU."""
    return _build("S3", layers, micro_batches)


def flexgen(layers: int, micro_batches: int) -> Order:
    """S4: FlexGen with attention on the GPU."""
    return _build("S4", layers, micro_batches)


ORDERS: dict[str, Callable[[int, int], Order]] = {"S1": cgopipe, "S2": fastdecode, "S3": flexgen_cpu, "S4": flexgen}

_MOVES = (Kind.OFFLOAD_QKV, Kind.LOAD_HIDDEN, Kind.LOAD_KV, Kind.PIN_WEIGHTS)


def without_host(order: Order) -> Order:
    """The same order where one processor computes everything and only weights move, as from disk to RAM.

    Attention becomes the GPU's; what needed a transfer that falls away needs what that one needed. A page that stood
    in the queue of the link behind a hidden state still does not start before that state was there.
    """
    gone: dict[Key, tuple[Key, ...]] = {}
    behind: tuple[Key, ...] = ()  # what the last transfer of the link that fell away needed
    tasks = []
    for task in order.tasks:
        needs = [new for need in task.needs for new in gone.get(need, (_on_one(need),))]
        if task.key.kind in _MOVES:
            gone[task.key] = tuple(needs)
            if task.resource is Resource.H2D:
                behind = tuple(needs)
            continue
        if task.key.kind is Kind.LOAD_WEIGHTS:
            needs.extend(behind)
        tasks.append(Task(_on_one(task.key), tuple(dict.fromkeys(needs))))
    return Order(order.name, order.layers, order.micro_batches, order.pages, tuple(tasks))


def _on_one(key: Key) -> Key:
    return Key(Kind.GPU_ATTENTION, key.layer, key.part) if key.kind is Kind.CPU_ATTENTION else key
