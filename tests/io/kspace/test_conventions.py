"""Arrays in other conventions: images for k-space, rolled images, axes of images; coils sampled differently."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.io.kspace.choices import RawChoices
from crnn_cli.io.kspace.read import read_raw
from tests.support.cfl import write_cfl
from tests.support.kspace import kspace, lines, matlab, write_npy, write_v73
from tests.support.raw_field.case import transform
from tests.support.remarks import codes

AXES = "slice,coil,t,ky,kx"
IMAGES = RawChoices(kind="image")
KSPACE = RawChoices(kind="kspace")


@pytest.fixture(scope="module")
def full():
    return kspace(slices=2, coils=4, frames=5, lines=48, samples=64)


def centred_image(k):
    """Return images whose middle is pixel N // 2."""
    return transform(k.astype(complex), (-2, -1), inverse=True)


@settings(max_examples=16, deadline=None)
@given(st.sampled_from([(48, 64), (47, 63), (48, 63)]), st.booleans(), st.sampled_from([np.inf, 30]))
def test_kspace_whose_images_are_rolled_by_half_is_mended(tmp_path_factory, size, sparse, snr):
    """``fftshift(fft2(x))`` of a centred image, odd sizes too; what was not measured stays so."""
    full = kspace(1, 4, 5, *size, snr)
    mask = lines(5, size[0])[:, :, None] if sparse else np.ones((5, size[0], 1), bool)
    rolled = np.fft.fftshift(np.fft.fft2(centred_image(full), norm="ortho"), (-2, -1)) * mask
    found = read_raw(write_npy(tmp_path_factory.mktemp("k") / "k.npy", rolled.astype(np.complex64)), AXES)
    assert "rolled-by-half" in codes(found.remarks)
    np.testing.assert_allclose(found.read(0).kspace_CTYX, full[0] * mask, atol=1e-5 * np.abs(full).max())
    np.testing.assert_array_equal(found.read(0).mask_TYX, mask)
    usual = read_raw(write_npy(tmp_path_factory.mktemp("k") / "k.npy", full * mask), AXES)
    assert "rolled-by-half" not in codes(usual.remarks)


@pytest.mark.parametrize(("axis", "name"), [(-2, "ky"), (-1, "kx")])
def test_signs_that_alternate_along_one_axis_are_mended_along_it(axis, name, full, tmp_path):
    n = full.shape[axis]
    signs = ((-1.0) ** np.arange(n)).reshape([n if a == axis % 5 else 1 for a in range(5)])
    found = read_raw(write_npy(tmp_path / "k.npy", (full * signs).astype(np.complex64)), AXES)
    doubt = next(each for each in found.remarks if each.code == "rolled-by-half")
    assert f"along {name} the object" in doubt.text
    np.testing.assert_allclose(found.read(1).kspace_CTYX, full[1], atol=1e-5 * np.abs(full).max())


def test_a_bright_side_is_not_an_object_across_the_border(tmp_path):
    """One surface coil lights up one side of the body, which lies in the middle."""
    full = kspace(1, 8, 3, 48, 64)
    for coil in range(8):
        found = read_raw(write_npy(tmp_path / "k.npy", full[:, coil : coil + 1]), AXES)
        assert "rolled-by-half" not in codes(found.remarks), coil


def test_images_are_refused_and_taken_when_they_are_named(full, tmp_path):
    """Whether in NumPy, BART or MATLAB: complex images of coils are no k-space."""
    images = centred_image(full).astype(np.complex64)
    stored = np.zeros((64, 48, 1, 4, 1, 1, 1, 1, 1, 1, 5, 1, 1, 2), np.complex64)
    stored[:, :, 0, :, 0, 0, 0, 0, 0, 0, :, 0, 0, :] = images.transpose(4, 3, 1, 2, 0)
    write_cfl(tmp_path / "b", stored)
    files = [(write_npy(tmp_path / "k.npy", images), AXES), (tmp_path / "b.cfl", None),
             (write_v73(tmp_path / "k.mat", kspace_full=matlab(images)), None)]  # fmt: skip
    for place, axes in files:
        with pytest.raises(UnsupportedDataError, match="kind='image'"):
            read_raw(place, axes)
        found = read_raw(place, axes, chosen=IMAGES)
        np.testing.assert_allclose(found.read(1).kspace_CTYX, full[1], atol=2e-5 * np.abs(full).max())
    named = read_raw(tmp_path / "k.npy", "slice,coil,t,y,x")
    np.testing.assert_allclose(named.read(1).kspace_CTYX, full[1], atol=2e-5 * np.abs(full).max())
    with pytest.raises(UsageError, match="kspace or image"):
        RawChoices(kind="images")


