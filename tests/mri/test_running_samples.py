"""Running samples: what frames before measured, later ones with more weight, and never a look ahead."""

import pytest
import torch

from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.multicoil import MultiCoilConsistency
from crnn_cli.mri.running_samples import running_series
from tests.support.live import measurement


def slowly(data_NTYX, mask_NTYX):
    """Return the series by the formula, a sum over all frames before."""
    filled = data_NTYX.clone()
    for t in range(data_NTYX.shape[1]):
        for place in (mask_NTYX[:, t] == 0).expand(data_NTYX[:, t].shape).nonzero():
            n, y, x = place.tolist()
            seen = [s for s in range(t) if mask_NTYX[min(n, len(mask_NTYX) - 1), s, y, min(x, mask_NTYX.shape[-1] - 1)]]
            weights = [0.5 ** (max(seen) - s) for s in seen]
            values = [w * data_NTYX[n, s, y, x] for w, s in zip(weights, seen, strict=True)]
            filled[n, t, y, x] = sum(values) / sum(weights) if seen else 0
    return filled


@pytest.mark.parametrize("columns", [1, 4])
def test_missing_samples_are_weighted_means_of_the_frames_before(columns):
    g = torch.Generator().manual_seed(1)
    mask = (torch.rand(2, 7, 5, columns, generator=g) < 0.35).float()
    data = torch.randn(2, 7, 5, 4, dtype=torch.complex64, generator=g) * mask
    torch.testing.assert_close(running_series(data, mask), slowly(data, mask))


@pytest.mark.parametrize("coils", [1, 3])
def test_running_images_keep_what_is_measured_and_see_nothing_later(coils):
    whole = measurement(coils=coils)
    operator = whole.consistency()
    images = operator.running()
    if coils == 1:
        assert isinstance(operator, SingleCoilConsistency)
        kspace = image_to_kspace(images)
        torch.testing.assert_close(kspace * whole.mask_BTYX, whole.kspace_BCTYX[:, 0])
    other = whole.kspace_BCTYX.clone()
    other[:, :, 4:] *= -3
    again = SingleCoilConsistency(other[:, 0], whole.mask_BTYX) if coils == 1 else MultiCoilConsistency(
        other, whole.mask_BTYX, whole.maps_BCYX)  # fmt: skip
    assert torch.equal(again.running()[:, :4], images[:, :4])
    assert not torch.allclose(again.running()[:, 4:], images[:, 4:])


def test_several_coils_are_filled_one_by_one_and_combined():
    whole = measurement(coils=3)
    filled = running_series(whole.kspace_BCTYX[0], whole.mask_BTYX.float())
    combined = (kspace_to_image(filled) * whole.maps_BCYX[0, :, None].conj()).sum(0)
    torch.testing.assert_close(whole.consistency().running()[0], combined)


@pytest.mark.parametrize("coils", [1, 3])
def test_a_step_of_some_frames_is_the_step_of_all_there(coils):
    whole = measurement(coils=coils, deviation=0.1)
    operator, error = whole.consistency(), torch.tensor(0.2)
    image = torch.randn(1, 6, 14, 9, dtype=torch.complex64)
    torch.testing.assert_close(operator.step(image[:, 2:5], slice(2, 5), error), operator(image, error)[:, 2:5])
