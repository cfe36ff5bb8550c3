"""Pictures of a reconstruction: the preview, and those of its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crnn_cli.report.provenance import slice_label

if TYPE_CHECKING:
    from crnn_cli.assessment.uncertainty import Map
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.report.montage import Panel
    from crnn_cli.report.page.html import Picture
    from crnn_cli.workflows.reconstruct.result import ReconstructionRun


@dataclass(frozen=True)
class PreviewContent:
    """Content of a picture of the middle slice.

    Attributes
    ----------
    panels : all panels; ``after`` and ``before`` the reconstruction are among them.
    z : number of the slice.
    spacing : of rows and columns in mm.
    frame_time : in s; None where it is not known.
    caption : text below the picture.
    """

    panels: Sequence[Panel]
    after: Panel
    before: Panel
    z: int
    spacing: tuple[float, float]
    frame_time: float | None
    caption: str


def preview_content(run: ReconstructionRun) -> PreviewContent:
    """Choose the panels of the middle slice.

    They are the reconstruction and the zero-filled images; of a simulation also the truth, and five times the error
    of both.
    """
    import numpy as np

    from crnn_cli.data.geometry import displayed_directions, displayed_slice
    from crnn_cli.data.image import magnitude_of
    from crnn_cli.report.montage import Panel

    images = run.images
    z = images.shape[2] // 2
    reconstructed, zero_filled = (np.abs(displayed_slice(image, z)) for image in (images, run.zero_filled))
    acceleration = f"{run.report['acceleration']:.1f}x"
    name, truth = run.report["method"]["name"], run.scan.truth
    both = Panel(f"{name} {acceleration}", reconstructed), Panel(f"zero-filled {acceleration}", zero_filled)
    panels = list(both)
    if truth is not None:
        reference = magnitude_of(displayed_slice(truth, z))
        panels = [Panel("fully sampled", reference), *panels]
        panels.append(Panel(f"error of {name} x 5", np.abs(reconstructed - reference), 5))
        panels.append(Panel("error of zero-filled x 5", np.abs(zero_filled - reference), 5))
    simulated = "" if truth is None else "SIMULATED scan, "
    which = slice_label(run.scan.source, z, images.shape[2])
    caption = f"{simulated}{which}, not for diagnostic use, {displayed_directions(images)}"
    return PreviewContent(panels, *both, z, (images.spacing[1], images.spacing[0]), images.frame_time, caption)


def preview_picture(preview: Path, content: PreviewContent) -> Output:
    """Prepare the preview of the middle slice for writing: a montage, or an animation."""
    from crnn_cli.report.montage import preview_output

    return preview_output(content.panels, content.spacing, content.frame_time, preview, content.caption)


GAINS = (50, 20, 10, 5, 2, 1)
"""Factors by which a map may be brightened beside the images."""


def page_pictures(run: ReconstructionRun, content: PreviewContent) -> list[Picture]:
    """Pictures of the page: the middle slice before and after, its null-space map, its uncertainty map."""
    import numpy as np

    from crnn_cli.report.montage import Panel, still_picture
    from crnn_cli.report.page.html import Picture

    after, before, assessments = content.after, content.before, run.result.assessments
    panels = [*content.panels, Panel("difference of both", np.abs(after.frames_TYX - before.frames_TYX))]
    still = still_picture(panels, content.spacing, content.caption)
    pictures = [Picture(still, "Frames, and one column of pixels over time.")]
    if assessments:
        maps_ZYX = np.zeros((len(run.result.images_ZTYX), *assessments[0].null_rms_YX.shape), np.float32)
        for z, reliability in zip(run.result.filled, assessments, strict=True):
            maps_ZYX[z] = reliability.null_rms_YX
        text = "Where the image rests on the method alone: root mean square over time of the part that the data do not "
        pictures.append(_map_beside_mean(run, content, maps_ZYX, "not determined", f"{text}determine"))
    if run.deviation_ZTYX is not None:
        maps_ZYX = np.sqrt(np.square(run.deviation_ZTYX).mean(1))
        text = "How uncertain the magnitude is: root mean square over time of the standard deviation"
        pictures.append(_map_beside_mean(run, content, maps_ZYX, "standard deviation", text))
    return pictures


def _map_beside_mean(run: ReconstructionRun, content: PreviewContent, map_ZYX: Map, label: str, text: str) -> Picture:
    """Mean over time of the slice, and a map beside it, brightened."""
    import numpy as np

    from crnn_cli.data.geometry import displayed_slice
    from crnn_cli.report.montage import Panel, still_picture, white_of
    from crnn_cli.report.page.html import Picture

    map_TYX = displayed_slice(run.scan.to_map(map_ZYX[:, None]), content.z).astype(np.float32)
    mean = Panel("mean over time", content.after.frames_TYX.mean(0, keepdims=True))
    gain = next((g for g in GAINS if g * np.percentile(map_TYX, 99.7) <= white_of(mean)), 1)
    panels = [mean, Panel(f"{label} x {gain}", map_TYX, gain)]
    both = still_picture(panels, content.spacing, content.caption, beside=True)
    return Picture(both, f"{text}, {gain} times as bright as the image beside it.")
