"""The roofline pictures of MoE-Lightning's figures 4 and 5 for any machine and model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from skyfog_inference.cost.hrm import Machine, first_turning_point, local, second_turning_point

LOW, HIGH = 0.5, 1e4  # FLOP/byte


def draw(machine: Machine, lines: Mapping[str, float], path: Path, device_intensity: float | None = None) -> None:
    """Roofs of both levels and of the link, a vertical line for every named intensity, and the turning points.

    `device_intensity` is that of the kernel on the device (of a micro-batch); without it P2 is that of its peak.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and needed for pictures only

    figure = Figure(figsize=(8, 5.5))
    axis = figure.subplots()
    xs = [LOW * (HIGH / LOW) ** (i / 200) for i in range(201)]
    for level, colour in ((machine.device, "tab:green"), (machine.host, "tab:blue")):
        if level.flops:
            axis.plot(xs, [local(level, x) for x in xs], color=colour, label=f"{level.name}: memory and compute")
    axis.plot(xs, [machine.link * x for x in xs], color="tab:red", linestyle="--", label="link, host to device")
    intensity = HIGH if device_intensity is None else device_intensity
    roof = local(machine.device, intensity)
    if device_intensity is not None:
        axis.axhline(roof, color="tab:orange", label=f"kernel at {device_intensity:.3g} FLOP/byte")
    for name, x in (("P1", first_turning_point(machine)), ("P2", second_turning_point(machine, intensity))):
        if x > 0:
            axis.plot([x], [machine.link * x], "ko")
            axis.annotate(f"{name}: {x:.3g}", (x, machine.link * x), textcoords="offset points", xytext=(6, -12))
    for name, x in lines.items():
        axis.axvline(x, color="gray", linestyle=":")
        axis.text(x, machine.link, name, rotation=90, va="bottom", ha="right", fontsize=8)
    axis.set(xscale="log", yscale="log", xlabel="operational intensity, FLOP/byte", ylabel="FLOP/s")
    axis.set(xlim=(LOW, HIGH), ylim=(machine.link * LOW, machine.device.flops * 2), title=machine.name)
    axis.legend(loc="upper left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
