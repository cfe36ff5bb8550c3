"""ESPIRiT finds the sensitivities that are known, and those that BART finds."""

import shutil

import numpy as np
import pytest
import torch

from crnn_cli.mri.coils import calibration_block, normalise_maps
from crnn_cli.mri.espirit import espirit
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from tests.support.cfl import read_cfl, run_bart, write_cfl
from tests.support.data import data_file

needs_bart = pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not on the PATH")


@pytest.fixture(scope="module")
def phantom():
    """Return simulated k-space (8, 1, 64, 72), the true sensitivities and where the body is."""
    data = simulate_slice(PhantomScan(grid=Grid(samples=72, lines=64, spacing=4.5), frames=1, coils=8, snr=200), 0)
    return data.kspace_CTYX, normalise_maps(data.coils_CYX), inside(data.truth_TYX[0])


def inside(image_YX):
    """Return where the body is, a pixel away from its edge: the mean over 3 x 3 pixels hides dark spots."""
    bright = (image_YX.abs() > 0.1 * image_YX.abs().max()).float()
    return torch.nn.functional.avg_pool2d(bright[None], 3, 1, 1)[0] > 0.99


def apart(maps_CYX, others_CYX):
    """Return the sine of the angle between two sets of unit sensitivities at each pixel: 0 up to phase."""
    return (1 - (maps_CYX.conj() * others_CYX).sum(0).abs() ** 2).clamp_min(0).sqrt()


def by_lines(kspace_CTYX, lines):
    mask = torch.zeros(1, kspace_CTYX.shape[2], 1, dtype=torch.bool)
    first = kspace_CTYX.shape[2] // 2 - lines // 2
    mask[:, first : first + lines] = True
    return calibration_block(kspace_CTYX * mask, mask)


@pytest.mark.parametrize(("lines", "bound"), [(6, 0.05), (12, 0.03), (24, 0.015)])
def test_finds_the_sensitivities_of_a_phantom(phantom, lines, bound):
    kspace_CTYX, truth_CYX, body_YX = phantom
    maps_CYX, values_YX = espirit(by_lines(kspace_CTYX, lines), (64, 72))
    assert apart(maps_CYX, truth_CYX)[body_YX].mean() < bound
    assert values_YX[body_YX].min() > 0.95
    assert values_YX.max() < 1 + 1e-4
    assert values_YX.min() >= 0


def test_maps_have_unit_energy_and_crop_only_where_asked(phantom):
    block_CYX = by_lines(phantom[0], 24)
    maps_CYX, values_YX = espirit(block_CYX, (64, 72))
    torch.testing.assert_close(maps_CYX.abs().square().sum(0), torch.ones(64, 72))
    cropped_CYX, same_YX = espirit(block_CYX, (64, 72), crop=0.98)
    assert torch.equal(values_YX, same_YX)
    assert torch.equal(cropped_CYX, maps_CYX * (values_YX >= 0.98))
    assert 0.1 < float((values_YX >= 0.98).float().mean()) < 0.9


def test_the_strongest_virtual_coil_is_real_and_positive(phantom):
    block_CYX = by_lines(phantom[0], 24)
    maps_CYX, _ = espirit(block_CYX, (64, 72))
    values, vectors = torch.linalg.eigh(block_CYX.flatten(1) @ block_CYX.flatten(1).mH)
    assert values.argmax() == 7
    reference_YX = torch.einsum("c,cyx->yx", vectors[:, -1].conj(), maps_CYX)
    turned = reference_YX * reference_YX.mean().conj() / reference_YX.mean().abs()  # an eigenvector's phase is free
    assert turned.real.min() > 0
    assert turned.imag.abs().max() < 1e-4


def test_maps_do_not_depend_on_where_in_k_space_or_how_bright(phantom):
    """A block moved off the centre is the same object under a phase, which sensitivities do not see."""
    kspace_CTYX, _, body_YX = phantom
    centre = kspace_CTYX[:, 0, 20:44, 24:48]
    maps_CYX, _ = espirit(centre, (64, 72))
    brighter_CYX, _ = espirit(1e-6 * centre, (64, 72))
    assert apart(maps_CYX, brighter_CYX)[body_YX].max() < 1e-2
    moved_CYX, _ = espirit(kspace_CTYX[:, 0, 22:46, 24:48], (64, 72))
    assert apart(maps_CYX, moved_CYX)[body_YX].mean() < 0.02


