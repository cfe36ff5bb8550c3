"""Two sets of sensitivities: where they are used, what laws they obey, and that operators and solvers couple them."""

import pytest
import torch

from crnn_cli.mri.classical import METHODS, run_method
from crnn_cli.mri.coils import calibration_block, normalise_maps
from crnn_cli.mri.conjugate_gradient import conjugate_gradient
from crnn_cli.mri.consistency import energy_weighted_rms, share_views
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.espirit import espirit, espirit_eigenmaps
from crnn_cli.mri.fourier import image_to_kspace, kspace_to_image
from crnn_cli.mri.low_rank import largest_eigenvalue_bound
from crnn_cli.mri.map_sets import FOLDED_ENERGY, estimate_map_sets, normalise_sets, smooth_pair, visible_components
from crnn_cli.mri.multicoil import MultiCoilConsistency
from crnn_cli.mri.null_space import GAIN, null_space_component
from crnn_cli.mri.phantom.ellipses import Grid
from crnn_cli.mri.phantom.scan import PhantomScan, simulate_slice
from tests.laws import assert_adjoint

COILS, T, Y, X = 4, 3, 7, 6


def problem(two_axes=False, seed=0, dtype=torch.complex64, share=0.5):
    """Return k-space that no image explains, mask, two orthogonal sets of maps (M, C, Y, X), and two components."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(1, T, Y, X if two_axes else 1, generator=g) < share
    mask[:, :, Y // 2] = True
    kspace = torch.randn(1, COILS, T, Y, X, dtype=dtype, generator=g) * mask[:, None]
    frames = torch.linalg.qr(torch.randn(Y, X, COILS, 2, dtype=dtype, generator=g))[0]
    maps = frames.permute(3, 2, 0, 1) * torch.tensor([1.0, 0.7]).view(2, 1, 1, 1).to(dtype)
    return kspace, mask, maps.contiguous(), torch.randn(2, T, Y, X, dtype=dtype, generator=g)


def received(image, maps):
    """Return coil images (1, C, T, Y, X) of components (M, T, Y, X), written on its own."""
    return torch.einsum("mcyx,mtyx->ctyx", maps, image)[None]


def dense(mask, maps, frame):
    """Return A of one frame as a matrix over both components."""
    pixels = 2 * Y * X
    unit = torch.eye(pixels, dtype=maps.dtype).view(pixels, 2, 1, Y, X)
    columns = [image_to_kspace(received(each, maps)) * mask[:, None, frame : frame + 1] for each in unit]
    return torch.stack([column.flatten() for column in columns], -1)


@pytest.mark.parametrize("two_axes", [False, True])
def test_encoding_sums_the_components_and_has_its_adjoint(two_axes):
    kspace, mask, maps, image = problem(two_axes)
    encoding = Encoding(mask, maps, 2)
    measured = image_to_kspace(received(image, maps)) * mask[:, None]
    torch.testing.assert_close(encoding.forward(image), encoding.to_data_space(measured))
    torch.testing.assert_close(encoding.coil_images(image), received(image, maps))
    assert_adjoint(encoding.forward, encoding.adjoint, image, encoding.to_data_space(kspace))
    torch.testing.assert_close(encoding.normal(image), encoding.adjoint(encoding.forward(image)))
    error, energy = encoding.squared_residual(image, kspace)
    assert error == pytest.approx(float((measured - kspace).abs().square().sum()), rel=1e-5)
    assert energy == pytest.approx(float(kspace.abs().square().sum()), rel=1e-5)
    operator = MultiCoilConsistency(kspace, mask, maps, map_sets=2)
    torch.testing.assert_close(operator.zero_filled(), encoding.zero_filled(kspace))
    torch.testing.assert_close(operator.normal(image), encoding.normal(image))
    torch.testing.assert_close(operator.view_shared(), share_views(encoding, encoding.to_data_space(kspace)))
    difference, data = operator.at_samples(image)
    assert float(difference.abs().square().sum()) == pytest.approx(error, rel=1e-5)
    assert float(data.abs().square().sum()) == pytest.approx(energy, rel=1e-5)


def test_sets_that_do_not_fit_the_data_are_refused():
    _, mask, maps, _ = problem()
    for given in ((mask, maps, 3), (mask.repeat(2, 1, 1, 1), maps, 2), (mask, None, 2)):
        with pytest.raises(ValueError, match="sets of maps"):
            Encoding(*given)


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_many_steps_of_data_consistency_solve_for_both_components(noise):
    kspace, mask, maps, image = problem(dtype=torch.complex128, share=0.3)
    result = MultiCoilConsistency(kspace, mask, maps, noise, steps=400, map_sets=2)(image)
    for frame in range(T):
        a = dense(mask, maps, frame)
        x, y = image[:, frame].flatten(), kspace[0, :, frame].flatten()
        stacked = torch.cat([a, noise**0.5 * torch.eye(len(x), dtype=a.dtype)])
        right = torch.cat([y - a @ x, torch.zeros_like(x)])
        expected = x + torch.linalg.pinv(stacked, rtol=1e-10) @ right
        torch.testing.assert_close(result[:, frame].flatten(), expected, atol=1e-6, rtol=1e-5)


def test_solvers_reach_the_joint_solution():
    kspace, mask, maps, image = problem(dtype=torch.complex128)
    encoding = Encoding(mask, maps, 2)
    found = run_method("sense", encoding, kspace, 0.05, 300)
    null = null_space_component(encoding, image)
    for frame in range(T):
        a = dense(mask, maps, frame)
        gram, unit = a.mH @ a, torch.eye(a.shape[1], dtype=a.dtype)
        expected = torch.linalg.solve(gram + 0.05 * unit, a.mH @ kspace[0, :, frame].flatten())
        torch.testing.assert_close(found[:, frame].flatten(), expected, atol=1e-3, rtol=1e-3)
        expected = GAIN * torch.linalg.solve(gram + GAIN * unit, image[:, frame].flatten())
        assert (null[:, frame].flatten() - expected).norm() < 0.02 * image[:, frame].norm()


def test_conjugate_gradients_end_within_as_many_steps_as_a_coupled_system_has_unknowns():
    """Step lengths of its own for each component would not solve it."""
    g = torch.Generator().manual_seed(1)
    root = torch.randn(8, 8, dtype=torch.complex128, generator=g)
    matrix = root @ root.mH + torch.eye(8, dtype=root.dtype)
    right = torch.randn(2, 1, 2, 2, dtype=root.dtype, generator=g)

    def operator(x):
        return (matrix @ x.flatten()).view_as(x)

    found = conjugate_gradient(operator, right, torch.zeros_like(right), 8, map_sets=2)
    torch.testing.assert_close(operator(found), right, atol=1e-8, rtol=1e-8)


def test_the_step_length_bound_is_the_largest_eigenvalue():
    _, _, maps, _ = problem()
    assert largest_eigenvalue_bound(Encoding(torch.ones(1, 1, Y, 1), maps, 2)) == pytest.approx(1, abs=1e-5)
    twice = torch.stack([maps[0], maps[0]])
    assert largest_eigenvalue_bound(Encoding(torch.ones(1, 1, Y, 1), twice, 2)) == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_second_set_that_no_coil_sees_changes_nothing(method):
    kspace, mask, maps, _ = problem(share=0.6)
    first = normalise_maps(maps[0])
    alone = run_method(method, Encoding(mask, first[None]), kspace, iterations=METHODS[method].iterations and 5)
    both = torch.stack([first, torch.zeros_like(first)])
    found = run_method(method, Encoding(mask, both, 2), kspace, iterations=METHODS[method].iterations and 5)
    torch.testing.assert_close(found[:1], alone, atol=1e-5, rtol=1e-4)
    assert not visible_components(found, both)[1].any()


def test_brightness_is_that_of_the_combined_image():
    image = torch.zeros(2, 1, 8, 8, dtype=torch.complex64)
    image[0, :, 2:4], image[1, :, 2:4] = 3, 4j
    assert energy_weighted_rms(image, 2).flatten().tolist() == pytest.approx([5])


def test_visible_components_are_as_bright_as_the_coil_images():
    _, _, maps, image = problem()
    skewed = maps.clone()
    skewed[1] += 0.4 * maps[0]
    for sets in (maps, skewed):
        seen = visible_components(image, sets).abs().square().sum(0)
        torch.testing.assert_close(seen, received(image, sets)[0].abs().square().sum(0))
    torch.testing.assert_close(visible_components(image, maps), image * torch.tensor([1, 0.7]).view(2, 1, 1, 1))


def test_sets_are_normalised_together():
    _, _, maps, _ = problem()
    torch.testing.assert_close(normalise_sets(5 * maps), maps)
    torch.testing.assert_close(normalise_sets(5 * maps[1:])[0], normalise_maps(maps[1]))
    assert not normalise_sets(0 * maps).any()


def scanned(coils, snr, lines, folded, seed):
    """Return the calibration block of a phantom, its matrix, and the deviation of its noise; folded along y or not."""
    scan = PhantomScan(Grid(64, 96 if folded else 64, 5.6 if not folded else 3.75), 2, 1, coils, snr, seed=seed)
    kspace_CTYX = simulate_slice(scan, 0).kspace_CTYX[:, :, :: 2 if folded else 1]
    mask = torch.zeros(2, kspace_CTYX.shape[2], 1, dtype=torch.bool)
    first = kspace_CTYX.shape[2] // 2 - lines // 2
    mask[:, first : first + lines] = True
    return calibration_block(kspace_CTYX * mask, mask), tuple(kspace_CTYX.shape[2:]), 1 / snr


@pytest.mark.parametrize("coils", [4, 8, 16])
@pytest.mark.parametrize(("snr", "lines"), [(20, 24), (20, 8), (200, 24), (200, 10)])
@pytest.mark.parametrize("folded", [False, True])
def test_two_sets_where_the_body_folds_and_nowhere_else(coils, snr, lines, folded):
    block, shape, deviation = scanned(coils, snr, lines, folded, seed=coils)
    maps, energy = estimate_map_sets(block, shape, None, deviation)
    assert len(maps) == (2 if folded else 1)
    assert energy > 2 * FOLDED_ENERGY if folded else energy < FOLDED_ENERGY / 2
    if not folded:
        assert torch.equal(maps[0], espirit(block, shape)[0])  # one set is what it was, to the bit


@pytest.mark.parametrize("seed", range(3))
def test_noise_alone_is_no_fold_and_two_coils_have_one_set(seed):
    g = torch.Generator().manual_seed(seed)
    noise = torch.randn(8, 24, 24, dtype=torch.complex64, generator=g)
    assert len(estimate_map_sets(noise, (48, 48), None, 1.0)[0]) == 1
    assert len(estimate_map_sets(scanned(2, 100, 24, True, seed)[0], (48, 64))[0]) == 1


def test_the_number_asked_for_is_used():
    block, shape, _ = scanned(4, 100, 24, False, 1)
    assert [len(estimate_map_sets(block, shape, number)[0]) for number in (1, 2)] == [1, 2]
    assert torch.equal(estimate_map_sets(block, shape, 1)[0], estimate_map_sets(block, shape)[0])


def test_the_pair_spans_what_the_eigenvectors_span_and_varies_less():
    block, shape, _ = scanned(8, 100, 24, True, 2)
    vectors, values = espirit_eigenmaps(block, shape, 2)
    pair = smooth_pair(block, vectors, values[1])
    norms = pair.abs().square().sum(1).sqrt()
    torch.testing.assert_close(norms[0], torch.ones(shape))
    assert ((norms[1] >= 0) & (norms[1] < 1 + 1e-5)).all()
    assert (pair[0].conj() * pair[1]).sum(0).abs().max() < 1e-4
    sure = values[1] > 0.95
    assert 0.1 < sure.float().mean() < 0.9
    projections = [torch.einsum("mcyx,mdyx->cdyx", sets, sets.conj()) for sets in (pair, vectors)]
    assert ((projections[0] - projections[1]) * sure).abs().max() < 1e-4
    single = values[1] < 0.7
    assert not pair[1][:, single].any()
    torch.testing.assert_close(pair[0][:, single], vectors[0][:, single], atol=1e-4, rtol=1e-4)
    both = sure[1:] & sure[:-1]

    def change(maps_CYX):
        return float((maps_CYX.diff(dim=1).abs().square().sum(0) * both).sum())

    assert change(pair[0]) < 0.5 * change(vectors[0])


def test_folded_frames_need_two_sets():
    """Total variation with one set explains a folded scan far worse than with two."""
    coils, seed = 8, 3
    data = simulate_slice(PhantomScan(Grid(64, 96, 3.75), 4, 1, coils, seed=seed), 0).kspace_CTYX[:, :, ::2]
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(1, 4, 48, 1, generator=g) < 0.4
    mask[:, :, 18:30] = True
    kspace = (data + 0.02 * torch.randn(data.shape, dtype=data.dtype, generator=g))[None] * mask[:, None]
    truth = kspace_to_image(data).abs().square().sum(0).sqrt()
    block = calibration_block(kspace[0], mask[0])
    errors = []
    for number in (1, 2):
        maps, _ = estimate_map_sets(block, (48, 64), number)
        found = visible_components(run_method("tv", Encoding(mask, maps, number), kspace, 0.01, 15), maps)
        errors.append(float((found.abs().square().sum(0).sqrt() - truth).norm() / truth.norm()))
    assert errors[1] < 0.6 * errors[0]
