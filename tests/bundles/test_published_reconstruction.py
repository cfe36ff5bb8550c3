"""Of a published reconstruction model every set of weights does something to the images."""

import numpy as np
import pytest
import torch

from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.mri.consistency import SingleCoilConsistency, energy_weighted_rms
from crnn_cli.mri.total_variation import tv_start
from tests.support.cines import lines_mask, moving_cine, to_kspace

OUTPUTS = ("conv4_x.weight", "output.weight")
"""Weights of the layer that a set changes the images by, as they are named at the end."""


def undersampled():
    """Return the data consistency of 48 x 40 x 8 undersampled samples, as bright as in training."""
    mask = lines_mask(48, 40, 8, share=0.2)
    kspace = to_kspace(moving_cine(48, 40, 1, 8)) * mask
    kspace_BTYX, mask_BTYX = (torch.from_numpy(np.ascontiguousarray(a[:, :, 0].T)[None]) for a in (kspace, mask))
    operator = SingleCoilConsistency(kspace_BTYX.to(torch.complex64), mask_BTYX.float())
    return operator.scaled(1 / energy_weighted_rms(operator.running()))


@pytest.mark.parametrize("name", ["cine-crnn", "cine-crnn-fast", "cine-crnn-live"])
def test_every_set_of_weights_changes_the_images(name):
    bundle, operator = find_bundle(name, "reconstruct"), undersampled()
    start = operator.running() if bundle.initial_image == "running" else tv_start(operator)
    network = load_reconstruction(bundle, torch.device("cpu")).eval()
    layers = {key: weight for key, weight in network.named_parameters() if key.endswith(OUTPUTS)}
    assert len(layers) == network.config.weight_sets
    with torch.no_grad():
        images = network(start, operator)
        for key, weight in layers.items():
            kept = weight.clone()
            weight.zero_()
            change = (network(start, operator) - images).norm() / images.norm()
            weight.copy_(kept)
            assert change > 1e-3, f"{key}: without it the images change by {change:.1e}"
