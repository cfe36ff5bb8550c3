"""Choice among the images of an ISMRMRD file: sets, contrasts, repetitions, phases and views.

Counters are chosen by their values in the file, which count from 0. A view is a group of slices of one direction.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crnn_cli.errors import Param, UnsupportedDataError, UsageError, Words
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders
from crnn_cli.io.kspace.ismrmrd.readouts import ReadoutGroups

DIRECTIONS = ("read_dir", "phase_dir", "slice_dir")
PARALLEL = 1e-3
"""Directions whose components differ by less are one."""

COUNTERS = {"set_number": "set", "contrast": "contrast", "repetition": "repetition", "phase_number": "phase"}
"""Counter of the readouts that each choice is about."""


def choose_readouts(groups: ReadoutGroups, choice: RawChoices) -> ReadoutGroups:
    """Keep the readouts that were chosen; calibration lines of other sets and contrasts serve where there are none.

    Raises
    ------
    UsageError
        If there is nothing of a value that was chosen.
    UnsupportedDataError
        If sets, contrasts or directions still differ; the remedy names the choice.
    """
    for param, value in choice.given().items():
        if param in COUNTERS:
            groups = _with_value(groups, param, value)
    for param in ("set_number", "contrast"):
        _require_one(groups.imaging, param)
    return _one_view(groups, choice.view)


def _with_value(groups: ReadoutGroups, param: str, value: int) -> ReadoutGroups:
    counter = COUNTERS[param]
    images = groups.imaging[counter] == value
    if not images.any():
        raise UsageError(Param(param, value), f": the readouts for images have {_listed(groups.imaging, counter)}")
    calibrates = groups.calibration[counter] == value
    keep = calibrates if calibrates.any() and counter in ("set", "contrast") else np.ones(len(calibrates), bool)
    return ReadoutGroups(groups.imaging.where(images), groups.calibration.where(keep), groups.noise, groups.remarks)


def _require_one(imaging: ReadoutHeaders, param: str) -> None:
    counter = COUNTERS[param]
    values = np.unique(imaging[counter])
    if len(values) > 1:
        raise UnsupportedDataError(
            f"this scan has {_listed(imaging, counter)}: several images of each frame (flow encoding, echoes, "
            "inversion times)",
            remedy=("reconstruct one at a time, the first with ", Param(param, int(values[0]))),
        )


def _listed(heads: ReadoutHeaders, counter: str) -> str:
    values = np.unique(heads[counter])
    texts = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
    return f"{len(values)} value{'s' if len(values) > 1 else ''} of {counter} ({texts})"


def _one_view(groups: ReadoutGroups, view: int | None) -> ReadoutGroups:
    """Readouts of one view; those of other slices are left out of the calibration as well."""
    counters, numbers = _views(groups.imaging)
    count = int(numbers.max()) + 1
    if view is not None and not 1 <= view <= count:
        raise UsageError(Param("view", view), f": this scan has {count} view{'s' if count > 1 else ''}")
    if count == 1:
        return groups
    if view is None:
        listed = "; ".join(
            f"view {number + 1}: {np.count_nonzero(numbers == number)} slices, the first has the counter "
            f"{int(counters[numbers == number][0])}" for number in range(min(count, 8))
        )  # fmt: skip
        remedy: tuple[Words, ...] = ("reconstruct one at a time, the first with ", Param("view", 1))
        raise UnsupportedDataError(
            f"this scan has {count} views: slices of other directions than the first, which do not make one volume "
            f"({listed})",
            remedy=remedy,
        )
    chosen = counters[numbers == view - 1]
    imaging, calibration = (
        heads.where(np.isin(heads["slice"], chosen)) for heads in (groups.imaging, groups.calibration)
    )
    return ReadoutGroups(imaging, calibration, groups.noise, groups.remarks)


def _views(imaging: ReadoutHeaders) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Slice counters, and the view of each, from 0; by the directions of the first readout of a slice."""
    counters, firsts = np.unique(imaging["slice"], return_index=True)
    directions_Z9 = np.nan_to_num(np.concatenate([imaging[name][firsts] for name in DIRECTIONS], axis=1))
    numbers = np.full(len(counters), -1)
    for z in range(len(counters)):
        if numbers[z] < 0:
            alike = np.abs(directions_Z9 - directions_Z9[z]).max(axis=1) <= PARALLEL
            numbers[alike & (numbers < 0)] = numbers.max() + 1
    return counters, numbers
