"""Images averaged over flipped copies of a scan, as a network makes its errors a little differently in each.

A convolutional network knows up from down, and the real part from the imaginary: the copies differ in both. They are
flipped from edge to edge, so that what lies side by side stays side by side: mirrored about the pixel at the centre,
an even axis would bring its last row beside its first, an edge that spreads along the undersampled axis. All copies are
true to the same samples, and so is their mean. (Averaging over what should make no difference is test-time
augmentation; by mirroring, for example, in Isensee et al.: nnU-Net, Nature Methods 18, 2021.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import add

from torch import Tensor

from crnn_cli.mri.fourier import flip_in_kspace, mirror_kspace
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import Reconstructor

VIEWS: tuple[tuple[int, ...], ...] = ((), (-2,), (-1,), (-2, -1))
"""Axes that each copy is flipped along; its phase is turned by so many quarters as its place in this row says."""
COPIES = len(VIEWS)
"""At most."""


class Ensemble:
    """A method whose images are the mean of those of some copies; see `crnn_cli.reconstruction.reconstruct.Reconstructor`.

    Parameters
    ----------
    count : of the copies, from 1, the scan as it is, to `COPIES`; it takes so many times as long.
    """

    def __init__(self, method: Reconstructor, count: int) -> None:
        if not 1 <= count <= COPIES:
            raise ValueError(f"{count} copies: from 1 to {COPIES}")
        self.method, self.count = method, count

    @property
    def steps(self) -> int:
        """Return the steps of the method, for all copies."""
        return self.count * self.method.steps

    def __call__(self, measured: SliceMeasurement, tick: Callable[[], None]) -> Tensor:
        """Return complex images (B, T, Y, X)."""
        images = (undo_copy(self.method(make_copy(measured, number), tick), number) for number in range(self.count))
        return reduce(add, images) / self.count


def make_copy(measured: SliceMeasurement, number: int) -> SliceMeasurement:
    """Return the data of a copy: of the images flipped along its axes, times its phase. Number 0 is the scan itself."""
    if number == 0:
        return measured
    axes, maps_BCYX = VIEWS[number], measured.maps_BCYX
    return replace(
        measured,
        kspace_BCTYX=flip_in_kspace(measured.kspace_BCTYX, axes) * 1j**number,
        mask_BTYX=mirror_kspace(measured.mask_BTYX, axes),
        maps_BCYX=None if maps_BCYX is None else maps_BCYX.flip(axes),
    )


def undo_copy(image_BTYX: Tensor, number: int) -> Tensor:
    """Return what images of a copy are of the scan itself."""
    return image_BTYX.flip(VIEWS[number]) * (-1j) ** number if number else image_BTYX
