"""The Fourier pair is centred, orthonormal, and each other's adjoint."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.mri.fourier import flip_in_kspace, image_to_kspace, kspace_to_image, mirror_kspace
from tests.laws import assert_adjoint, assert_unitary
from tests.support.cines import to_kspace

SIZES = st.integers(1, 13)


def random_image(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES)
def test_unitary_and_adjoint_for_any_size(y, x):
    image = random_image(2, 3, y, x)
    assert_unitary(image_to_kspace, kspace_to_image, image)
    assert_adjoint(image_to_kspace, kspace_to_image, image, random_image(2, 3, y, x, seed=1))


@pytest.mark.parametrize("shape", [(8, 6), (7, 5), (1, 4)])
def test_agrees_with_numpy(shape):
    image = random_image(*shape)
    expected = to_kspace(image.numpy())
    np.testing.assert_allclose(image_to_kspace(image).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("n", [8, 9])
def test_centre_is_at_floor_of_half(n):
    kspace = image_to_kspace(torch.ones(n, n, dtype=torch.complex64))
    assert kspace[n // 2, n // 2].real == pytest.approx(n, rel=1e-5)
    assert kspace.abs().sum() == pytest.approx(n, rel=1e-4)


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES)
def test_a_mirrored_image_has_mirrored_kspace_and_mirroring_twice_is_nothing(y, x):
    image = random_image(2, y, x)
    for axes in ((-2,), (-1,), (-2, -1)):
        np.testing.assert_array_equal(mirror_kspace(mirror_kspace(image, axes), axes).numpy(), image.numpy())
        found = image_to_kspace(mirror_kspace(image, axes)).numpy()
        np.testing.assert_allclose(found, mirror_kspace(image_to_kspace(image), axes).numpy(), atol=1e-5)
    index = torch.arange(y)
    centre = mirror_kspace(index, (0,))[y // 2]
    assert int(centre) == y // 2
    assert sorted(mirror_kspace(index, (0,)).tolist()) == index.tolist()


@settings(max_examples=25, deadline=None)
@given(SIZES, SIZES)
def test_the_kspace_of_flipped_images_holds_them_from_edge_to_edge(y, x):
    image = random_image(2, y, x)
    for axes in ((-2,), (-1,), (-2, -1)):
        wanted = image_to_kspace(image.flip(axes)).numpy()
        np.testing.assert_allclose(flip_in_kspace(image_to_kspace(image), axes).numpy(), wanted, atol=1e-5)
