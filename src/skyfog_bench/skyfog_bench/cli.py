"""`skyfog bench NAME [--quick] [--json FILE] [--seed N]`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from skyfog_bench.inference import markdown
from skyfog_bench.report import show, write
from skyfog_bench.run import BENCHES, run
from skyfog_core.environments import environments, python_of
from skyfog_core.environments import install as install_peer
from skyfog_core.errors import ConfigError, SkyfogError

LOG_WIDTH = 140  # of tables, where no terminal says how wide it is

app = typer.Typer(help="Benchmarks of Skyfog beside its peers.", no_args_is_help=True, add_completion=False)

Quick = Annotated[bool, typer.Option("--quick", help="fewer calls; ends within 50 s")]
Json = Annotated[Path | None, typer.Option("--json", help="write the report to this file")]
Seed = Annotated[int, typer.Option("--seed", help="for the order of measurements and the times of faults")]


def _bench(name: str, quick: bool, json: Path | None, seed: int) -> None:
    progress = Console(stderr=True)
    bench = BENCHES[name]
    try:
        report = run(name, bench.quick if quick else bench.full, seed, lambda text: progress.print(f"  {text}"), json)
    except SkyfogError as error:  # a process did not do its part, or an extra is missing
        progress.print(f"skyfog bench {name}: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        progress.print(f"skyfog bench {name}: interrupted", style="red")
        raise typer.Exit(130) from None
    console = Console()
    if not console.is_terminal:
        console.width = LOG_WIDTH
    show(report, console)
    if json is not None:
        write(report, json)


@app.command()
def overhead(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """Round trip of 1 KB and 1 MB: native ROS 2, bare zenoh, Skyfog with ROS on both ends, Skyfog embedded."""
    _bench("overhead", quick, json, seed)


@app.command()
def soak(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """200 requests/s of 1 KB to three replicas: none lost, memory flat."""
    _bench("soak", quick, json, seed)


@app.command()
def faults(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """Thirteen faults, from SIGKILL to a one-way partition, under broadcast, hedged and slo: none may fail a call."""
    _bench("faults", quick, json, seed)


@app.command()
def tail(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """Skyfog's policies beside gRPC, FogROS2-FT's broadcast, plain zenoh and native ROS 2, with two replicas lost."""
    _bench("tail", quick, json, seed)


@app.command("pick_place")
def pick_place(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """20 seeded tabletop scenes picked into a bin; half-way, one replica of each service is killed."""
    _bench("pick_place", quick, json, seed)


@app.command()
def world(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """The simulated worlds at real time: images a second, and detection in them through the router."""
    _bench("world", quick, json, seed)


@app.command()
def perception(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """Detection and segmentation, stage by stage, beside a bare script around onnxruntime."""
    _bench("perception", quick, json, seed)


@app.command()
def planning(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """Planning times on four problem sets beside OMPL with a Python checker and mplib; the first of N replicas."""
    _bench("planning", quick, json, seed)


@app.command()
def fogros2ft(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """FogROS2-FT's scenarios under a slow network and contention: every policy over 2 to 4 replicas beside one."""
    _bench("fogros2ft", quick, json, seed)


@app.command()
def scale(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """What the policy itself costs a request, with 1,000 robots and 100 replicas that come and go."""
    _bench("scale", quick, json, seed)


@app.command()
def pool(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """What a pool on spot machines costs and how much of the time it is at target, beside SpotHedge and the optimum."""
    _bench("pool", quick, json, seed)


@app.command("pool_live")
def pool_live(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """A pool of 4 in 3 zones under load while machines are taken, its controller is killed and a zone is cut off."""
    _bench("pool_live", quick, json, seed)


@app.command("uplink")
def uplink(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """What a car makes of a thin uplink, under every way to share it, beside an oracle and a bound."""
    _bench("uplink", quick, json, seed)


@app.command("uplink_live")
def uplink_live(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """A car's uplink with all its processes on links that follow traces, beside its simulation; the link is cut."""
    _bench("uplink_live", quick, json, seed)


@app.command("uplink_solve")
def uplink_solve(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """How long the uplink's knapsack and a whole plan take, beside HiGHS, scipy's milp and a greedy, and their gaps."""
    _bench("uplink_solve", quick, json, seed)


@app.command("inference_attention")
def inference_attention(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """Decode attention on one thread beside torch's and a plain read loop, in GB/s of keys and values."""
    _bench("inference_attention", quick, json, seed)


@app.command("inference_memory")
def inference_memory(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """Decode and prefill of Llama-200M and Mixtral-489M beside transformers and llama.cpp."""
    _bench("inference_memory", quick, json, seed)


@app.command("inference_offload")
def inference_offload(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """A mixture of experts under half its memory: CGOPipe beside no overlap, accelerate and llama.cpp, same cap."""
    _bench("inference_offload", quick, json, seed)


@app.command("inference_neo")
def inference_neo(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """NEO on two workers of a CPU beside the device alone, by output length and by request rate."""
    _bench("inference_neo", quick, json, seed)


@app.command("inference_sim")
def inference_sim(quick: Quick = False, json: Json = None, seed: Seed = 0) -> None:
    """NEO's scheduler simulated on T4, A10G and H100 beside the ratios that its paper prints."""
    _bench("inference_sim", quick, json, seed)


@app.command("inference")
def inference(
    folder: Annotated[Path, typer.Argument(help="for one report a part, pictures and inference.md")],
    quick: Quick = False,
    seed: Seed = 0,
    report_only: Annotated[bool, typer.Option("--report-only", help="write inference.md of the reports there")] = False,
) -> None:
    """All parts of the inference node's benchmarks, and one Markdown file of them."""
    for name in () if report_only else [name for name in markdown.PARTS if name in BENCHES]:
        _bench(name, quick, folder / f"{name}.json", seed)
    try:
        Console().print(str(markdown.write(folder)), markup=False, highlight=False)
    except FileNotFoundError as error:
        Console(stderr=True).print(f"skyfog bench inference: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None


peers_app = typer.Typer(help="Peers that need an environment of their own.", no_args_is_help=True)
app.add_typer(peers_app, name="peers")


@peers_app.command()
def install(name: Annotated[str, typer.Argument(help="as `skyfog bench peers list` has it")]) -> None:
    """Install a peer below .ws/peers/."""
    progress = Console(stderr=True)
    try:
        folder = install_peer(name)
    except ConfigError as error:
        progress.print(f"skyfog bench peers: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
    progress.print(f"{name}: {folder}", markup=False, highlight=False)


@peers_app.command(name="list")
def list_peers() -> None:
    """The peers, and whether they are installed."""
    try:
        installed = {name: python_of(name) is not None for name in environments()}
    except ConfigError as error:
        Console(stderr=True).print(f"skyfog bench peers: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from None
    for name, there in installed.items():
        Console().print(f"{name}: {'installed' if there else 'not installed'}", highlight=False)
