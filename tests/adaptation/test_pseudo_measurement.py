"""A scan of known images: measured by the same coils, with the same noise, by the lines of other frames."""

import pytest
import torch

from crnn_cli.adaptation.pseudo_measurement import flip_keep_phase, resimulate
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.reconstruction.measurement import SliceMeasurement

FRAMES, LINES, COLUMNS = 6, 16, 8
IMAGE = torch.randn(1, FRAMES, LINES, COLUMNS, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))


def measured(coils=0, samples=1, deviation=0.0):
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(1, FRAMES, LINES, samples, generator=generator) < 0.4
    maps = torch.randn(1, coils, LINES, COLUMNS, dtype=torch.complex64, generator=generator) if coils else None
    kspace = torch.randn(1, coils or 1, FRAMES, LINES, COLUMNS, dtype=torch.complex64, generator=generator)
    return SliceMeasurement(kspace * mask[:, None], mask, maps, deviation)


@pytest.mark.parametrize("coils", [0, 3])
@pytest.mark.parametrize("samples", [1, COLUMNS])
def test_it_is_what_would_have_been_measured_of_the_images(coils, samples):
    source = measured(coils, samples)
    made = resimulate(source, IMAGE, torch.Generator().manual_seed(2))
    whole = image_to_kspace(Encoding(torch.ones(1), source.maps_BCYX).coil_images(IMAGE))
    assert torch.equal(made.kspace_BCTYX, whole * made.mask_BTYX[:, None])
    assert made.maps_BCYX is source.maps_BCYX


def test_frames_have_the_lines_of_others_in_their_order_or_backwards():
    source, seen = measured(), set()
    for seed in range(40):
        mask = resimulate(source, IMAGE, torch.Generator().manual_seed(seed)).mask_BTYX
        ways = {
            (on, back)
            for on in range(FRAMES)
            for back in (False, True)
            if torch.equal(mask, source.mask_BTYX.roll(on, 1).flip(1) if back else source.mask_BTYX.roll(on, 1))
        }
        assert len(ways) == 1
        seen |= ways
    assert seen == {(on, back) for on in range(1, FRAMES) for back in (False, True)}


def test_it_is_as_noisy_as_the_scan_and_the_same_again():
    clean, noisy = measured(2), measured(2, deviation=0.3)
    first, second, other = (resimulate(noisy, IMAGE, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first.kspace_BCTYX, second.kspace_BCTYX)
    assert not torch.equal(first.kspace_BCTYX, other.kspace_BCTYX)
    there = first.mask_BTYX[:, None].expand(first.kspace_BCTYX.shape)
    noise = (first.kspace_BCTYX - resimulate(clean, IMAGE, torch.Generator().manual_seed(5)).kspace_BCTYX)[there]
    assert abs(float(noise.abs().square().mean().sqrt()) - 0.3) < 0.02
    assert not first.kspace_BCTYX[~there].any()
    assert first.deviation == 0.3


@pytest.mark.parametrize("axes", [(), (-2,), (-1,), (-2, -1)])
def test_content_is_flipped_and_the_slow_phase_stays(axes):
    """Edges too: there is no content beyond them, and the phase goes on."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 16), indexing="ij")
    phase = torch.polar(torch.ones_like(y), 1.2 * y - 0.2 * x + 0.3 * y * x)
    content = torch.rand(1, FRAMES, 48, 16, generator=torch.Generator().manual_seed(3)) + 0.5
    made = flip_keep_phase(content * phase, axes)
    assert made.is_contiguous()
    torch.testing.assert_close(made.abs(), content.flip(axes))
    off = (made * phase.conj()).angle().abs()
    assert float(off.max()) < 0.4, "of up to two radians: means over pixels lag behind at the edges"
    assert float(off.mean()) < 0.1


def test_phase_that_is_not_slow_belongs_to_the_content_and_nothing_stays_nothing():
    wild = torch.polar(torch.ones(1, 1, 16, 8), torch.arange(8.0).mul(torch.pi).expand(1, 1, 16, 8))
    made = flip_keep_phase(IMAGE[:, :1] * 0 + 5 + wild, (-1,))
    torch.testing.assert_close(made, (5 + wild).flip(-1))
    assert not flip_keep_phase(torch.zeros_like(IMAGE), (-2,)).any()
