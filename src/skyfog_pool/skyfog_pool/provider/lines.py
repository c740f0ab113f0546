"""The far end of program.py, in a Python of its own: requests as JSON lines on stdin, answers on stdout.

    {"ready": true}                                         once, at the start
    {"id": 7, "do": "launch", "with": {"name": …}}     ->   {"id": 7, "result": …}
                                                       or   {"id": 7, "error": {"kinds": ["ValueError", "Exception"],
                                                                                "message": …, "causes": [message, …]}}

Standard library only: our own packages are not installed where this runs. Each request has a thread, since one that
hangs must not keep others waiting; the near end bounds how many there are.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

Handler = Callable[..., object]
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def serve(handlers: Mapping[str, Handler], prepare: Callable[[], object] = lambda: None) -> None:
    """Answer until the near end closes stdin or dies; does not return. `prepare` comes first, and may print."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    sys.stdout = sys.stderr
    lock = threading.Lock()

    def say(answer: Mapping[str, object]) -> None:
        line = json.dumps(answer) + "\n"
        with lock:
            answers.write(line)

    def work(request: Mapping[str, Any]) -> None:
        try:
            answer = {"id": request["id"], "result": handlers[request["do"]](**request["with"])}
            json.dumps(answer)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the near end is told
            answer = {"id": request["id"], "error": describe(error)}
        say(answer)

    try:
        prepare()
    except Exception as error:  # noqa: BLE001  # as last words
        sys.stderr.write(plain(error) + "\n")
        sys.stderr.flush()
        os._exit(1)
    say({"ready": True})
    for line in sys.stdin:
        threading.Thread(target=work, args=(json.loads(line),), daemon=True).start()
    os._exit(0)  # threads that hang in a library are not waited for


def describe(error: BaseException) -> dict[str, object]:
    """An error by the names of its classes, most special first; `causes` is SkyPilot's history of what it tried."""
    causes = [plain(cause) for cause in getattr(error, "failover_history", ())]
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind is not object]
    return {"kinds": kinds, "message": plain(error), "causes": causes}


def plain(error: BaseException) -> str:
    """An error's message in one line, without colours; its class where it has none."""
    return " ".join(_COLOURS.sub("", str(error)).split()) or type(error).__name__
