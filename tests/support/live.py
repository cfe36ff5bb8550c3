"""A small causal network, as a network and as a bundle, and series to give it."""

from pathlib import Path

import torch

from crnn_cli.bundles.store import write_bundle
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.networks.live_crnn import LiveCRNN, LiveCRNNConfig
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.settings import InferenceSettings

SMALL = LiveCRNNConfig(features=4, iterations=2, weight_sets=2)


def network(config=SMALL, seed=0):
    """Return a network whose output layers are not zero, as they are before training."""
    torch.manual_seed(seed)
    made = LiveCRNN(config).eval()
    for layers in made.sets:
        torch.nn.init.normal_(layers.output.weight, std=0.02)
    return made


def bundle(folder: Path):
    """Write the small network as a bundle."""
    config = {
        "task": "reconstruct", "network": "live-crnn", "settings": vars(SMALL), "initial_image": "running",
        "input_rms": 1.0, "summary": "small", "licence": "CC0-1.0",
    }  # fmt: skip
    return write_bundle(folder, config, network().state_dict(), "# small\n").folder


def measurement(frames=6, lines=14, columns=9, coils=1, seed=0, deviation=0.0):
    """Return an undersampled slice of random images, with sensitivities where there are several coils."""
    g = torch.Generator().manual_seed(seed)
    image = torch.randn(1, frames, lines, columns, dtype=torch.complex64, generator=g).cumsum(1)
    mask = torch.rand(1, frames, lines, 1, generator=g) < 0.4
    mask[:, :, lines // 2] = True
    if coils == 1:
        return SliceMeasurement((image_to_kspace(image) * mask)[:, None], mask, deviation=deviation)
    maps = torch.randn(1, coils, lines, columns, dtype=torch.complex64, generator=g)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    kspace = image_to_kspace(image[:, None] * maps[:, :, None])
    return SliceMeasurement(kspace * mask[:, None], mask, maps, deviation)


def settings(calibration_frames=3, iterations=2, initial_image="running"):
    return InferenceSettings(initial_image, 1.0, iterations, calibration_frames=calibration_frames)
