"""Settings of a reconstruction network at inference."""

from __future__ import annotations

from dataclasses import dataclass

CALIBRATION_FRAMES = 8
"""Frames at the start of a stream that scale and sensitivities are taken from, unless another number is asked for."""


@dataclass(frozen=True)
class InferenceSettings:
    """Settings of a network at inference; a bundle says what it was trained with.

    Attributes
    ----------
    initial_image : a key of `crnn_cli.reconstruction.reconstruct.INITIAL_IMAGES`.
    input_rms : `energy_weighted_rms` that the initial image is scaled to.
    iterations : unrolled iterations; 0 returns the initial image.
    noise_ratio : noise variance of the samples relative to the network's error; 0 is hard data consistency. None: from
        the noise estimated in the samples and the error that the network expects, where it was trained to.
    bfloat16 : convolutions and states in bfloat16; data consistency stays in single precision.
    memory : limit of the whole process in bytes, on a CPU; states beyond it spill to disk.
    calibration_frames : frames at the start of a slice that a causal network's scale is taken from.
    tf32 : convolutions on a GPU may round their factors to 10 bits (TF32); sums stay in single precision.
    """

    initial_image: str
    input_rms: float
    iterations: int
    noise_ratio: float | None = None
    bfloat16: bool = False
    memory: int | None = None
    tf32: bool = False
    calibration_frames: int = CALIBRATION_FRAMES
