"""Data consistency of several coils solves its normal equations, and equals that of one coil where there is one."""

import pytest
import torch

from crnn_cli.mri import gram, multicoil
from crnn_cli.mri.consistency import SingleCoilConsistency
from crnn_cli.mri.encoding import Encoding
from crnn_cli.mri.fourier import image_to_kspace
from crnn_cli.mri.multicoil import MultiCoilConsistency
from crnn_cli.networks.crnn_mri import CRNNMRI, CRNNMRIConfig
from tests.laws import assert_adjoint
from tests.support.consistency import residual_energies

SIZES = (2, 3, 4, 7, 6)  # B, C, T, Y, X


def problem(two_axes=False, coils=3, seed=0, dtype=torch.complex64, share=0.5):
    """Return k-space that no image explains, mask, normalised maps and an image."""
    b, _, t, y, x = SIZES
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(b, t, y, x if two_axes else 1, generator=g) < share
    mask[:, :, y // 2] = True
    kspace = torch.randn(b, coils, t, y, x, dtype=dtype, generator=g) * mask[:, None]
    maps = torch.randn(b, coils, y, x, dtype=dtype, generator=g)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    return kspace, mask, maps, torch.randn(b, t, y, x, dtype=dtype, generator=g)


def measure(image, mask, maps):
    """Return what the coils measure of an image, written on its own."""
    return torch.stack([image_to_kspace(image * maps[:, c, None]) * mask for c in range(maps.shape[1])], 1)


def dense(mask, maps, item, frame):
    """Return A of one frame as a matrix."""
    pixels = SIZES[3] * SIZES[4]
    unit = torch.eye(pixels, dtype=maps.dtype).view(1, pixels, *SIZES[3:])
    columns = measure(unit, mask[item : item + 1, frame : frame + 1], maps[item : item + 1])  # (1, C, pixel, Y, X)
    return columns[0].movedim(1, -1).reshape(-1, pixels)


@pytest.mark.parametrize("two_axes", [False, True])
def test_encoding_is_adjoint_and_its_normal_operator_is_both_in_turn(two_axes):
    kspace, mask, maps, image = problem(two_axes)
    encoding = Encoding(mask, maps)
    assert_adjoint(encoding.forward, encoding.adjoint, image, kspace)
    torch.testing.assert_close(encoding.normal(image), encoding.adjoint(encoding.forward(image)))
    plain = measure(image, mask, maps)
    torch.testing.assert_close(encoding.forward(image), encoding.to_data_space(plain + 5 * ~mask[:, None]))
    torch.testing.assert_close(Encoding(mask[:, :1], maps).normal(image)[:, :1], encoding.normal(image[:, :1]))


@pytest.mark.parametrize("two_axes", [False, True])
def test_zero_filled_is_the_adjoint_of_measuring(two_axes):
    kspace, mask, maps, image = problem(two_axes)
    assert_adjoint(
        lambda x: measure(x, mask, maps), lambda y: MultiCoilConsistency(y, mask, maps).zero_filled(), image, kspace
    )


@pytest.mark.parametrize("two_axes", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.3, 2.0])
def test_many_steps_solve_the_normal_equations(noise, two_axes):
    """z - x = pinv of (A; sqrt(v)) applied to (y - A x; 0): for v = 0 the smallest change that fits best."""
    kspace, mask, maps, image = problem(two_axes, coils=2, dtype=torch.complex128, share=0.3)
    result = MultiCoilConsistency(kspace, mask, maps, noise, steps=400)(image)
    for item in range(SIZES[0]):
        for frame in range(SIZES[2]):
            a = dense(mask, maps, item, frame)
            x, y = image[item, frame].flatten(), kspace[item, :, frame].flatten()
            stacked = torch.cat([a, noise**0.5 * torch.eye(len(x), dtype=a.dtype)])
            residual = torch.cat([y - a @ x, torch.zeros_like(x)])
            expected = x + torch.linalg.pinv(stacked, rtol=1e-9) @ residual
            torch.testing.assert_close(result[item, frame].flatten(), expected, atol=1e-6, rtol=1e-6)


