"""``crnn models``: list, show, import and export model bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import console
from crnn_cli.cli.options import AsJson, Force
from crnn_cli.cli.values import complete_model

Name = Annotated[
    str,
    typer.Argument(metavar="NAME", autocompletion=complete_model, help="A name from the list, or a bundle folder."),
]
Checkpoint = Annotated[
    Path,
    typer.Argument(metavar="CHECKPOINT", help="A PyTorch checkpoint of the original CRNN-MRI code (.pth)."),
]
Out = Annotated[Path, typer.Option("--out", "--output", "-o", metavar="DIR", help="The bundle folder to make.")]
Iterations = Annotated[
    int, typer.Option(min=1, max=100, metavar="INTEGER 1-100", help="Iterations it was trained with.")
]
InputRms = Annotated[
    float,
    typer.Option(
        min=1e-6, max=1e6, metavar="FLOAT", help="Energy-weighted r.m.s. of the zero-filled input that it expects."
    ),
]
Licence = Annotated[str, typer.Option(metavar="TEXT", help="Licence of the weights, for the card.")]
OnnxFile = Annotated[Path, typer.Option("--out", "--output", "-o", metavar="FILE", help="The file to make, .onnx.")]
SliceCount = Annotated[int, typer.Option(min=1, max=512, metavar="INTEGER", help="Number of slices of every stack.")]
Size = Annotated[str, typer.Option(metavar="ROWSxCOLUMNS", help="Pixels of a slice on the grid of the network.")]


def models_list(as_json: AsJson = False) -> None:
    """List the models that came with crnn.

    Example: crnn models list
    """
    from crnn_cli.bundles.store import list_bundles

    bundles = list_bundles()
    if as_json:
        fields = ("name", "task", "network", "licence", "summary", "sha256")
        console.print_json([{field: getattr(bundle, field) for field in fields} for bundle in bundles])
        return
    rows = [[b.name, b.task, b.network, b.licence, b.summary] for b in bundles]
    columns = ["name", "task", "network", "licence", "summary"]
    console.table("models", columns, rows, prose=["summary"], result=True)


def models_show(name: Name, as_json: AsJson = False) -> None:
    """Check a model (its sha256, its weights) and print its card.

    Example: crnn models show cine-crnn
    """
    import dataclasses
    import sys

    import torch

    from crnn_cli.bundles.store import CARD, find_bundle, load_network

    bundle = find_bundle(name)
    network = load_network(bundle, torch.device("cpu"))
    parameters = sum(p.numel() for p in network.parameters())
    if as_json:
        console.print_json({**dataclasses.asdict(bundle), "folder": str(bundle.folder), "parameters": parameters})
        return
    console.say(f"{bundle.name}: {parameters:,} parameters, sha256 {bundle.sha256} verified")
    card = bundle.folder / CARD
    text = card.read_bytes().decode("utf-8", "replace") if card.is_file() else f"{bundle.name} has no card\n"
    sys.stdout.write(console.printable(text, sys.stdout, console.TEXT))


def models_import(
    checkpoint: Checkpoint,
    out: Out,
    iterations: Iterations = 5,
    input_rms: InputRms = 0.7,
    licence: Licence = "unknown",
) -> None:
    """Turn a published PyTorch checkpoint of CRNN-MRI into a bundle; no code in it is executed.

    Example: crnn models import crnn_mri_d5_c5.pth -o my-crnn-mri --licence Apache-2.0
    """
    from crnn_cli.bundles.import_checkpoint import import_checkpoint

    bundle = import_checkpoint(checkpoint, out, iterations, input_rms, licence)
    console.say(f"wrote {bundle.folder}; use it with: crnn reconstruct SCAN --model {bundle.folder}")


def models_export(
    name: Name, out: OnnxFile, slices: SliceCount, size: Size, as_json: AsJson = False, force: Force = False
) -> None:
    """Write a segmentation model as ONNX, for programs without PyTorch; it is checked by onnxruntime.

    The graph is for stacks of one shape: slices in anatomical order, resampled to the pixels of the model, intensities
    scaled as it was trained. Its metadata say which those are, name the labels, and list what crnn segment does after
    the network, such as the rule of the base: that is not in the graph.

    Example: crnn models export hippocampus-clstm -o hippocampus.onnx --slices 36 --size 64x48
    """
    from crnn_cli.workflows.export import ExportOptions, export_model

    report = export_model(ExportOptions(name, out, slices, size, force))
    if as_json:
        console.print_json(report)
        return
    console.say(
        f"written: {out}, {report['bytes'] / 1e6:.1f} MB; probabilities differ by {report['difference']:.1e} at most; "
        f"not in the graph: {', '.join(report['not_in_graph'])}"
    )