def test_the_matrices_of_image_space_project_as_the_windows_do(phantom):
    """Slow and obvious: k-space of maps times an image, each window projected, overlaps averaged, is G times it."""
    kspace_CTYX, _, _ = phantom
    block_CYX = by_lines(kspace_CTYX, 12)[:3]
    maps_CYX, values_YX = espirit(block_CYX, (16, 18), kernel=3, threshold=0.1)
    windows = [block_CYX[:, y : y + 3, x : x + 3].flatten() for y in range(10) for x in range(22)]
    _, singular, right = torch.linalg.svd(torch.stack(windows), full_matrices=False)
    signal = right[singular > 0.1 * singular[0]]
    place = (5, 11)
    image = torch.zeros(16, 18, dtype=torch.complex64)
    image[place] = 1
    k_CYX = image_to_kspace(maps_CYX * image)
    out_CYX = torch.zeros_like(k_CYX)
    for y in range(16):
        for x in range(18):
            rows, columns = (torch.arange(3) + y)[:, None] % 16, (torch.arange(3) + x) % 18
            window = k_CYX[:, rows, columns].flatten()
            out_CYX[:, rows, columns] += (signal.T @ (signal.conj() @ window)).view(3, 3, 3) / 9
    found_C = kspace_to_image(out_CYX)[:, place[0], place[1]]
    torch.testing.assert_close(found_C, values_YX[place] * maps_CYX[:, place[0], place[1]], atol=1e-5, rtol=1e-4)


def bart_maps(kspace_CYX, folder, lines=24):
    """Return sensitivities and eigenvalues of BART, with our threshold (its own is on squares)."""
    write_cfl(folder / "k", kspace_CYX.numpy().transpose(2, 1, 0)[:, :, None, :])
    run_bart("ecalib", "-m1", "-c0", "-r", lines, "-t", 0.02**2, "k", "maps", "values", cwd=folder)
    maps, values = read_cfl(folder / "maps"), read_cfl(folder / "values")
    shape = kspace_CYX.shape
    maps_CYX = torch.from_numpy(maps.reshape(shape[2], shape[1], -1).transpose(2, 1, 0).copy())
    return normalise_maps(maps_CYX), torch.from_numpy(values.reshape(shape[2], shape[1]).T.real.copy())


def assert_same_as_bart(kspace_CYX, body_YX, folder):
    theirs_CYX, their_values_YX = bart_maps(kspace_CYX, folder)
    lines, samples = kspace_CYX.shape[1:]
    ours_CYX, values_YX = espirit(by_lines(kspace_CYX[:, None], 24), (lines, samples))
    assert apart(ours_CYX, theirs_CYX)[body_YX].quantile(0.9) < 5e-3
    assert (values_YX - their_values_YX)[body_YX].abs().mean() < 2e-3
    return ours_CYX, theirs_CYX


@needs_bart
def test_agrees_with_bart_on_a_phantom(phantom, tmp_path):
    """But for pixels at the tips of the body, where the two largest eigenvalues are close; there ours are right."""
    kspace_CTYX, truth_CYX, body_YX = phantom
    ours_CYX, theirs_CYX = assert_same_as_bart(kspace_CTYX[:, 0], body_YX, tmp_path)
    assert apart(ours_CYX, truth_CYX)[body_YX].mean() < apart(theirs_CYX, truth_CYX)[body_YX].mean()


@needs_bart
def test_agrees_with_bart_on_a_real_brain(tmp_path):
    kspace_CYX = torch.from_numpy(np.load(data_file("kspace", "cartesian_ksp.npy")))
    image_YX = kspace_to_image(kspace_CYX).abs().square().sum(0).sqrt()
    body_YX = inside(image_YX)
    ours_CYX, theirs_CYX = assert_same_as_bart(kspace_CYX, body_YX, tmp_path)
    assert apart(ours_CYX, theirs_CYX)[body_YX].quantile(0.99) < 5e-3


def test_a_real_brain_is_explained_by_its_maps():
    """What one set of maps cannot explain is little more than the noise of the other seven dimensions."""
    kspace_CYX = torch.from_numpy(np.load(data_file("kspace", "cartesian_ksp.npy")))
    images_CYX = kspace_to_image(kspace_CYX)
    body_YX = inside(images_CYX.abs().square().sum(0).sqrt())
    maps_CYX, values_YX = espirit(by_lines(kspace_CYX[:, None], 24), tuple(kspace_CYX.shape[1:]))
    left_CYX = images_CYX - maps_CYX * (maps_CYX.conj() * images_CYX).sum(0)
    corner = images_CYX[:, :20, :20].abs().square().sum(0).mean().sqrt()
    assert left_CYX[:, body_YX].abs().square().sum(0).mean().sqrt() < 1.3 * corner
    assert values_YX[body_YX].mean() > 0.99
