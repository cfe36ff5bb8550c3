"""A segmentation model as an ONNX file for other programs, with a fixed number of slices and a fixed size of them.

The file is computed once by onnxruntime, and compared with the network, before it counts.

Legend: S slice, Y row, X column, K class (0 background).
"""

from __future__ import annotations

import io
import json
import logging
import re
import warnings
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.errors import CrnnError, Param, UnsupportedDataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from crnn_cli.bundles.config import SliceInput
    from crnn_cli.bundles.store import Bundle
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.networks.slice_clstm import SliceCLSTM

INPUT, OUTPUT = "image_SYX", "probability_SKYX"
"""Names of the input and the output of the ONNX graph."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-3
"""Largest difference of a probability from that of the network."""
_OPSET = 18
_MOST = 2**26  # pixels of all slices


@dataclass(frozen=True)
class ExportOptions:
    """What is exported; see the help of `crnn models export`.

    slices : of every stack. size : rows x columns of a slice, such as 192 or 192x160, on the grid of the network.
    """

    model: str
    out: Path
    slices: int
    size: str
    force: bool = False


def export_model(options: ExportOptions) -> dict[str, Any]:
    """Write a segmentation model as ONNX, and report on it.

    The graph takes slices (S, Y, X), float32, in anatomical order, resampled to the ``spacing`` of the model and scaled
    as its ``intensity`` says; it gives probabilities (S, K, Y, X). Both, and the labels, stand in its metadata, and so
    does what `crnn segment` does to the probabilities before they are its labels (`steps_after`): that is not in the
    graph.

    Returns
    -------
    dict
        ``model``, ``output``, ``shape`` (S, Y, X), ``bytes``, ``difference``: the largest one from the network, and
        ``not_in_graph``: `steps_after`.

    Raises
    ------
    UsageError
        If a package is absent, or the size is not understood.
    UnsupportedDataError
        If the model is not one of segmentation.
    OutputError
        If the file cannot be written, or exists.
    CrnnError
        If onnxruntime does not give what the network gives.
    """
    from crnn_cli.bundles.store import find_bundle
    from crnn_cli.io.atomic_write import require_writable, write_together

    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the export needs {', '.join(missing)}", remedy=(f"python3 -m pip install {' '.join(missing)}",)
        )
    if options.out.suffix.lower() != ".onnx":
        raise UsageError(f"cannot write {options.out}: give a name that ends in .onnx")
    bundle = find_bundle(options.model)
    if bundle.task == "segment-drawn":
        raise UnsupportedDataError(f"{bundle.name} labels from drawn slices, whose distances no ONNX graph computes")
    if bundle.task != "segment":
        raise UnsupportedDataError(
            f"{bundle.name} is to {bundle.task}: ONNX has no complex numbers, in which its data consistency is computed"
        )
    shape = (options.slices, *parse_size(options.size))
    require_writable(options.out, options.force)
    output, difference = _onnx_output(bundle, shape, options.out)
    write_together([output], options.force)
    assert bundle.slices is not None  # of the task "segment"
    return {
        "model": bundle.name, "output": str(options.out), "shape": list(shape),
        "bytes": options.out.stat().st_size, "difference": difference, "not_in_graph": steps_after(bundle.slices),
    }  # fmt: skip


def steps_after(fed: SliceInput) -> dict[str, Any]:
    """What `crnn segment` does to the probabilities of the network, in this order, by the keys of config.json.

    A step that a model does not have is left out; ``threshold`` is that of the command where none is given.
    """
    from crnn_cli.workflows.segment.options import SegmentOptions

    steps = {
        "class_weights": list(fed.class_weights),
        "smooth_frames_ms": fed.smooth_frames,
        "threshold": SegmentOptions().threshold,
        "base_rule": None if fed.base_rule is None else asdict(fed.base_rule),
        "keep_within_mm": fed.keep_within,
    }
    return {name: step for name, step in steps.items() if step}


def parse_size(size: str) -> tuple[int, int]:
    """Read (rows, columns) from ``192`` or ``192x160``.

    >>> parse_size("192x160"), parse_size("64")
    ((192, 160), (64, 64))

    Raises
    ------
    UsageError
        If it is neither, or a side is not from 8 to 4096.
    """
    match = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", size.lower())
    sides = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(8 <= side <= 4096 for side in sides):
        raise UsageError(
            Param("size", size), " is not understood", remedy=("write for instance 192 or 192x160, 8 to 4096",)
        )
    return sides


def _onnx_output(bundle: Bundle, shape: tuple[int, int, int], target: Path) -> tuple[Output, float]:
    """The file to be written, and how far onnxruntime is from the network on noise."""
    import torch

    from crnn_cli.bundles.store import load_segmentation
    from crnn_cli.io.atomic_write import Output

    if shape[0] * shape[1] * shape[2] > _MOST:
        raise UsageError(f"{shape[0]} slices of {shape[1]} x {shape[2]} are too many for one graph")
    network = load_segmentation(bundle, torch.device("cpu"))
    image_SYX = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    content = _translate(network, image_SYX, _metadata(bundle, shape))
    difference = float((_run(content, image_SYX) - network.label(image_SYX)).abs().max())
    if not difference <= TOLERANCE:
        raise CrnnError(f"the ONNX file gives other probabilities than {bundle.name}: they differ by {difference:.2g}")
    return Output(target, content), difference


def _translate(network: SliceCLSTM, image_SYX: Tensor, metadata: dict[str, str]) -> bytes:
    """The network as ONNX; what the exporter says on its way is not passed on."""
    import torch

    class Labelling(torch.nn.Module):
        """The network from slices to probabilities, as a graph without batches."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image_SYX: Tensor) -> Tensor:
            return torch.softmax(self.network(image_SYX[None])[0][0], dim=1)

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Labelling().eval(), (image_SYX,), dynamo=True, verbose=False, opset_version=_OPSET, input_names=[INPUT],
            output_names=[OUTPUT],
        )  # fmt: skip
    assert program is not None  # as dynamo=True has it
    proto = program.model_proto
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return bytes(proto.SerializeToString())


def _run(content: bytes, image_SYX: Tensor) -> Tensor:
    """Probabilities by onnxruntime."""
    import torch
    from onnxruntime import InferenceSession

    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: image_SYX.numpy()})
    return torch.from_numpy(found)


def _metadata(bundle: Bundle, shape: tuple[int, int, int]) -> dict[str, str]:
    """What must be known to use the graph."""
    from crnn_cli.version import __version__

    fed = bundle.slices
    assert fed is not None  # of a bundle of the task "segment"
    return {
        "made_by": f"crnn {__version__}", "not_for": "diagnostic use", "model": bundle.name, "licence": bundle.licence,
        "weights_sha256": bundle.sha256, "slices_rows_columns": json.dumps(list(shape)),
        "plane": fed.plane or "thickest", "spacing_mm": str(fed.spacing),
        "intensity": json.dumps({"rule": fed.rule, "low": fed.low, "high": fed.high, "clip": [-0.25, 1.5]}),
        "labels": json.dumps([asdict(label) for label in fed.labels]), "not_in_graph": json.dumps(steps_after(fed)),
    }  # fmt: skip
