"""Volumes by discs, slice by slice and frame by frame, and what their curve over the cycle says.

A disc is the area of a structure in a slice times the distance from slice to slice (Simpson's rule of short-axis cine:
Schulz-Menger et al., JCMR 22:19, 2020). Gaps between slices belong to the discs beside them.

Legend: T frame, S slice (base and apex are told in `crnn_cli.cardiac.wall`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crnn_cli.cardiac.chambers import Chambers
from crnn_cli.data.geometry import SliceOrder
from crnn_cli.data.image import Image

Curve = NDArray[np.float64]

HARMONICS = 4
"""Harmonics of the cycle that a smoothed curve keeps."""
_EMPTY_AND_FULL = (0.25, 0.75)
_FEWEST_FRAMES = 2 * HARMONICS + 4  # so that the residual of the fit says something


@dataclass(frozen=True)
class StructureVolumes:
    """Volumes of one structure.

    Attributes
    ----------
    name : of the structure, see `crnn_cli.cardiac.chambers`.
    discs_ST : of each slice, in the order of the array, and frame, in ml.
    """

    name: str
    discs_ST: Curve

    @property
    def curve(self) -> Curve:
        """Volume of each frame in ml, (T,)."""
        total: Curve = self.discs_ST.sum(axis=0)
        return total


def structure_volumes(labels: Image, chambers: Chambers, order: SliceOrder) -> dict[str, StructureVolumes]:
    """Volumes of every structure, by name.

    Parameters
    ----------
    labels : label map (x, y, z) or (x, y, z, t).
    order : along which axis of the array slices follow each other.
    """
    frames = labels.array.reshape((*labels.shape[:3], labels.frames))
    plane = tuple(axis for axis in range(3) if axis != order.axes[0])
    millilitres = voxel_volume(labels)
    return {
        name: StructureVolumes(name, np.count_nonzero(frames == value, axis=plane) * millilitres)
        for name, value in chambers.named().items()
    }


def voxel_volume(image: Image) -> float:
    """Volume of a voxel in ml, from its edges as the affine says them, or the voxel size where that has lost them.

    >>> voxel_volume(Image(np.zeros((2, 2, 2)), np.diag([1.5, 1.5, 8, 1])))
    0.018
    """
    unit = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    return float(abs(np.linalg.det(unit)) * np.prod(image.spacing)) / 1000


def harmonic_fit(curve_T: Curve, harmonics: int = HARMONICS) -> Curve:
    """Least-squares fit of a closed cycle by its mean and the first harmonics; (T,).

    >>> angle = 2 * np.pi * np.arange(20) / 20
    >>> bool(np.allclose(harmonic_fit(100 + 30 * np.cos(angle)), 100 + 30 * np.cos(angle)))
    True
    """
    spectrum = np.fft.rfft(curve_T)
    spectrum[harmonics + 1 :] = 0
    fit: Curve = np.fft.irfft(spectrum, len(curve_T))
    return fit


def roughness(curve_T: Curve) -> float | None:
    """Root mean square of what `HARMONICS` leave of a curve, over its range (the stroke); None where frames are few.

    A heart gives 0.01 to 0.03. Frames out of order, or a structure lost in single frames, give more.
    """
    stroke = float(np.ptp(curve_T))
    if len(curve_T) < _FEWEST_FRAMES or stroke == 0:
        return None
    return float(np.sqrt(np.mean((curve_T - harmonic_fit(curve_T)) ** 2))) / stroke


def count_beats(curve_T: Curve) -> int:
    """How often a cavity empties over the frames, around the cycle: from above 3/4 of the stroke to below 1/4.

    Frames of one beat give 1, of real time several; frames out of order more than one as well.

    >>> angle = 2 * np.pi * np.arange(40) / 40
    >>> count_beats(100 + 30 * np.cos(angle)), count_beats(100 + 30 * np.cos(2 * angle))
    (1, 2)
    """
    low, high = (curve_T.min() + share * np.ptp(curve_T) for share in _EMPTY_AND_FULL)
    beats, full = 0, True
    for volume in np.roll(curve_T, -int(curve_T.argmax())):
        if full and volume < low:
            beats, full = beats + 1, False
        full = full or bool(volume > high)
    return beats


@dataclass(frozen=True)
class Rates:
    """Fastest change of a volume over the cycle, in ml/s, of the curve smoothed by `harmonic_fit`.

    Attributes
    ----------
    ejection : largest decrease, as a positive number.
    filling : largest increase.
    ejection_frame, filling_frame : nearest frames, from 0.
    """

    ejection: float
    filling: float
    ejection_frame: int
    filling_frame: int


def peak_rates(curve_T: Curve, frame_time: float) -> Rates:
    """Peak ejection and filling rate.

    Parameters
    ----------
    curve_T : volumes of frames that cover the whole cycle once, in ml.
    frame_time : seconds.
    """
    spectrum = np.fft.rfft(curve_T)
    spectrum[HARMONICS + 1 :] = 0
    fine = 20 * len(curve_T)
    omega = 2j * np.pi * np.arange(len(spectrum)) / (len(curve_T) * frame_time)
    slope = np.fft.irfft(spectrum * omega, fine) * (fine / len(curve_T))
    frames = [round(int(each) / 20) % len(curve_T) for each in (slope.argmin(), slope.argmax())]
    return Rates(-float(slope.min()), float(slope.max()), *frames)
