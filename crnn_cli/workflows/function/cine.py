"""Labels of a cine that is to be measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from crnn_cli import notices
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.workflows.function.options import FunctionOptions

if TYPE_CHECKING:
    from crnn_cli.data.image import Image
    from crnn_cli.workflows.segment.engine import SegmentEngine
    from crnn_cli.workflows.segment.result import SegmentationRun

Labeller = Callable[[], "SegmentEngine"]
"""Gives the model that labels a cine, when there is one."""


def prepare_labeller(options: FunctionOptions) -> SegmentEngine:
    """Load the model that labels cines, on its device.

    Raises
    ------
    CrnnError
        As `crnn_cli.workflows.segment.engine.prepare`.
    """
    from crnn_cli.workflows.segment.engine import prepare
    from crnn_cli.workflows.segment.options import SegmentOptions

    return prepare(SegmentOptions(model=options.model, device=options.device))


def label_cine(image: Image, name: str, engine: SegmentEngine, progress: notices.Progress) -> SegmentationRun:
    """Label a cine.

    Parameters
    ----------
    name : of the cine, in messages.

    Raises
    ------
    UnsupportedDataError
        If it cannot be labelled, or there is no heart in it.
    """
    from crnn_cli.workflows.segment.options import SegmentOptions
    from crnn_cli.workflows.segment.steps import segment_image

    run = segment_image(image, SegmentOptions(), engine, name=name, progress=progress)
    if run.labelled.is_empty:
        raise UnsupportedDataError(f"no heart was found in {name}: there is nothing to measure")
    return run
