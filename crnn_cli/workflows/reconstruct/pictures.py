"""Pictures of a reconstruction: the preview, and those of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.report.provenance import slice_label

if TYPE_CHECKING:
    from crnn_cli.assessment.uncertainty import Map
    from crnn_cli.data.image import Image
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.reconstruction.reconstruct import Reconstruction
    from crnn_cli.report.html import Picture
    from crnn_cli.report.montage import Panel
    from crnn_cli.workflows.reconstruct.result import ReconstructionRun
    from crnn_cli.workflows.reconstruct.scan import Scan


@dataclass(frozen=True)
class PreviewContent:
    """What a picture shows of the middle slice, z. spacing : of rows and columns, mm. frame_time : s.

    panels : all of it, `after` and `before` the reconstruction among them.
    """

    panels: Sequence[Panel]
    after: Panel
    before: Panel
    z: int
    spacing: tuple[float, float]
    frame_time: float | None
    caption: str


def preview_content(data: Scan, result: Reconstruction, report: dict[str, Any]) -> PreviewContent:
    """Return the middle slice by every method there is, and how far each is from the truth of a simulation."""
    import numpy as np

    from crnn_cli.data.geometry import displayed_directions, displayed_slice
    from crnn_cli.report.montage import Panel

    made = data.to_image(result.images_ZTYX)
    z = made.shape[2] // 2
    before = data.to_image(result.zero_filled_ZTYX)
    reconstructed, zero_filled = (np.abs(displayed_slice(i, z)) for i in (made, before))
    acceleration = f"{report['acceleration']:.1f}x"
    name, truth = report["method"]["name"], data.truth
    both = Panel(f"{name} {acceleration}", reconstructed), Panel(f"zero-filled {acceleration}", zero_filled)
    rows = list(both)
    if truth is not None:
        reference = np.abs(displayed_slice(truth, z))
        rows = [Panel("fully sampled", reference), *rows]
        rows.append(Panel(f"error of {name} x 5", np.abs(reconstructed - reference), 5))
        rows.append(Panel("error of zero-filled x 5", np.abs(zero_filled - reference), 5))
    simulated = "" if truth is None else "SIMULATED scan, "
    caption = (
        f"{simulated}{slice_label(data.source, z, made.shape[2])}, not for diagnostic use, {displayed_directions(made)}"
    )
    return PreviewContent(rows, *both, z, (made.spacing[1], made.spacing[0]), made.frame_time, caption)


def picture(preview: Path, shown: PreviewContent) -> Output:
    """Return the preview of the middle slice."""
    from crnn_cli.report.montage import preview_output

    return preview_output(shown.panels, shown.spacing, shown.frame_time, preview, shown.caption)


GAINS = (50, 20, 10, 5, 2, 1)


def pictures_of(made: ReconstructionRun, shown: PreviewContent) -> list[Picture]:
    """Return the middle slice before and after, and maps: what its data do not determine, how uncertain it is."""
    import numpy as np

    from crnn_cli.report.html import Picture
    from crnn_cli.report.montage import Panel, still_picture

    after, before, slices = shown.after, shown.before, made.slices
    preview_content = [*shown.panels, Panel("difference of both", np.abs(after.frames_TYX - before.frames_TYX))]
    pictures = [
        Picture(
            still_picture(preview_content, shown.spacing, shown.caption), "Frames, and one column of pixels over time."
        )
    ]
    if slices:
        maps_ZYX = np.zeros((len(made.result.images_ZTYX), *slices[0].free_YX.shape), np.float32)
        for z, one in zip(made.result.filled, slices, strict=True):
            maps_ZYX[z] = one.free_YX
        said = "Where the image rests on the method alone: root mean square over time of the part that the data do not "
        pictures.append(_beside(made, shown, maps_ZYX, "not determined", f"{said}determine"))
    if made.deviation_ZTYX is not None:
        maps_ZYX = np.sqrt(np.square(made.deviation_ZTYX).mean(1))
        said = "How uncertain the magnitude is: root mean square over time of the standard deviation"
        pictures.append(_beside(made, shown, maps_ZYX, "standard deviation", said))
    return pictures


def _beside(made: ReconstructionRun, shown: PreviewContent, map_ZYX: Map, label: str, said: str) -> Picture:
    """Return the mean over time of the slice shown, and a map beside it, brightened."""
    import numpy as np

    from crnn_cli.data.geometry import displayed_slice
    from crnn_cli.report.html import Picture
    from crnn_cli.report.montage import Panel, still_picture, white_of

    drawn = displayed_slice(map_image(map_ZYX[:, None], made.data), shown.z).astype(np.float32)
    mean = Panel("mean over time", shown.after.frames_TYX.mean(0, keepdims=True))
    gain = next((g for g in GAINS if g * np.percentile(drawn, 99.7) <= white_of(mean)), 1)
    both = still_picture([mean, Panel(f"{label} x {gain}", drawn, gain)], shown.spacing, shown.caption, beside=True)
    return Picture(both, f"{said}, {gain} times as bright as the image beside it.")


def map_image(deviation_ZTYX: Map, data: Scan) -> Image:
    """Return a map with the geometry of the images."""
    from dataclasses import replace

    import numpy as np

    placed = data.to_image(deviation_ZTYX.astype(np.complex64))
    return replace(placed, array=np.ascontiguousarray(placed.array.real))
