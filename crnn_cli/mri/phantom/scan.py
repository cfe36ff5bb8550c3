"""Simulated multi-coil scan of the beating-heart phantom, with coils, object phase and noise.

The k-space is analytic (`ellipses`), so the truth does not depend on the Fourier transform under test.

Legend: C receive coil, T frame, Y phase encoding, X readout. Lengths in mm; the intensity of blood is 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from crnn_cli.errors import UsageError
from crnn_cli.mri.fourier import kspace_to_image
from crnn_cli.mri.phantom.anatomy import BLOOD, MAX_DRIFT, RandomSource, beating_heart
from crnn_cli.mri.phantom.ellipses import Grid, Modulation, ellipses_to_kspace, uniform

LOWEST_SNR = 0.01
_HEART_LENGTH = 80.0
_PHASE_ORDER = 4


@dataclass(frozen=True)
class PhantomScan:
    """Parameters of a phantom scan.

    Attributes
    ----------
    grid : pixels and pixel size.
    frames : number of frames over one cardiac cycle.
    slices : number of slices, from the apex (first) to the base (last).
    coils : number of receive coils around the body; a single coil is uniform.
    snr : intensity of blood over the standard deviation of the noise, of the real and of the imaginary part, in the
        image of one coil; inf for no noise.
    breathing : drift of heart and liver along +y from the first frame to the last, mm.
    seed : of anatomy, phase and noise.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    grid: Grid
    frames: int
    slices: int = 1
    coils: int = 1
    snr: float = math.inf
    breathing: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.breathing <= MAX_DRIFT:
            raise UsageError(f"breathing by {self.breathing:g} mm is not possible: choose 0 to {MAX_DRIFT:g} mm")
        if not self.snr >= LOWEST_SNR:
            raise UsageError(f"an SNR of {self.snr:g} is no scan: choose {LOWEST_SNR:g} or more, or inf for no noise")

    @property
    def slice_spacing(self) -> float:
        """Distance between slices in mm: 10, or less where more than 8 slices share the heart."""
        return _HEART_LENGTH / max(8, self.slices)


@dataclass(frozen=True)
class SliceData:
    """A simulated slice, complex64.

    Attributes
    ----------
    truth_TYX : image of the noise-free k-space of a coil of uniform sensitivity.
    seen_TYX : the same object as bright as the coils see it: magnitudes are the root of the sum of squares of the
        noise-free coil images, as those of reconstructions are; of one coil the truth.
    kspace_CTYX : fully sampled, with noise.
    coils_CYX : sensitivities at the pixel centres.
    """

    truth_TYX: Tensor
    seen_TYX: Tensor
    kspace_CTYX: Tensor
    coils_CYX: Tensor


def simulate_slice(scan: PhantomScan, index: int) -> SliceData:
    """Simulate slice ``index`` of a scan, reproducibly: anatomy and phase depend on the seed, noise on seed and slice.

    The heart is scaled by sqrt(1 - (0.9 d)^2), with d the distance from the base in heart lengths (80 mm).

    >>> data = simulate_slice(PhantomScan(Grid(32, 24, 11.0), frames=3, coils=2), 0)
    >>> tuple(data.truth_TYX.shape), tuple(data.kspace_CTYX.shape)
    ((3, 24, 32), (2, 3, 24, 32))
    """
    from_base = (scan.slices - 1 - index) * scan.slice_spacing / _HEART_LENGTH
    cycle_T = torch.arange(scan.frames, dtype=torch.float64) / scan.frames
    drift_T = torch.linspace(0, scan.breathing, scan.frames, dtype=torch.float64)
    generator = torch.Generator().manual_seed(scan.seed)
    noise_seeds = torch.randint(2**62, (scan.slices,), generator=generator)
    phase = object_phase(generator)
    ellipses = beating_heart(cycle_T, drift_T, generator, math.sqrt(1 - (0.9 * from_base) ** 2))
    coils = coil_sensitivities(scan.coils)
    modulations = [phase, *(phase.times(coil) for coil in coils)] if scan.coils > 1 else [phase]
    kspace_CTYX = ellipses_to_kspace(ellipses, scan.grid, scan.frames, modulations, torch.complex64)
    received_CTYX = kspace_CTYX[-scan.coils :]
    noise = torch.Generator().manual_seed(int(noise_seeds[index]))
    truth_TYX = kspace_to_image(kspace_CTYX[0])
    brightness_TYX = kspace_to_image(received_CTYX).abs().square().sum(0).sqrt()
    return SliceData(
        truth_TYX=truth_TYX,
        seen_TYX=truth_TYX if scan.coils == 1 else torch.sgn(truth_TYX) * brightness_TYX,
        kspace_CTYX=with_noise(received_CTYX, BLOOD / scan.snr, noise),
        coils_CYX=torch.stack([coil.sampled(scan.grid) for coil in coils]).to(torch.complex64),
    )


