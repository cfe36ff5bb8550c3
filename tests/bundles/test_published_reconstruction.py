"""Of a published reconstruction model every set of weights does something to the images."""

import numpy as np
import pytest
import torch

from crnn_cli.bundles.store import find_bundle, load_reconstruction
from crnn_cli.mri.consistency import SingleCoilConsistency, energy_weighted_rms
from crnn_cli.reconstruction.reconstruct import INITIAL_IMAGES
from crnn_cli.training.reconstruct.idle import IDLE, changes_by_set
from tests.support.cines import lines_mask, moving_cine, to_kspace


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
    start = INITIAL_IMAGES[bundle.initial_image](operator)
    changes = changes_by_set(load_reconstruction(bundle, torch.device("cpu")).eval(), start, operator)
    assert len(changes) == bundle.settings["weight_sets"]
    assert min(changes) > IDLE
