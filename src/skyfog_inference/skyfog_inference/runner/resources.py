"""Runs a task order: a thread for each resource takes its tasks in turn, each once what it needs has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable

from skyfog_inference.placement.order import Key, Order, Resource, Task

JOIN_LIMIT_S = 60.0

Perform = Callable[[Key], None]


def run(order: Order, perform: Perform, overlap: bool = True) -> None:
    """Perform every task; those of the GPU by the calling thread. The first error ends it and is raised.

    Without `overlap` the calling thread performs all of them, one after another.
    """
    if not overlap:
        for task in order.tasks:
            perform(task.key)
        return
    run_of_order = _Run(order, perform)
    mine = [task for task in order.tasks if task.resource is Resource.GPU]
    others = [[task for task in order.tasks if task.resource is resource] for resource in Resource]
    threads = [
        threading.Thread(target=run_of_order.take, args=(tasks,), name=f"order-{tasks[0].resource.value}", daemon=True)
        for tasks in others
        if tasks and tasks[0].resource is not Resource.GPU
    ]
    for thread in threads:
        thread.start()
    run_of_order.take(mine)
    for thread in threads:
        thread.join(JOIN_LIMIT_S)
    if run_of_order.error is not None:
        raise run_of_order.error


class _Run:
    def __init__(self, order: Order, perform: Perform) -> None:
        self._perform = perform
        self._ended = {task.key: threading.Event() for task in order.tasks}
        self.error: BaseException | None = None

    def take(self, tasks: list[Task]) -> None:
        """One resource's tasks."""
        try:
            for task in tasks:
                for need in task.needs:
                    self._ended[need].wait()
                if self.error is not None:
                    return
                self._perform(task.key)
                self._ended[task.key].set()
        except BaseException as error:  # noqa: BLE001 - raised again by `run`, in the thread that called it
            self.error = self.error or error
            for event in self._ended.values():  # nobody waits for what will not come
                event.set()
