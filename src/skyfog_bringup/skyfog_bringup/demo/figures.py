"""Pictures of a run: latency over time with the faults marked, and photographs with the boxes that were answered."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt  # only after the back end was chosen

from skyfog_bringup.demo.ledger import Request
from skyfog_bringup.demo.summary import Injected, zone_of
from skyfog_bringup.demo.view import COLOURS
from skyfog_bringup.images import Images, Rgb
from skyfog_core.units import S

MOST_PHOTOGRAPHS = 6
SHOWN_WIDTH = 900  # smaller photographs are enlarged to it, for the labels to be legible
BOX_COLOURS = [(214, 39, 40), (31, 119, 180), (44, 160, 44), (148, 103, 189), (255, 127, 14), (0, 150, 160)]
FONT = cv2.FONT_HERSHEY_DUPLEX


def plot_latency(
    requests: Sequence[Request],
    injected: Sequence[Injected],
    zones: Mapping[str, int],
    start_ns: int,
    end_ns: int,
    to: Path,
) -> None:
    """A point for each request, coloured by the zone that won. `zones`: name -> added latency in ms, nearest first."""
    figure, axes = plt.subplots(figsize=(11, 5.2), layout="constrained")
    colours = dict(zip(zones, COLOURS, strict=False))
    won = {zone: [r for r in requests if r.ok and zone_of(r.replica) == zone] for zone in zones}
    for zone, added_ms in zones.items():
        label = f"{zone} (+{added_ms} ms): first {len(won[zone])} times"
        _points(axes, won[zone], start_ns, colour=colours[zone], label=label)
    _points(axes, [r for r in requests if r.ok and not r.replica], start_ns, colour="0.5", label="winner unknown")
    failed = [r for r in requests if not r.ok]
    _points(axes, failed, start_ns, colour="red", label=f"failed: {len(failed)}", marker="x")
    top = max((request.ms for request in requests), default=100.0) * 1.12
    axes.set_ylim(0, top)
    axes.set_xlim(0, (end_ns - start_ns) / S)
    for fault in injected:
        at_s = (fault.t_ns - start_ns) / S
        axes.axvline(at_s, color="black", linewidth=1.2, linestyle="--")
        text = f"{zone_of(fault.replica)}\n{fault.kind.done} ({fault.kind})"
        axes.annotate(
            text, (at_s, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 5), textcoords="offset points",
            ha="center", va="bottom", fontsize=9.5, annotation_clip=False,
        )  # fmt: skip
    axes.set_xlabel("time since the start, s")
    axes.set_ylabel("latency as the camera saw it, ms")
    axes.grid(alpha=0.3)
    title = f"{len(requests)} requests to /detect, {len(failed)} failed"
    figure.suptitle(title, fontsize=13, x=0.01, ha="left")
    if requests:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9.5)
    figure.savefig(to, dpi=120)
    plt.close(figure)


def _points(
    axes: Any, requests: Sequence[Request], start_ns: int, *, colour: str, label: str, marker: str = "o"
) -> None:
    if requests:
        at_s = [(request.sent_ns - start_ns) / S for request in requests]
        axes.scatter(at_s, [r.ms for r in requests], s=22, color=colour, label=label, marker=marker, zorder=3)


def chosen(requests: Sequence[Request]) -> list[Request]:
    """Requests worth a picture: each image once, with something found, winners in turn, spread over the run."""
    by_image: dict[str, list[Request]] = {}
    for request in requests:
        if request.ok and request.detections:
            by_image.setdefault(request.image, []).append(request)
    names = list(by_image)
    if len(names) > MOST_PHOTOGRAPHS:
        names = [names[round(place)] for place in np.linspace(0, len(names) - 1, MOST_PHOTOGRAPHS)]
    used: Counter[str] = Counter()
    found = []
    for name in names:
        best = min(by_image[name], key=lambda request: used[request.replica])
        used[best.replica] += 1
        found.append(best)
    return found


def write_photographs(requests: Sequence[Request], images: Images, start_ns: int, folder: Path) -> list[Path]:
    """annotated_<image>.jpg for each of `requests`."""
    written = []
    for request in requests:
        at_s = (request.sent_ns - start_ns) / S
        who = zone_of(request.replica) or "an unknown zone"
        caption = f"{request.image}: answered by {who} in {request.ms:.0f} ms, {at_s:.1f} s after the start"
        path = folder / f"annotated_{request.image}.jpg"
        picture = annotate(images.get(request.index), request.detections, caption)
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
        written.append(path)
    return written


def annotate(image: Rgb, detections: Sequence[Mapping[str, Any]], caption: str) -> Rgb:
    """The image, enlarged where it is small, with boxes and labels, over a line of text."""
    scale = max(1.0, SHOWN_WIDTH / image.shape[1])
    picture = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    height, width = picture.shape[:2]
    boxes = [[round(value * scale) for value in detection["box"]] for detection in detections]
    for detection, (left, top, right, bottom) in zip(detections, boxes, strict=True):
        cv2.rectangle(picture, (left, top), (right, bottom), _colour(detection["name"]), 3, cv2.LINE_AA)
    taken: list[tuple[int, int, int, int]] = []
    for detection, area in zip(detections, boxes, strict=True):
        text = f"{detection['name']} {detection['score']:.2f}"
        taken.append(_label(picture, text, area, _colour(detection["name"]), taken))
    strip = np.full((44, width, 3), 32, np.uint8)
    size = min(0.65, 0.65 * (width - 24) / cv2.getTextSize(caption, FONT, 0.65, 1)[0][0])
    cv2.putText(strip, caption, (12, 29), FONT, size, (255, 255, 255), 1, cv2.LINE_AA)
    assert picture.shape == (height, width, 3)
    return np.ascontiguousarray(np.vstack([picture, strip]), dtype=np.uint8)


def _colour(name: str) -> tuple[int, int, int]:
    return BOX_COLOURS[hashlib.sha256(name.encode()).digest()[0] % len(BOX_COLOURS)]


def _label(
    picture: Any,
    text: str,
    area: Sequence[int],
    colour: tuple[int, int, int],
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int]:
    """Write a label at the box, inside the picture and clear of `taken` where that can be. Returns where."""
    height, width = picture.shape[:2]
    (text_width, text_height), _ = cv2.getTextSize(text, FONT, 0.7, 1)
    wide, high = text_width + 12, text_height + 14
    left, top, right, bottom = area
    corners = [(x, y) for y in (top - high, top, bottom - high, bottom) for x in (left, right - wide)]
    places = [
        (x, y, x + wide, y + high)
        for x, y in ((max(0, min(x, width - wide)), max(0, min(y, height - high))) for x, y in corners)
    ]
    place = next((p for p in places if not any(_overlap(p, other) for other in taken)), places[0])
    cv2.rectangle(picture, place[:2], place[2:], colour, cv2.FILLED)
    origin = (place[0] + 6, place[3] - 8)
    cv2.putText(picture, text, origin, FONT, 0.7, (255, 255, 255), 1, cv2.LINE_AA)
    return place


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
