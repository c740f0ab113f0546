"""`skyfog models list|verify|add`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from skyfog_core.errors import SkyfogError
from skyfog_perception.library import GREY, Verified, add_folder, add_onnx, facts_of, read_image, verify
from skyfog_perception.manifest import find_model, list_models
from skyfog_perception.places import model_folders, user_models

EXIT_WRONG = 1
EXIT_OPTIONS = 2
MOST_SEEN = 5
WIDTH = 140  # of tables, where no terminal says how wide it is

app = typer.Typer(
    help="Models of the perception services: what there is, whether it works, and one more.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ModelsDir = Annotated[
    str, typer.Option("--models-dir", metavar="DIR", help="the user's models, instead of $SKYFOG_MODELS")
]
Triple = tuple[float, float, float]


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def _complain(error: object) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"skyfog models: {error}", markup=False)


@app.command("list")
def list_(models_dir: ModelsDir = "") -> None:
    """Every model by name, with what its manifest says. Ends with status 1 if a manifest is wrong."""
    table = Table("name", "task", "decoder", "input", "classes", "MB", box=SIMPLE_HEAD)
    table.add_column("folder", overflow="fold")
    wrong: list[SkyfogError] = []
    for name, folder in sorted(list_models(model_folders(models_dir)).items()):
        try:
            facts = facts_of(folder)
        except SkyfogError as error:
            wrong.append(error)
            table.add_row(name, "wrong", "", "", "", "", str(folder))
            continue
        manifest = facts.manifest
        size = f"{manifest.input.width} x {manifest.input.height} {manifest.input.dtype}"
        megabytes = f"{facts.file_bytes / 1e6:.1f}"
        table.add_row(name, manifest.task, manifest.decoder.name, size, str(facts.classes), megabytes, str(folder))
    _console().print(table)
    for what in wrong:
        _complain(what)
    if wrong:
        raise typer.Exit(EXIT_WRONG)


@app.command("verify")
def verify_(
    model: Annotated[str, typer.Argument(metavar="[NAME|DIR]", help="a model's name, or its folder")] = "",
    every: Annotated[bool, typer.Option("--all", help="every model that `list` shows")] = False,
    image: Annotated[Path | None, typer.Option("--image", help="run on this picture, not on plain grey")] = None,
    models_dir: ModelsDir = "",
) -> None:
    """Hash, inputs and outputs against the manifest, and one run. Ends with status 1 if something is wrong."""
    if bool(model) == every:
        _complain("verify: give a model, or --all")
        raise typer.Exit(EXIT_OPTIONS)
    folders = model_folders(models_dir)
    wrong = 0
    try:
        picture = read_image(image) if image else GREY
        chosen = sorted(list_models(folders).values()) if every else [_folder(model, folders)]
    except SkyfogError as error:
        _complain(error)
        raise typer.Exit(EXIT_WRONG) from None
    for folder in chosen:
        try:
            _console().print(_line(verify(folder, picture)), markup=False)
        except SkyfogError as error:
            wrong += 1
            _complain(error)
    if wrong:
        raise typer.Exit(EXIT_WRONG)


@app.command()
def add(
    source: Annotated[Path, typer.Argument(metavar="DIR|ONNX", help="a model folder, or a bare ONNX file")],
    name: Annotated[str, typer.Option(help="by which it is found; else that of the folder or file")] = "",
    decoder: Annotated[str, typer.Option(help="ONNX: efficientdet, yolov5, yolov8, nanodet, rtdetr, deeplab")] = "",
    labels: Annotated[Path | None, typer.Option(help="ONNX: a class name a line, by class id")] = None,
    height: Annotated[int | None, typer.Option(help="ONNX: of the input, where it is free")] = None,
    width: Annotated[int | None, typer.Option(help="ONNX: of the input, where it is free")] = None,
    colors: Annotated[str | None, typer.Option(help="ONNX: rgb or bgr, if not as usual for the decoder")] = None,
    resize: Annotated[str | None, typer.Option(help="ONNX: stretch or letterbox, if not as usual")] = None,
    mean: Annotated[Triple | None, typer.Option(help="ONNX: removed from pixels, if not as usual")] = None,
    std: Annotated[Triple | None, typer.Option(help="ONNX: divided by, if not as usual")] = None,
    models_dir: ModelsDir = "",
) -> None:
    """Copy a model to where the services find it, once it has been verified. For a bare ONNX a manifest is written."""
    known = list_models(model_folders(models_dir))
    target = user_models(models_dir)
    options: dict[str, Any] = {"height": height, "width": width, "colors": colors, "resize": resize}
    options |= {"mean": list(mean) if mean else None, "std": list(std) if std else None}
    given = {key: value for key, value in options.items() if value is not None}
    try:
        if source.suffix == ".onnx":
            if not decoder or labels is None:
                _complain(f"add: {source} is a bare ONNX file: --decoder and --labels say how its output is read")
                raise typer.Exit(EXIT_OPTIONS)
            made = add_onnx(source, labels, decoder, given, name, known, target)
        else:
            made = add_folder(source, name, known, target)
    except SkyfogError as error:
        _complain(error)
        raise typer.Exit(EXIT_WRONG) from None
    _console().print(f"{made.name}: added to {made.parent}; verify it on a picture that shows something:", markup=False)
    _console().print(f"  skyfog models verify {made.name} --image FILE", markup=False)


def _folder(model: str, folders: tuple[Path, Path]) -> Path:
    return Path(model) if Path(model).is_dir() else find_model(model, folders)


def _line(done: Verified) -> str:
    network, times = done.network, done.times
    seen = ", ".join(f"{name} {score:.2f}" for name, score in done.seen[:MOST_SEEN]) or "nothing"
    more = f" and {len(done.seen) - MOST_SEEN} more" if len(done.seen) > MOST_SEEN else ""
    batch = f"batches up to {network.max_batch}" if network.max_batch > 1 else "one image a run"
    took = times.prepare_ms + times.inference_ms + times.postprocess_ms
    return f"{network.name}: ok, sha256 {network.sha256[:12]}…, {batch}, {took:.0f} ms, sees {seen}{more}"