def test_known_noise_is_weighed_against_the_error_expected():
    kspace, mask, maps, image = problem()
    operator = MultiCoilConsistency(kspace, mask, maps, 0.2, deviation=0.3)
    for factor in (1.0, 2.0):
        scaled = operator.scaled(torch.tensor(factor))(factor * image, torch.tensor(0.5))
        expected = MultiCoilConsistency(kspace, mask, maps, 0.2 + (0.3 * factor / 0.5) ** 2)(image)
        torch.testing.assert_close(scaled, factor * expected)
    torch.testing.assert_close(operator(image), MultiCoilConsistency(kspace, mask, maps, 0.2)(image))


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("two_axes", [False, True])
def test_one_coil_of_unit_modulus_equals_the_single_coil_operator(two_axes, noise):
    kspace, mask, maps, image = problem(two_axes, coils=1)
    for phase in (torch.ones_like(maps), maps):
        many = MultiCoilConsistency(kspace, mask, phase, noise)
        one = SingleCoilConsistency(kspace[:, 0], mask, noise)
        back = phase[:, 0, None]
        difference = many(image) * back - one(image * back)
        assert difference.norm() <= 1e-6 * image.norm()
        assert (many.view_shared() * back - one.view_shared()).norm() <= 1e-6 * image.norm()
        assert (many.time_wiener() * back - one.time_wiener()).norm() <= 1e-5 * image.norm()
        assert residual_energies(many, image) == pytest.approx(residual_energies(one, image * back), rel=1e-5)
        for found, expected in zip(many.at_samples(image), one.at_samples(image * back), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_one_step_is_exact_where_everything_was_measured(noise):
    kspace, mask, maps, image = problem()
    mask = torch.ones_like(mask)
    operator = MultiCoilConsistency(kspace, mask, maps, noise, steps=1)
    expected = (noise * image + operator.zero_filled()) / (1 + noise)
    torch.testing.assert_close(operator(image), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(MultiCoilConsistency(kspace, mask, maps, noise, steps=50)(image), operator(image))


@pytest.mark.parametrize("steps", [1, 3, 200])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_data_of_the_image_itself_change_nothing(noise, steps):
    _, mask, maps, image = problem(share=0.3)
    mask[0, 1], image[1, 2] = False, 0
    image.requires_grad_()
    result = MultiCoilConsistency(measure(image.detach(), mask, maps), mask, maps, noise, steps)(image)
    assert (result - image).norm() <= 1e-6 * image.norm()
    result.abs().square().sum().backward()
    assert torch.isfinite(torch.view_as_real(image.grad)).all()


def test_gradients_are_finite_where_some_frames_are_done_and_others_not():
    kspace, mask, maps, image = problem()
    kspace[0, :, 1], image[0, 1], mask[1, 2] = 0, 0, False
    image.requires_grad_()
    result = MultiCoilConsistency(kspace, mask, maps)(image)
    assert torch.equal(result[0, 1].detach(), torch.zeros_like(image[0, 1]))
    torch.testing.assert_close(result[1, 2], image[1, 2])
    result.abs().square().sum().backward()
    assert torch.isfinite(torch.view_as_real(image.grad)).all()


def test_frames_are_systems_of_their_own():
    kspace, mask, maps, image = problem()
    whole = MultiCoilConsistency(kspace, mask, maps)(image)
    for t in range(SIZES[2]):
        part = slice(t, t + 1)
        alone = MultiCoilConsistency(kspace[:, :, part], mask[:, part], maps)(image[:, part])
        torch.testing.assert_close(whole[:, part], alone)


def test_chunks_of_frames_give_the_same(monkeypatch):
    kspace, mask, maps, image = problem()
    whole = MultiCoilConsistency(kspace, mask, maps)(image)
    encodings = [Encoding(mask, maps), Encoding(mask[:, :1], maps)]  # the second has the same lines in all frames
    normal, same = (encoding.normal(image) for encoding in encodings)
    monkeypatch.setattr(gram, "_CPU_VALUES", SIZES[0] * SIZES[3] * SIZES[4])
    assert len(gram.frame_chunks(image)) == SIZES[2]
    torch.testing.assert_close(MultiCoilConsistency(kspace, mask, maps)(image), whole)
    torch.testing.assert_close(Encoding(mask, maps).normal(image), normal)
    torch.testing.assert_close(Encoding(mask[:, :1], maps).normal(image), same)


@pytest.mark.parametrize("two_axes", [False, True])
@pytest.mark.parametrize("coils", [False, True])
def test_normal_operator_keeps_the_order_of_the_image_in_memory(coils, two_axes, monkeypatch):
    _, mask, maps, image = problem(two_axes, dtype=torch.complex128)
    encoding = Encoding(mask, maps if coils else None)
    wanted = encoding.adjoint(encoding.forward(image))
    monkeypatch.setattr(gram, "_CPU_VALUES", 2 * SIZES[0] * SIZES[3] * SIZES[4])
    for given in (image, image.mT.contiguous().mT):
        made = encoding.normal(given)
        assert made.stride() == given.stride()
        torch.testing.assert_close(made, wanted)


@pytest.mark.parametrize("two_axes", [False, True])
@pytest.mark.parametrize("at_once", [2, 3])
def test_batches_of_coils_give_the_same(at_once, two_axes, monkeypatch):
    """As on a GPU: 2 and 1 of three coils, or all."""
    kspace, mask, maps, image = problem(two_axes, dtype=torch.complex128)

    def made():
        operator = MultiCoilConsistency(kspace, mask, maps, 0.1)
        starts = operator.zero_filled(), operator.view_shared(), operator.time_wiener()
        return torch.stack([operator(image), operator.normal(image), *starts])

    wanted = made()
    for place in (gram, multicoil):
        monkeypatch.setattr(place, "coils_per_batch", lambda image: at_once)
    torch.testing.assert_close(made(), wanted)


def test_steps_bring_the_image_nearer_to_the_data_and_the_result_is_linear_in_the_end():
    kspace, mask, maps, image = problem()
    operators = [MultiCoilConsistency(kspace, mask, maps, 0.0, steps) for steps in range(6)]
    residuals = [residual_energies(operator, operator(image))[0] for operator in operators]
    assert residuals == sorted(residuals, reverse=True)
    assert residuals[3] < 0.6 * residuals[0]
    other, _, _, second = problem(seed=1)
    results = [
        MultiCoilConsistency(k * mask[:, None], mask, maps, 0.1, 100)(x)
        for k, x in ((kspace, image), (other, second), (2 * kspace - other, 2 * image - second))
    ]
    torch.testing.assert_close(2 * results[0] - results[1], results[2], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("two_axes", [False, True])
def test_gradients_are_those_of_the_steps(two_axes):
    kspace, mask, maps, image = problem(two_axes, coils=2, dtype=torch.complex128, share=0.3)
    part = (slice(1), slice(2), slice(2, 6), slice(3))
    operator = MultiCoilConsistency(kspace[:1, :, :2, 2:6, :3], mask[:1, :2, 2:6, :3], maps[:1, :, 2:6, :3], 0.1, 2)
    assert torch.autograd.gradcheck(operator, (image[part].clone().requires_grad_(),))
    assert torch.autograd.gradcheck(operator.at_samples, (image[part].clone().requires_grad_(),))


def test_scaled_operator():
    kspace, mask, maps, image = problem()
    factor = torch.tensor([3.0, 0.5]).view(2, 1, 1, 1)
    for noise in (0.0, 0.5):
        operator = MultiCoilConsistency(kspace, mask, maps, noise)
        scaled = operator.scaled(factor)
        torch.testing.assert_close(scaled(factor * image), factor * operator(image), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(scaled.normal(image), operator.normal(image), atol=1e-6, rtol=1e-6)
        for name in ("zero_filled", "view_shared", "time_wiener"):
            torch.testing.assert_close(
                getattr(scaled, name)(), factor * getattr(operator, name)(), atol=1e-5, rtol=1e-4
            )
        torch.testing.assert_close(scaled.scaled(1 / factor)(image), operator(image), atol=1e-5, rtol=1e-5)
        assert residual_energies(scaled.scaled(1 / factor), image) == pytest.approx(
            residual_energies(operator, image), rel=1e-5
        )


def test_the_residual_is_that_at_the_samples():
    kspace, mask, maps, image = problem()
    operator = MultiCoilConsistency(kspace + 5 * ~mask[:, None], mask, maps)
    expected = measure(image, mask, maps) - kspace
    assert residual_energies(operator, image) == pytest.approx(
        (float(expected.norm() ** 2), float(kspace.norm() ** 2)), rel=1e-5
    )
    difference, data = operator.scaled(torch.tensor(2.0)).at_samples(2 * image)
    assert len(data) == int(mask.sum()) * SIZES[1] * SIZES[4]
    assert float(difference.norm()) == pytest.approx(2 * float(expected.norm()), rel=1e-5)


def test_initial_images_combine_those_of_single_coils():
    kspace, mask, maps, _ = problem()
    operator = MultiCoilConsistency(kspace, mask, maps)
    for name in ("view_shared", "time_wiener"):
        coils = [getattr(SingleCoilConsistency(kspace[:, c], mask), name)() for c in range(SIZES[1])]
        combined = sum(image * maps[:, c, None].conj() for c, image in enumerate(coils))
        torch.testing.assert_close(getattr(operator, name)(), combined, atol=1e-5, rtol=1e-5)


def test_a_network_trains_through_it():
    kspace, mask, maps, _ = problem()
    operator = MultiCoilConsistency(kspace, mask, maps)
    network = CRNNMRI(CRNNMRIConfig(features=4, kernel=3, iterations=2))
    network(operator.view_shared(), operator).abs().sum().backward()
    gradients = [weight.grad for weight in network.parameters()]
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)
