from pathlib import Path

from skyfog_bench import run
from skyfog_bench.inference.simulator import G4DN, Size

TINY = Size(requests={G4DN.name: 8}, outputs={G4DN.name: (200,)}, rated=(G4DN.name,), rates=(1.0,), arrivals=6)


def test_the_bench_reports_and_draws(tmp_path: Path) -> None:
    said: list[str] = []
    report = run.run("inference_sim", TINY, seed=3, say=said.append, out=tmp_path / "inference_sim.json")
    saturated, rated = report["rows"]
    assert saturated["ratio"] > 1
    assert rated["neo_mean_ms"] > 0
    assert len(said) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inference_sim_rates.png", "inference_sim_ratio.png"]
