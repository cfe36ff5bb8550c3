"""Two sets of coil sensitivities, for a field of view that is smaller than the object (soft SENSE).

Where the object folds, a pixel shows two places of it, which the coils see differently: the image gets two components,
one for each set. The first set has norm 1 everywhere. The second is orthogonal to it, and its norm falls from 1 to 0
where one set explains the calibration lines.

Legend: M set of maps, C coil, Y phase encoding, X readout. K-space is centred.

References
----------
Uecker et al., MRM 71, 2014 (several sets of ESPIRiT maps); Uecker & Lustig, MRM 77, 2017 (smooth phase).
"""

from __future__ import annotations

import torch
from torch import Tensor

from crnn_cli.mri.espirit import espirit_eigenmaps, strongest_coil
from crnn_cli.mri.fourier import kspace_to_image

MOST_SETS = 2
"""Largest number of sets."""
FOLDED_ENERGY = 5e-4
"""Share of the energy that one set does not explain, above which the object is larger than the field of view. Phantoms
and brains that fit stay below 6e-5; with a tenth of the body outside, it is 26e-4 (`benchmarks/two_maps.py`)."""
_SURE = 0.9  # second eigenvalue from which a pixel shows two places
_NO_SIGNAL = 0.5  # where even the last eigenvalue is above this, the calibration lines are mostly noise
_NOISE = 8.0  # times the energy that noise alone gives to the second component; eigenvectors turn towards noise
_RAMP = (0.75, 0.95)  # second eigenvalues between which the norm of the second set rises


def estimate_map_sets(
    block_CYX: Tensor, shape_YX: tuple[int, int], map_sets: int | None = None, deviation: float = 0.0
) -> tuple[Tensor, float]:
    """Estimate one set of coil sensitivities by ESPIRiT, or two where the field of view is smaller than the object.

    Parameters
    ----------
    block_CYX : calibration block, complex.
    shape_YX : matrix of the sensitivities in pixels.
    map_sets : 1, 2, or None: two where `folded_energy` is above `FOLDED_ENERGY` and there are more than two coils.
    deviation : standard deviation of the complex noise of a sample of the block; 0 where unknown.

    Returns
    -------
    maps_MCYX : the sets; one set is that of `crnn_cli.mri.espirit.espirit`.
    energy : `folded_energy`; 0 of one coil.
    """
    coils = len(block_CYX)
    maps_MCYX, values_CYX = espirit_eigenmaps(block_CYX, shape_YX, min(MOST_SETS, coils))
    energy = folded_energy(block_CYX, maps_MCYX, values_CYX, deviation) if coils > 1 else 0.0
    if map_sets is None:
        map_sets = 2 if coils > MOST_SETS and energy > FOLDED_ENERGY else 1
    if map_sets == 1 or coils == 1:
        return maps_MCYX[:1], energy
    return smooth_pair(block_CYX, maps_MCYX, values_CYX[1]), energy


def folded_energy(block_CYX: Tensor, maps_MCYX: Tensor, values_CYX: Tensor, deviation: float = 0.0) -> float:
    """Share of the energy of the calibration block in the second component, where the second eigenvalue is near 1.

    Noise is subtracted, eightfold as the eigenvectors turn towards it. Pixels count where the second eigenvalue is
    above 0.9 and the last below 0.5; there the lines determine two vectors, not all of them.

    Parameters
    ----------
    block_CYX : calibration block, complex.
    maps_MCYX, values_CYX : its eigenmaps, two or more, and all eigenvalues; see `espirit_eigenmaps`.
    deviation : standard deviation of the complex noise of a sample of the block.
    """
    image_CYX, noise = _smooth_image(block_CYX, (values_CYX.shape[-2], values_CYX.shape[-1]))
    power_YX = image_CYX.abs().square().sum(0)
    counted_YX = (values_CYX[1] > _SURE) & (values_CYX[-1] < _NO_SIGNAL)
    second_YX = (maps_MCYX[1].conj() * image_CYX).sum(0).abs().square() - _NOISE * noise * deviation**2
    total = float(power_YX.sum())
    return max(0.0, float(second_YX[counted_YX].sum()) / total) if total else 0.0