def test_an_axis_that_is_an_image_is_named_so(full, tmp_path):
    """Hybrid space: transformed along the readout, with lines missing along the other axis."""
    mask = lines(5, 48)[:, :, None]
    hybrid = transform(full.astype(complex) * mask, (-1,), inverse=True).astype(np.complex64)
    place = write_npy(tmp_path / "k.npy", hybrid)
    with pytest.raises(UnsupportedDataError, match=r"x instead of kx|x or y where an image"):
        read_raw(place, AXES)
    found = read_raw(place, "slice,coil,t,ky,x")
    np.testing.assert_allclose(found.read(0).kspace_CTYX, full[0] * mask, atol=2e-5 * np.abs(full).max())
    np.testing.assert_array_equal(found.read(0).mask_TYX, mask)


def test_what_the_user_is_sure_of_is_taken(tmp_path):
    rng = np.random.default_rng(0)
    noise = (rng.normal(size=(4, 5, 64, 64)) + 1j * rng.normal(size=(4, 5, 64, 64))).astype(np.complex64)
    place = write_npy(tmp_path / "k.npy", noise)
    with pytest.raises(UnsupportedDataError, match="kind='kspace'"):
        read_raw(place, "coil,t,ky,kx")
    np.testing.assert_array_equal(read_raw(place, "coil,t,ky,kx", chosen=KSPACE).read(0).kspace_CTYX, noise)


@pytest.mark.parametrize("acceleration", [2, 3, 4])
def test_coils_that_were_sampled_differently_are_no_coils(acceleration, tmp_path):
    full = kspace(slices=2, coils=4, frames=6, lines=48, samples=64)
    mask = (np.arange(48) + np.arange(6)[:, None]) % acceleration == 0
    mask[:, 20:28] = True
    k = full * mask[:, :, None]
    read_raw(write_npy(tmp_path / "k.npy", k), AXES)
    with pytest.raises(UnsupportedDataError, match="along coil the sampling differs"):
        read_raw(tmp_path / "k.npy", "slice,t,coil,ky,kx")
    k[:, 2] = 0  # a dead coil is none that was sampled differently
    assert "dead-coil" in codes(read_raw(write_npy(tmp_path / "k.npy", k), AXES).remarks)


def read_all(place, axes):
    scan = read_raw(place, axes)
    return [scan.read(z) for z in range(scan.shape_ZCTYX[0])]


@pytest.mark.parametrize("three_d", [False, True])
def test_frames_left_out_are_those_that_some_slice_lacks(three_d, tmp_path):
    k = kspace(slices=10, coils=2, frames=4, lines=24, samples=32).copy()
    if three_d:
        k = transform(k.astype(complex), (0,)).astype(np.complex64)
        k[:, :, 1] = 0
        place, axes, left = write_npy(tmp_path / "k.npy", k), "kz,coil,t,ky,kx", [0, 2, 3]
    else:
        k[3, :, 1], k[7, :, 2], k[9] = 0, 0, 0  # slice 10 was not measured at all
        place, axes, left = write_npy(tmp_path / "k.npy", k), AXES, [0, 3]
    with pytest.raises(UnsupportedDataError, match="drop_empty"):
        read_all(place, axes)
    scan = read_raw(place, axes, chosen=RawChoices(drop_empty=True))
    assert scan.shape_ZCTYX[2] == scan.geometry.frames == len(left)
    assert "empty-frames" in codes(scan.remarks)
    if not three_d:
        np.testing.assert_array_equal(scan.read(3).kspace_CTYX, k[3][:, left])
        assert scan.read(9).mask_TYX.shape[0] == len(left)
