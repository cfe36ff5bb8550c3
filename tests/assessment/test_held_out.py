"""What is held out is measured, outside the centre, unseen by the method, and the same for the same seed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.assessment.held_out import CENTRE, HoldOutReconstructor, hold_out_lines, residual_of
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.reconstruction.measurement import SliceMeasurement
from crnn_cli.reconstruction.reconstruct import MethodResult


def measured(lines=32, samples=1, frames=4, coils=2, share=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, frames, lines, samples, generator=generator) < share
    mask[..., lines // 2, :] = True
    kspace = torch.randn(1, coils, frames, lines, 8, generator=generator, dtype=torch.complex64) * mask[:, None]
    maps = torch.full((1, coils, lines, 8), coils**-0.5, dtype=torch.complex64)
    return SliceMeasurement(kspace, mask, maps if coils > 1 else None)


@settings(deadline=None)
@given(samples=st.sampled_from([1, 8]), share=st.floats(0.05, 0.5), seed=st.integers(0, 99))
def test_kept_and_held_out_divide_the_samples(samples, share, seed):
    data = measured(samples=samples, seed=seed)
    kept, held = hold_out_lines(data, share, torch.Generator().manual_seed(seed))
    assert not (kept.mask_BTYX & held).any()
    assert ((kept.mask_BTYX | held) == data.mask_BTYX).all()
    middle = data.mask_BTYX.shape[2] // 2
    if samples == 1:
        assert not held[:, :, middle - CENTRE : middle + CENTRE + 1].any()
        free = data.mask_BTYX.clone()
        free[:, :, middle - CENTRE : middle + CENTRE + 1] = False
        for count, of in zip(held.sum((2, 3)).flatten().tolist(), free.sum((2, 3)).flatten().tolist(), strict=True):
            assert count == min(of // 2, max(1, round(of * share)))
    torch.testing.assert_close(kept.kspace_BCTYX, data.kspace_BCTYX * ~held[:, None])


def test_single_samples_are_held_out_everywhere_but_in_the_middle_square():
    kspace, mask = torch.ones(1, 1, 3, 24, 24, dtype=torch.complex64), torch.ones(1, 3, 24, 24, dtype=torch.bool)
    _, held = hold_out_lines(SliceMeasurement(kspace, mask), 0.5, torch.Generator().manual_seed(0))
    square = slice(12 - CENTRE, 12 + CENTRE + 1)
    assert not held[:, :, square, square].any()
    assert held[:, :, square, : 12 - CENTRE].any()
    assert held[:, :, : 12 - CENTRE, square].any()
    assert held.sum((2, 3)).tolist() == [[round(0.5 * (24**2 - 81))] * 3]


def test_frames_differ_and_a_seed_repeats():
    data = measured(frames=6, share=1.0)
    first, again = (hold_out_lines(data, 0.2, torch.Generator().manual_seed(3))[1] for _ in range(2))
    assert (first == again).all()
    assert not (first == first[:, :1]).all()


def test_nothing_outside_the_centre_is_refused():
    data = measured(lines=9)
    with pytest.raises(UnsupportedDataError, match="centre"):
        hold_out_lines(data, 0.2, torch.Generator())


class Guess:
    steps = 1

    def __init__(self, make):
        self.make, self.seen = make, []

    def __call__(self, data, tick):
        self.seen.append(data)
        tick()
        return MethodResult(self.make(data), None)


@pytest.mark.parametrize("coils", [1, 2])
def test_the_truth_predicts_everything_and_zero_nothing(coils):
    data = measured(coils=coils)
    image = torch.randn(1, 4, 32, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    encoding = SliceMeasurement(data.kspace_BCTYX, torch.ones(1, 4, 32, 8), data.maps_BCYX).encoding()
    kspace = image_to_kspace(encoding.coil_images(image)) * data.mask_BTYX[:, None]
    data = SliceMeasurement(kspace, data.mask_BTYX, data.maps_BCYX)
    for make, wanted in ((lambda _: image, 0.0), (lambda _: 0 * image, 1.0), (lambda _: 0.5 * image, 0.5)):
        judged = HoldOutReconstructor(Guess(make), 0.3)
        sums = [judged(data, lambda: None).assessment for _ in range(2)]
        assert residual_of(sums) == pytest.approx(wanted, abs=1e-5)
        first, second = judged.method.seen
        assert first.kspace_BCTYX.abs().sum() < data.kspace_BCTYX.abs().sum()
        assert (first.mask_BTYX != second.mask_BTYX).any()


def test_slices_count_by_their_energy():
    image, mask = torch.ones(1, 4, 32, 8, dtype=torch.complex64), measured().mask_BTYX
    image[:, :, ::3] = 2j
    data = SliceMeasurement(image_to_kspace(image)[:, None] * mask[:, None], mask)
    bright = SliceMeasurement(3 * data.kspace_BCTYX, mask)
    answers = iter((0 * image, 3 * image))
    judged = HoldOutReconstructor(Guess(lambda seen: next(answers)), 0.3, seed=1)
    sums = [judged(data, lambda: None).assessment]
    assert residual_of(sums) == pytest.approx(1, abs=1e-6)
    sums.append(judged(bright, lambda: None).assessment)
    assert 0.1 < residual_of(sums) < 0.7  # nothing of a slice, all of one three times as bright