def smooth_pair(block_CYX: Tensor, maps_MCYX: Tensor, second_YX: Tensor) -> Tensor:
    """Turn two eigenvectors within their plane so that they vary little from line to line, and weight the second.

    Where both eigenvalues are near 1, eigenvectors are arbitrary mixtures of the two places. The first set is carried
    outwards from the central line, where the object hides the fewest folds: from line to line it is projected onto the
    plane of the next. So it stays the sensitivity of one place as far as that is determined, and networks and total
    variation see an image that looks like one. Phases make one virtual coil real and positive in each set: the
    strongest of the block, and the strongest in the second component.

    Parameters
    ----------
    block_CYX : calibration block.
    maps_MCYX : two eigenmaps, orthonormal at each pixel.
    second_YX : second eigenvalue.

    Returns
    -------
    (2, C, Y, X): norm 1, and norm rising from 0 to 1 between second eigenvalues of 0.75 and 0.95.
    """
    low, high = _RAMP
    weight_YX = ((second_YX - low) / (high - low)).clamp(0, 1)
    first_CYX, other_CYX = maps_MCYX[0], maps_MCYX[1]
    carried_CYX = _carry(first_CYX, other_CYX, weight_YX)
    along_YX, across_YX = ((each.conj() * carried_CYX).sum(0) for each in (first_CYX, other_CYX))
    orthogonal_CYX = along_YX.conj() * other_CYX - across_YX.conj() * first_CYX
    image_CYX, _ = _smooth_image(block_CYX, (second_YX.shape[0], second_YX.shape[1]))
    energy_YX = weight_YX * (orthogonal_CYX.conj() * image_CYX).sum(0).abs().square()
    flat = (orthogonal_CYX * energy_YX.sqrt()).flatten(1)
    reference_C = torch.linalg.eigh(flat @ flat.mH)[1][:, -1]
    second_CYX = weight_YX * _with_phase(orthogonal_CYX, reference_C)
    return torch.stack([_with_phase(carried_CYX, strongest_coil(block_CYX)), second_CYX])


def visible_components(image_MTYX: Tensor, maps_MCYX: Tensor) -> Tensor:
    """Components z = (S^H S)^1/2 x, whose root of the sum of squares is that of the coil images S x.

    Where a set is 0, no coil sees its component, and data do not determine it. Of orthogonal sets each component is
    multiplied by the norm of its set.

    Parameters
    ----------
    image_MTYX : components x of an image.
    maps_MCYX : sets of sensitivities.
    """
    gram_YXMM = torch.einsum("mcyx,ncyx->yxmn", maps_MCYX.conj(), maps_MCYX)
    values_YXM, vectors_YXMM = torch.linalg.eigh(gram_YXMM)
    root_YXMM = (vectors_YXMM * values_YXM.clamp_min(0).sqrt()[..., None, :]) @ vectors_YXMM.mH
    visible: Tensor = torch.einsum("yxmn,ntyx->mtyx", root_YXMM, image_MTYX)
    return visible


def normalise_sets(maps_MCYX: Tensor) -> Tensor:
    """Divide sensitivities of several sets by their largest singular value at each pixel; 0 stays 0.

    Relative weights of the sets are kept, and no image gains energy: S^H S <= 1. Of one set it gives a sum of squares
    of 1 over the coils.
    """
    gram_YXMM = torch.einsum("mcyx,ncyx->yxmn", maps_MCYX.conj(), maps_MCYX)
    norm_YX = torch.linalg.eigvalsh(gram_YXMM)[..., -1].clamp_min(0).sqrt()
    return maps_MCYX / torch.where(norm_YX > 0, norm_YX, torch.ones_like(norm_YX))


def _carry(first_CYX: Tensor, other_CYX: Tensor, weight_YX: Tensor) -> Tensor:
    """First set, carried from the central line outwards in both directions; of norm 1."""
    carried_CYX, middle = first_CYX.clone(), first_CYX.shape[1] // 2
    for lines in (range(middle + 1, first_CYX.shape[1]), range(middle - 1, -1, -1)):
        before_CX = carried_CYX[:, middle]
        for y in lines:
            along_X = (first_CYX[:, y].conj() * before_CX).sum(0)
            across_X = weight_YX[y] * (other_CYX[:, y].conj() * before_CX).sum(0)
            next_CX = along_X * first_CYX[:, y] + across_X * other_CYX[:, y]
            norm_X = next_CX.abs().square().sum(0).sqrt()
            before_CX = torch.where(norm_X > 1e-6, next_CX / norm_X.clamp_min(1e-6), first_CYX[:, y])
            carried_CYX[:, y] = before_CX
    return carried_CYX


def _with_phase(maps_CYX: Tensor, reference_C: Tensor) -> Tensor:
    """Sensitivities whose part along a virtual coil is real and positive."""
    return maps_CYX * torch.sgn(torch.einsum("c,cyx->yx", reference_C.conj(), maps_CYX)).conj()


def _smooth_image(block_CYX: Tensor, shape_YX: tuple[int, int]) -> tuple[Tensor, float]:
    """Coil images of the block under a Hann window, and the variance that noise of variance 1 gives to a pixel."""
    window_YX = torch.ones(block_CYX.shape[1:], dtype=block_CYX.real.dtype, device=block_CYX.device)
    for axis, length in enumerate(block_CYX.shape[1:]):
        window = torch.hann_window(length + 2, periodic=False, dtype=window_YX.dtype, device=window_YX.device)[1:-1]
        window_YX = window_YX * (window[:, None] if axis == 0 else window)
    kspace_CYX = block_CYX.new_zeros(len(block_CYX), *shape_YX)
    (lines, samples), (height, width) = shape_YX, block_CYX.shape[1:]
    top, left = lines // 2 - height // 2, samples // 2 - width // 2
    kspace_CYX[:, top : top + height, left : left + width] = block_CYX * window_YX
    return kspace_to_image(kspace_CYX), float(window_YX.square().sum()) / (lines * samples)
