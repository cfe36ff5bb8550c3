"""Readouts of ISMRMRD sorted by purpose, and their indices in the encoded matrix.

Legend: K second phase encoding (3-D scans), Y phase encoding, X readout.

Line step_1 lies in row step_1 - centre + Y // 2, sample i of a readout in column i - center_sample + X // 2. The centre
of k-space is then where the centred transform has it; samples that were not measured stay zero and are never shifted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.sampling_mask import Mask
from crnn_cli.errors import UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.ismrmrd.file import ReadoutHeaders, readout_name
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader, Limits
from crnn_cli.notices import Doubt, Fact, Remark

NOISE, CALIBRATION, CALIBRATION_AND_IMAGING, REVERSE = 19, 20, 21, 22
OTHER = {
    "navigator": 23, "phase correction": 24, "HP feedback": 26, "dummy": 27, "RT feedback": 28,
    "surface coil correction": 29, "phase stabilisation": 30, "phase stabilisation data": 31,
}  # fmt: skip
"""Flags of readouts that are for other purposes than images."""

Whole = NDArray[np.int64]
ReversedCentre = Literal["counted as stored", "mirrored at the middle", "counted as turned"]
"""What the centre sample of a reversed readout means: the index in the stored order, n less the index after turning,
or the index after turning."""


@dataclass(frozen=True)
class ReadoutGroups:
    """Headers of readouts by purpose; readouts for calibration and imaging are in both groups.

    Attributes
    ----------
    imaging, calibration, noise : by the flags of ISMRMRD.
    remarks : readouts that were left out.
    """

    imaging: ReadoutHeaders
    calibration: ReadoutHeaders
    noise: ReadoutHeaders
    remarks: tuple[Remark, ...]


def group_readouts(heads: ReadoutHeaders, for_calibration: bool = False) -> ReadoutGroups:
    """Sort the readouts of the first encoding by purpose: imaging, calibration, noise; others are left out.

    Parameters
    ----------
    for_calibration : where none is for images, take those for calibration as such.

    Raises
    ------
    UnsupportedDataError
        If none is for imaging.
    UnreadableError
        If readouts have no coils or no samples.
    """
    noise = heads.flagged(NOISE)
    other = heads.flagged(*OTHER.values()) & ~noise
    elsewhere = (heads["encoding_space_ref"] != 0) & ~noise & ~other
    used = ~noise & ~other & ~elsewhere
    remarks: list[Remark] = []
    for name, flag in OTHER.items():
        count = int((heads.flagged(flag) & other).sum())
        if count:
            remarks.append(Fact("readouts-not-for-images", f"{count} {name} readouts left out"))
    if elsewhere.any():
        text = f"{int(elsewhere.sum())} readouts of other encodings than the first left out"
        remarks.append(Doubt("other-encodings", text))
    calibrates = heads.flagged(CALIBRATION, CALIBRATION_AND_IMAGING)
    images = ~heads.flagged(CALIBRATION) | heads.flagged(CALIBRATION_AND_IMAGING)
    if for_calibration and not (used & images).any():
        images, calibrates = calibrates, images
    groups = ReadoutGroups(
        heads.where(used & images), heads.where(used & calibrates), heads.where(noise), tuple(remarks)
    )  # fmt: skip
    _require_images(groups, len(heads))
    return groups


def _require_images(groups: ReadoutGroups, total: int) -> None:
    imaging = groups.imaging
    if not len(imaging):
        counts = f"{len(groups.noise)} of noise, {len(groups.calibration)} for calibration"
        what = ", ".join([counts, *(remark.text for remark in groups.remarks)])
        raise UnsupportedDataError(
            f"none of the {total} readouts is for images ({what}): give the file of the scan itself"
        )
    for heads in (imaging, groups.calibration):
        empty = (heads["active_channels"] < 1) | (heads["number_of_samples"] < 1)
        if empty.any():
            raise UnreadableError(
                f"{readout_name(heads, int(empty.argmax()))} has no coils or no samples: convert it again"
            )


def require_same_coils(groups: ReadoutGroups) -> None:
    """Raise UnsupportedDataError where readouts for images or calibration differ in their number of coils."""
    imaging = groups.imaging
    for heads in (imaging, groups.calibration):
        other = heads["active_channels"] != imaging["active_channels"][0]
        if other.any():
            at = int(other.argmax())
            raise UnsupportedDataError(
                f"{readout_name(heads, at)} has {int(heads['active_channels'][at])} coils, the first for images has "
                f"{int(imaging['active_channels'][0])}: coils that change during a scan are not supported"
            )


@dataclass(frozen=True)
class GridIndex:
    """Indices of readouts in the encoded matrix; samples are counted after reversed readouts were turned.

    Attributes
    ----------
    row, plane : along Y and K.
    column : along X, of the first sample that is used.
    skip, count : samples of the readout to leave out before that, and to use.
    reverse : whether the readout was measured from right to left.
    """

    row: Whole
    plane: Whole
    column: Whole
    skip: Whole
    count: Whole
    reverse: Mask

    def where(self, chosen: Mask) -> GridIndex:
        """Select readouts by a mask."""
        return GridIndex(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def grid_index(
    heads: ReadoutHeaders, header: IsmrmrdHeader, centre_of_reversed: ReversedCentre | None = None
) -> tuple[GridIndex, list[Remark]]:
    """Find the indices of readouts in the encoded matrix.

    Parameters
    ----------
    centre_of_reversed : where the centre of a reversed readout is; None for the header to the letter, but centred
        where the readout fills the matrix.

    Returns
    -------
    The indices, and what had to be assumed.

    Raises
    ------
    UnreadableError
        If a line or a sample lies outside the matrix; the message names the readout.
    """
    x, y, z = header.encoded.matrix
    row, remarks = _counted(heads, "kspace_encode_step_1", header.step_1, y)
    plane, more = _counted(heads, "kspace_encode_step_2", header.step_2, z)
    n, reverse = heads["number_of_samples"], heads.flagged(REVERSE)
    pre, post = (np.where(reverse, heads[b], heads[a]) for a, b in (("discard_pre", "discard_post"),
                                                                    ("discard_post", "discard_pre")))  # fmt: skip
    stored = heads["center_sample"]
    centre = np.where(reverse, turned_centre(n, stored, centre_of_reversed or "counted as stored"), stored)
    count = n - pre - post
    column = x // 2 - centre + pre
    full = count == x
    # a readout that fills the matrix can lie in one place only: a centre of 0 was not filled in, one beside it rounded
    known = (np.abs(column) <= 1) | (stored == 0)
    assumed = full & (column != 0) & known & ~(reverse & (centre_of_reversed is not None))
    column = np.where(assumed, 0, column)
    if (assumed & ~reverse).any():
        text = f"{int((assumed & ~reverse).sum())} readouts fill the matrix but say another centre than sample {x // 2}"
        remarks.append(Doubt("readout-centre", f"{text}: taken as centred"))
    if centre_of_reversed is not None:  # a sample beyond the edge of the matrix is left out
        before, after = (np.where(reverse & (over == 1), 1, 0) for over in (-column, column + count - x))
        column, pre, count = column + before, pre + before, count - before - after
    uncentred = (stored >= n) & ~full
    outside = (column < 0) | (column + count > x) | (count < 1) | uncentred
    if outside.any():
        at = int(outside.argmax())
        raise UnreadableError(
            f"{readout_name(heads, at)} has {int(n[at])} samples, its centre at {int(stored[at])} and "
            f"{int(pre[at])} + {int(post[at])} to discard: that does not fit an encoded matrix of {x}; the header or "
            "the readout is wrong, convert the scan again"
        )
    return GridIndex(row, plane, column, pre, count, reverse), remarks + more


def turned_centre(samples: Whole, stored: Whole, reading: ReversedCentre) -> Whole:
    """Index of the centre of k-space in a reversed readout after it was turned.

    >>> turned_centre(np.array([8]), np.array([4]), "counted as stored").tolist()
    [3]
    """
    return {"counted as stored": samples - 1 - stored, "mirrored at the middle": samples - stored,
            "counted as turned": stored}[reading]  # fmt: skip


def _counted(heads: ReadoutHeaders, counter: str, limits: Limits | None, size: int) -> tuple[Whole, list[Remark]]:
    """Index along an axis of phase encoding, the centre of k-space at size // 2, and a note."""
    steps = heads[counter]
    centre = size // 2 if limits is None else limits.centre
    index = steps - centre + size // 2 if size > 1 else steps
    outside = (index < 0) | (index >= size)
    if outside.any():
        at = int(outside.argmax())
        raise UnreadableError(
            f"{readout_name(heads, at)} is {counter} {int(steps[at])}, outside the encoded matrix of {size} with its "
            f"centre at {centre}: the header does not belong to these readouts; convert the scan again"
        )
    assumed = limits is None and size > 1
    text = f"the header has no limits for {counter}: its centre is taken to be {centre}"
    return index, [Doubt("no-encoding-limits", text)] if assumed else []
