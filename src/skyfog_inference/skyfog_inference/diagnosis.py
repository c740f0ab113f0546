"""How well an engine is, in words, from two looks at what it counts. Pure."""

from __future__ import annotations

from skyfog_core.diagnosis import Diagnosis, Finding, Level, worst
from skyfog_inference.metrics import EngineMetrics
from skyfog_inference.request import FinishReason


def diagnose(before: EngineMetrics, now: EngineMetrics, unwell: str) -> Diagnosis:
    """`unwell`: why no request is taken; empty where they are."""
    findings = [Finding(Level.ERROR, unwell)] if unwell else []
    refused = now.refused - before.refused
    if refused:
        findings.append(Finding(Level.WARN, f"{refused} requests refused, since too many wait"))
    failed = now.ended.get(FinishReason.FAILED, 0) - before.ended.get(FinishReason.FAILED, 0)
    if failed:
        findings.append(Finding(Level.WARN, f"{failed} requests failed"))
    state = now.scheduler
    values = {
        "requests": str(now.live),
        "waiting": str(state.waiting),
        "on device": str(state.on_device),
        "on host": str(state.on_host),
        "device blocks": f"{state.device_blocks_used}/{state.device_blocks}",
        "host blocks": f"{state.host_blocks_used}/{state.host_blocks}",
        "preemptions": str(state.preemptions),
        "shared prompt tokens": str(state.shared_tokens),
        "tokens drawn": str(now.drawn_tokens),
    }
    return worst(findings, f"{now.live} requests under way", values)
