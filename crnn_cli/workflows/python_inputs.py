"""What a notebook hands over, taken as scans, images and options: objects, arrays, or names of files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.data.image import Image
from crnn_cli.data.raw_scan import RawScan
from crnn_cli.errors import Param, UnsupportedDataError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from crnn_cli.bundles.config import Bundle
    from crnn_cli.workflows.reconstruct.scan import Scan

Source = str | os.PathLike[str]


def open_file(path: Path, choices: Mapping[str, Any]) -> Image | RawScan:
    """Open a scan, a series or a label map; doubts about it are told.

    Parameters
    ----------
    choices : by the names of `crnn_cli.api.load`; None for those that are not made.
    """
    from crnn_cli.io import formats

    opened = formats.load(path, **choices)
    if isinstance(opened, RawScan):
        notices.tell(*opened.remarks)
        return opened
    notices.tell(*opened.remarks())
    return opened.image


def drawn_image(drawn: Image | NDArray[np.generic] | Source, image: Image) -> Image:
    """Drawn labels as an image; an array lies on the grid of the image."""
    import numpy as np

    if isinstance(drawn, Image):
        return drawn
    if isinstance(drawn, str | os.PathLike):
        from crnn_cli.io.images import load_image

        return load_image(Path(drawn), keep_type=True).image
    values = np.asarray(drawn)
    if values.shape not in (image.shape, image.shape[:3]):
        raise UnsupportedDataError(f"the drawn labels are {values.shape}, and the image is {image.shape}")
    return replace(image, array=values)


def listed_numbers(numbers: Sequence[int] | None) -> str | None:
    """Numbers as an option spells them; None from None."""
    return None if numbers is None else ",".join(str(number) for number in numbers)


def open_image(path: Source) -> Image:
    """Open a file that must hold images."""
    opened = open_file(Path(path), {})
    if isinstance(opened, RawScan):
        raise UsageError(f"{path} holds k-space; reconstruct it first")
    return opened


def open_scan(
    scan: Image | RawScan | Source, mask: Image | NDArray[np.generic] | None, undersample: float | None, seed: int,
    coils: int | None, maps: NDArray[np.complexfloating[Any, Any]] | None, map_sets: int | None,
    slice_number: int | None,
) -> Scan:  # fmt: skip
    """Take whatever a user handed over as a scan."""
    import numpy as np

    from crnn_cli.io.formats import is_kspace
    from crnn_cli.workflows.reconstruct.scan import ScanRequest, Simulation, load_scan, scan_from_image, scan_from_raw

    simulation = None if undersample is None else Simulation(undersample, seed=seed)
    if simulation is not None and mask is not None:
        raise UsageError(
            Param("undersample"), " draws a pattern and ", Param("mask"), " gives one", remedy=("use one of them",)
        )
    if not isinstance(scan, Image | RawScan):
        path = Path(scan)
        if is_kspace(path):
            scan = open_file(path, {})
        elif mask is None and coils is None and maps is None and map_sets is None:
            return load_scan(ScanRequest(path, simulation=simulation, slice_number=slice_number))
        else:
            scan = open_image(path)
    if isinstance(scan, RawScan):
        for name, given in (("mask", mask), ("undersample", undersample)):
            if given is not None:
                raise UsageError(Param(name), " belongs to images; k-space has its mask in it")
        return scan_from_raw(scan, coils, None if maps is None else np.asarray(maps, np.complex64), {}, map_sets)
    for name, unwanted in (("coils", coils), ("maps", maps), ("map_sets", map_sets)):
        if unwanted is not None:
            raise UsageError(Param(name), " belongs to raw k-space, and this scan holds images")
    if mask is not None and not isinstance(mask, Image):
        values = np.asarray(mask)
        mask = replace(scan, array=values.reshape(values.shape + (1,) * (scan.array.ndim - values.ndim)))
    return scan_from_image(scan, mask, simulation)


def model_name(model: Bundle | Source | None) -> str | None:
    """Name or folder of a model, as an option spells it; None for the default."""
    if model is None:
        return None
    return os.fspath(model) if isinstance(model, str | os.PathLike) else str(model.folder)
