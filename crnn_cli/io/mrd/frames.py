"""Frames of k-space as they come out of a stream of MRD readouts.

Legend: C coil, Y phase encoding, X readout. K-space is centred and orthonormal, complex64, on the encoded grid, as of
`crnn_cli.data.raw_scan`. Stamps are ticks of the MRD clock, 2.5 ms each; nothing here looks at the time of day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crnn_cli.data.acquisition import Complex
from crnn_cli.data.image import Affine
from crnn_cli.data.raw_scan import RawSlice
from crnn_cli.data.sampling_mask import Mask
from crnn_cli.io.kspace.ismrmrd.header import IsmrmrdHeader
from crnn_cli.io.kspace.ismrmrd.timing import TICK
from crnn_cli.notices import Remark


@dataclass(frozen=True)
class StreamHeader:
    """What is known of a stream when its first frame is there, and holds for all of it.

    Attributes
    ----------
    name : of the stream, for messages: ``standard input``, an address, a path.
    xml : facts of the XML header, set right where the readouts of the first frame contradict it, as for files.
    coils : C.
    noise_CC : noise covariance of the coils, of complex samples in the scale of the k-space, from the noise readouts
        before the first frame; None without any.
    frames, slices : numbers that the XML header states; None where it states none. A stream may end earlier or later.
    remarks : doubts and facts about the header, the noise and the first frame.
    """

    name: str
    xml: IsmrmrdHeader
    coils: int
    noise_CC: NDArray[np.complex64] | None
    frames: int | None
    slices: int | None
    remarks: tuple[Remark, ...] = ()

    @property
    def kspace_shape(self) -> tuple[int, int, int]:
        """Shape (C, Y, X) of the k-space of every frame: coils and encoded matrix."""
        x, y, _ = self.xml.encoded.matrix
        return self.coils, y, x

    @property
    def fov_fraction(self) -> tuple[float, float]:
        """Fraction (Y, X) of the encoded field of view that the images show: (1, 0.5) with twofold oversampling."""
        encoded, shown = self.xml.encoded.field, self.xml.shown.field
        return min(1.0, shown[1] / encoded[1]), min(1.0, shown[0] / encoded[0])

    @property
    def matrix(self) -> tuple[int, int]:
        """Matrix (Y, X) of the images to be sent: that of reconSpace."""
        return self.xml.shown.matrix[1], self.xml.shown.matrix[0]


@dataclass(frozen=True)
class StreamedFrame:
    """One frame of one slice, handed out when its last line has come.

    Attributes
    ----------
    kspace_CYX : complex64, zero where not measured; repeated lines are averaged, reversed ones turned.
    mask_YX : boolean; X is 1 where whole lines were measured.
    calibration_CYX : calibration lines that were measured apart since the last frame of the slice; None without any.
    number : of the frame among those of its slice, from 0; frames that were skipped are not counted.
    skipped : frames that are missing before this one, by the counters.
    slice_number : counter ``slice``.
    lines : readouts for images in it.
    head : header of its first readout (AcquisitionHeader) as sent: counters, directions, stamps.
    position : centre of the slice, LPS in mm.
    begin, end : acquisition_time_stamp of its first and last readout, in ticks.
    affine : voxel (x, y, z) of the image of this frame alone to RAS+ mm.
    codes : qform and sform code; (0, 0) where the stream states no directions.
    remarks : doubts and facts that came up with this frame.
    """

    kspace_CYX: Complex
    mask_YX: Mask
    calibration_CYX: Complex | None
    number: int
    skipped: int
    slice_number: int
    lines: int
    head: np.void
    position: tuple[float, float, float]
    begin: int
    end: int
    affine: Affine
    codes: tuple[int, int]
    remarks: tuple[Remark, ...] = ()

    @property
    def raw(self) -> RawSlice:
        """The frame as a slice of one frame (C, 1, Y, X), for `crnn_cli.data.raw_scan.remove_oversampling`; views."""
        return RawSlice(self.kspace_CYX[:, None], self.mask_YX[None], self.calibration_CYX)

    @property
    def begin_ms(self) -> float:
        """Time of the first readout in ms; of a clock whose zero is unknown, often midnight."""
        return 1000 * TICK * self.begin

    @property
    def end_ms(self) -> float:
        """Time of the last readout in ms."""
        return 1000 * TICK * self.end

    @property
    def since_r_wave_ms(self) -> float:
        """Time of the first readout since the last R wave in ms; 0 where there is no ECG."""
        return 1000 * TICK * float(self.head["physiology_time_stamp"][0])
