"""Test-time augmentation: the mean over reconstructions of flipped copies of a scan.

A convolutional network knows up from down, and the real part from the imaginary part: the copies differ in both. They
are flipped from edge to edge, so that neighbouring pixels stay neighbours. (Mirroring about the centre pixel would
bring the last row of an even axis beside its first, an edge that spreads along the undersampled axis.) All copies are
consistent with the same samples, and so is their mean.

References
----------
Isensee et al., nnU-Net, Nature Methods 18, 2021 (mirroring at test time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from crnn_cli.mri.fourier import flip_in_kspace, mirror_kspace
from crnn_cli.networks.live_crnn import LiveCRNN
from crnn_cli.reconstruction.frames import FrameReconstructor, brightness_of
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import MethodResult, Reconstructor
from crnn_cli.reconstruction.settings import InferenceSettings

VIEWS: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))
"""VIEWS[n]: axes along which copy n is flipped; it is also multiplied by 1j**n."""
COPIES = len(VIEWS)
"""Largest number of copies."""


class Ensemble:
    """A `Reconstructor` that averages another one over flipped copies of the scan.

    Parameters
    ----------
    method : the reconstructor that every copy goes through.
    count : copies, from 1 (the scan as it is) to `COPIES`; the cost grows in proportion.

    Raises
    ------
    ValueError
        If ``count`` is out of range.
    """

    def __init__(self, method: Reconstructor[None], count: int) -> None:
        if not 1 <= count <= COPIES:
            raise ValueError(f"{count} copies: from 1 to {COPIES}")
        self.method, self.count = method, count

    @property
    def steps(self) -> int:
        """Steps of the method, for all copies together."""
        return self.count * self.method.steps

    def __call__(self, measurement: SliceMeasurement, on_step: Callable[[], None]) -> MethodResult[None]:
        """Reconstruct all copies and average their images, brought back to the orientation of the scan.

        The regularisation weight is that of the scan itself, the first copy.
        """
        result = self.method(measurement, on_step)
        total_BTYX, weight = result.images_BTYX, result.regularisation_weight
        for number in range(1, self.count):
            result = self.method(make_copy(measurement, number), on_step)
            total_BTYX = total_BTYX + undo_copy(result.images_BTYX, number)
        return MethodResult(total_BTYX / self.count, None, weight)


class FrameEnsemble:
    """The mean over flipped copies of each frame of a slice, as they come; to the bit that of `Ensemble`.

    Parameters
    ----------
    network, settings : as of `FrameReconstructor`.
    measurement : of the first frames, which give the brightness of each copy.
    count : copies, from 1 to `COPIES`.
    """

    def __init__(
        self, network: LiveCRNN, settings: InferenceSettings, measurement: SliceMeasurement, count: int
    ) -> None:
        brightnesses = [brightness_of(make_copy(measurement, n), settings.calibration_frames) for n in range(count)]
        self._copies = [FrameReconstructor(network, settings, brightness) for brightness in brightnesses]

    def next(self, frame: SliceMeasurement) -> Tensor:
        """Reconstruct the next frame: complex image (B, 1, Y, X)."""
        return _mean([copy.next(make_copy(frame, number)) for number, copy in enumerate(self._copies)])

    def from_part(self, part: SliceMeasurement) -> Callable[[], Tensor]:
        """Prepare the reconstruction of the next frame from a part of its samples; as of `FrameReconstructor`."""
        makes = [copy.from_part(make_copy(part, number)) for number, copy in enumerate(self._copies)]
        return lambda: _mean([make() for make in makes])


def _mean(images: Sequence[Tensor]) -> Tensor:
    """Mean of the images of all copies, brought back to the orientation of the scan."""
    total_B1YX = images[0]
    for number, image_B1YX in enumerate(images[1:], start=1):
        total_B1YX = total_B1YX + undo_copy(image_B1YX, number)
    return total_B1YX / len(images)


def make_copy(measurement: SliceMeasurement, number: int) -> SliceMeasurement:
    """K-space of a copy: of the images flipped along ``VIEWS[number]`` and multiplied by ``1j**number``.

    Number 0 is the scan itself. Mask and sensitivities are flipped along.
    """
    if number == 0:
        return measurement
    axes, maps_BCYX = VIEWS[number], measurement.maps_BCYX
    return replace(
        measurement,
        kspace_BCTYX=flip_in_kspace(measurement.kspace_BCTYX, axes) * 1j**number,
        mask_BTYX=mirror_kspace(measurement.mask_BTYX, axes),
        maps_BCYX=None if maps_BCYX is None else maps_BCYX.flip(axes),
    )


def undo_copy(image_BTYX: Tensor, number: int) -> Tensor:
    """Undo flip and phase of copy ``number``: the inverse of what `make_copy` did to the images.

    >>> import torch
    >>> image_BTYX = torch.arange(4.0).reshape(1, 1, 2, 2) + 1j
    >>> bool((undo_copy(image_BTYX.flip(VIEWS[3]) * 1j**3, 3) == image_BTYX).all())
    True
    """
    return image_BTYX.flip(VIEWS[number]) * (-1j) ** number if number else image_BTYX