def object_phase(generator: torch.Generator) -> Modulation:
    """Smooth random phase of the object.

    exp(i (p + b_x sin(pi x / FOV_x + p_x) + b_y sin(pi y / FOV_y + p_y))) with b from 0.3 to 0.9 rad. Its Jacobi-Anger
    series is truncated after order 4, which keeps the magnitude within 0.2 % of 1.
    """
    draw = RandomSource(generator)
    constant = torch.exp(torch.tensor(1j * draw(-math.pi, math.pi), dtype=torch.complex128))
    x_terms, y_terms = (_sine_phase(draw(0.3, 0.9), draw(-math.pi, math.pi)) for _ in range(2))
    return Modulation(constant * x_terms, y_terms)


def coil_sensitivities(coils: int) -> list[Modulation]:
    """Sensitivities of coils evenly spaced on an ellipse at 0.9 of the field of view; a single coil is uniform.

    Along each axis cos(d / 2)^4 exp(i d) with d = pi (x - x_coil) / FOV, times exp(i angle of the coil). Scaled so that
    the sum of |S|^2 over the coils is 1 at the centre.

    Raises
    ------
    UsageError
        If ``coils`` is below 1.
    """
    if coils < 1:
        raise UsageError(f"{coils} coils cannot receive anything: choose 1 or more")
    if coils == 1:
        return [uniform()]
    lobe_P = torch.tensor([0, 0, 1, 4, 6, 4, 1], dtype=torch.complex128) / 16
    order_P = torch.arange(-3, 4, dtype=torch.float64)
    maps = []
    for coil in range(coils):
        angle = 2 * math.pi * (coil + 0.25) / coils
        x_terms, y_terms = (
            lobe_P * torch.exp(-1j * order_P * (0.45 * math.pi * part)) for part in (math.cos(angle), math.sin(angle))
        )
        maps.append(Modulation(x_terms * complex(math.cos(angle), math.sin(angle)), y_terms))
    at_centre = math.sqrt(sum(float((m.x_terms.sum() * m.y_terms.sum()).abs()) ** 2 for m in maps))
    return [Modulation(m.x_terms / at_centre, m.y_terms) for m in maps]


def with_noise(kspace: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Add complex Gaussian noise to k-space; ``sigma`` is the standard deviation of the real and the imaginary part.

    The Fourier transform is orthonormal, so the noise of the image has the same ``sigma``.
    """
    noise = torch.randn(kspace.shape, dtype=kspace.dtype, generator=generator)
    return kspace + noise * (sigma * math.sqrt(2))


def combine_coils(images_CTYX: Tensor, coils_CYX: Tensor) -> Tensor:
    """Combine coil images to sum_c conj(S_c) x_c / sqrt(sum_c |S_c|^2), (T, Y, X): as bright as the coils see it.

    NaN where all sensitivities are 0.

    References
    ----------
    Roemer et al., MRM 16, 1990.
    """
    weighted_TYX = torch.einsum("cyx,ctyx->tyx", coils_CYX.conj(), images_CTYX)
    return weighted_TYX / (coils_CYX.abs() ** 2).sum(dim=0).sqrt()


def _sine_phase(depth: float, shift: float) -> Tensor:
    """Fourier coefficients of exp(i depth sin(theta + shift)), orders -4 to 4, complex128."""
    theta = torch.arange(64, dtype=torch.float64) * (2 * math.pi / 64)
    wave = torch.exp(1j * depth * torch.sin(theta + shift))
    order_P = torch.arange(-_PHASE_ORDER, _PHASE_ORDER + 1, dtype=torch.float64)
    return torch.exp(-1j * order_P[:, None] * theta) @ wave / 64
