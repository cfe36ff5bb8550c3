"""Slices in the order of the body, however a volume is stored; intensities, grids and labels around the network."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.data.geometry import (
    PLANES,
    SliceOrder,
    require_perpendicular,
    shortest_axis,
    slice_order,
    thickest_axis,
)
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.nifti.image import encode_image, read_image
from crnn_cli.segmentation.preprocessing import (
    SlicePreprocessing,
    network_size,
    normalise_intensity,
    resample_slices,
    to_network_grid,
)
from crnn_cli.segmentation.segment import choose_order, labels_from_probabilities
from tests.support.remarks import texts

SPACING = (1.1, 1.7, 4.0)
PERCENTILES, WINDOW = SlicePreprocessing(1.0, "percentiles", 1, 99), SlicePreprocessing(1.0, "window", -100, 300)


def turn(axis, degrees):
    """Return the rotation about a patient axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    rotation = np.eye(3)
    rotation[[i, j], [i, j]] = c
    rotation[i, j], rotation[j, i] = -s, s
    return rotation


def placed(rotation, spacing=SPACING):
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = (-20, 30, 5)
    return affine


ROTATIONS = {
    "straight": np.eye(3),
    **{f"{d} about {'xyz'[axis]}": turn(axis, d) for axis in range(3) for d in (45, -45, 135)},
    "45 about x and z": turn(0, 45) @ turn(2, 45),
    "body diagonal": np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]).T / np.sqrt([3, 2, 6]),
    "oblique": turn(0, 25) @ turn(1, -35) @ turn(2, 60),
}


def stored(array, affine):
    """Yield the 48 ways to store the same voxels in space: axes in any order, each either way round."""
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((False, True), repeat=3):
            turned, place = array.transpose(order), affine[:, [*order, 3]].copy()
            for axis in np.flatnonzero(flips):
                place[:3, 3] += place[:3, axis] * (turned.shape[axis] - 1)
                place[:3, axis] *= -1
                turned = np.flip(turned, axis)
            yield Image(turned, place)


def directions(image, order):
    """Return the steps in space of slice, row and column, as columns."""
    return image.affine[:3, list(order.axes)] * np.where(order.flips, -1, 1)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_from_slices_undoes_to_slices(axes, flips):
    array = np.arange(60).reshape(3, 4, 5)
    order = SliceOrder("axial", axes, flips, SPACING)
    slices = order.to_slices(array)
    assert slices.shape == tuple(array.shape[axis] for axis in axes)
    np.testing.assert_array_equal(order.from_slices(slices), array)
    np.testing.assert_array_equal(order.to_slices(order.from_slices(slices)), slices)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("name", ROTATIONS)
def test_slices_do_not_depend_on_how_the_volume_is_stored(name, single):
    """An exactly diagonal scan too, whose axes are as near to one patient axis as to another."""
    array = np.random.default_rng(0).random((3, 4, 5))
    affine = placed(ROTATIONS[name])
    affine = affine.astype(np.float32).astype(np.float64) if single else affine
    for plane in PLANES:
        expected = slice_order(Image(array, affine), plane)
        slices = expected.to_slices(array)
        for image in stored(array, affine):
            order = slice_order(image, plane)
            np.testing.assert_array_equal(order.to_slices(image.array), slices)
            np.testing.assert_allclose(order.spacing, expected.spacing)
            assert order.plane == plane


@pytest.mark.parametrize("name", ROTATIONS)
def test_slices_ascend_in_the_body_and_are_never_mirrored(name):
    """(slice, row, column) is (right, superior, anterior) or a cycle of it: a left-handed triple."""
    for plane, patient in PLANES.items():
        for image in stored(np.zeros((3, 4, 5)), placed(ROTATIONS[name])):
            steps = directions(image, slice_order(image, plane))
            assert np.linalg.det(steps) < 0
            assert steps[patient, 0] > -1e-9
            if name == "straight":
                rows, columns = (patient + 2) % 3, (patient + 1) % 3
                assert np.argmax(steps, axis=0).tolist() == [patient, rows, columns]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_any_rotation_gives_one_answer(seed):
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    array, affine = np.arange(24).reshape(2, 3, 4), placed(rotation)
    for plane in PLANES:
        slices = slice_order(Image(array, affine), plane).to_slices(array)
        for image in stored(array, affine):
            order = slice_order(image, plane)
            np.testing.assert_array_equal(order.to_slices(image.array), slices)
            assert np.linalg.det(directions(image, order)) < 0


def test_across_an_array_axis_is_across_its_plane():
    image = Image(np.zeros((3, 4, 5)), placed(ROTATIONS["oblique"]))
    assert sorted(slice_order(image, axis).plane for axis in range(3)) == sorted(PLANES)
    for axis in range(3):
        order = slice_order(image, axis)
        assert order.axes[0] == axis
        assert order == slice_order(image, order.plane)


def volume(shape=(8, 8, 8), spacing=(1.0, 1.1, 1.2)):
    return Image(np.zeros(shape), placed(np.eye(3), spacing))


def test_thickest_and_shortest_axis():
    assert thickest_axis(volume(spacing=(1, 6, 2))) == 1
    assert thickest_axis(volume(spacing=(2, 3, 1))) == 1
    assert thickest_axis(volume(spacing=(2, 2.9, 1))) is None
    assert thickest_axis(volume(spacing=(6, 6, 1))) is None
    assert shortest_axis(volume((4, 8, 9))) == 0
    assert shortest_axis(volume((5, 8, 9))) is None


@pytest.mark.parametrize("trained", [None, "axial"])
def test_thick_slices_are_taken_whatever_the_model(trained):
    """Thicker than the rest: sagittal here, which an axial model does not know."""
    order, doubts = choose_order(volume(spacing=(6, 1, 1)), None, trained)
    assert (order.plane, order.axes[0]) == ("sagittal", 0)
    assert [bool("trained on axial" in str(doubt)) for doubt in doubts] == ([True] if trained else [])


def test_without_thick_slices_the_models_plane_is_taken():
    for plane in PLANES:
        order, doubts = choose_order(volume((3, 8, 8)), None, plane)
        assert (order.plane, doubts) == (plane, [])


def test_without_either_the_axis_with_the_fewest_samples_is_taken_in_doubt():
    order, doubts = choose_order(volume((9, 4, 8)), None, None)
    assert order.plane == "coronal"
    assert len(doubts) == 1
    assert "across y, the axis with the fewest" in str(doubts[0])


def test_with_nothing_to_go_by_it_is_refused():
    with pytest.raises(UnsupportedDataError, match=r"8 x 8 x 8 voxels of 1 x 1\.1 x 1\.2 mm.*slices='axial'"):
        choose_order(volume(), None, None)


def test_what_is_asked_for_is_done_with_its_doubts():
    thick = volume(spacing=(1, 1, 6))
    for plane in PLANES:
        order, doubts = choose_order(thick, plane, None)
        assert order.plane == plane
        assert len(doubts) == (0 if plane == "axial" else 1)
        assert all("cut through the thick slices" in str(doubt) for doubt in doubts)
    order, doubts = choose_order(volume(), "coronal", "axial")
    assert order.plane == "coronal"
    assert texts(doubts) == ["the model was trained on axial slices, these are nearest to coronal"]


def test_shear_is_refused_and_rotation_is_not():
    for name, rotation in ROTATIONS.items():
        require_perpendicular(placed(rotation), name)
    for degrees, refused in ((0.5, False), (3, True), (15, True), (-15, True)):
        affine = placed(ROTATIONS["oblique"] @ np.eye(3))
        axes = np.eye(3)
        axes[1, 2], axes[2, 2] = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
        affine[:3, :3] = ROTATIONS["oblique"] @ axes * SPACING
        if refused:
            with pytest.raises(UnsupportedDataError, match=f"CT is sheared.*{90 - abs(degrees)}.0 degrees"):
                require_perpendicular(affine, "CT")
        else:
            require_perpendicular(affine, "CT")


@pytest.mark.parametrize("recipe", [PERCENTILES, WINDOW])
@pytest.mark.parametrize("value", [0.0, 7.5, -3.0])
def test_a_constant_becomes_zero_by_percentiles_and_its_place_by_window(recipe, value):
    expected = 0 if recipe is PERCENTILES else (value + 100) / 400
    found = normalise_intensity(np.full((3, 4, 5), value, np.float32), recipe)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-7)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e4), st.floats(-1e4, 1e4))
def test_percentiles_do_not_depend_on_unit_and_offset(seed, a, b):
    x = np.random.default_rng(seed).gamma(2, 100, (4, 5, 6))
    np.testing.assert_allclose(
        normalise_intensity(a * x + b, PERCENTILES), normalise_intensity(x, PERCENTILES), atol=1e-5
    )
    shuffled = np.random.default_rng(seed).permutation(x.ravel()).reshape(x.shape)
    np.testing.assert_allclose(
        np.sort(normalise_intensity(shuffled, PERCENTILES), None), np.sort(normalise_intensity(x, PERCENTILES), None)
    )


def test_percentiles_become_0_and_1():
    x = np.arange(101.0).reshape(101, 1, 1)
    np.testing.assert_allclose(normalise_intensity(x, PERCENTILES)[[1, 99, 50], 0, 0], [0, 1, 0.5], atol=1e-6)


def test_the_window_is_exact_and_clipped():
    values = np.array([-1000, -200, -100, 0, 300, 500, 900], np.float32).reshape(7, 1, 1)
    expected = [-0.25, -0.25, 0, 0.25, 1, 1.5, 1.5]
    np.testing.assert_array_equal(normalise_intensity(values, WINDOW).ravel(), np.float32(expected))


def test_labels_are_the_likeliest_structure_where_all_together_reach_the_threshold():
    classes_K = np.array([
        [0.6, 0.4, 0.5, 0.4, 0.0, 0.9],
        [0.3, 0.3, 0.25, 0.2, 1.0, 0.06],
        [0.1, 0.3, 0.25, 0.4, 0.0, 0.04],
    ], np.float32)  # fmt: skip
    assert labels_from_probabilities(classes_K, 0.5).tolist() == [0, 1, 1, 2, 1, 0]
    assert labels_from_probabilities(classes_K, 0.05).tolist() == [1, 1, 1, 2, 1, 1]
    assert labels_from_probabilities(classes_K, 0.9).tolist() == [0, 0, 0, 0, 1, 0]
    assert labels_from_probabilities(classes_K, 0.5).dtype == np.uint8


def test_absurd_spacing_is_refused_before_memory_is():
    slices = torch.zeros(1, 10, 10)
    absurd = slice_order(volume((10, 10, 1), (5000, 5000, 1)), "axial")
    with pytest.raises(UnsupportedDataError, match=r"5000 x 5000 mm would become slices of 50000 x 50000"):
        to_network_grid(slices, absurd, 1.0)


def test_the_networks_grid_keeps_the_field_of_view():
    order = slice_order(volume((30, 20, 4), (1.0, 1.5, 8.0)), "axial")
    assert network_size((4, 20, 30), order, 1.5) == (20, 20)
    assert network_size((4, 1, 1), order, 100.0) == (1, 1)
    slices = torch.randn(4, *(order.to_slices(np.zeros((30, 20, 4))).shape[1:]))
    assert to_network_grid(slices, order, 1.5).shape == (4, 20, 20)
    ramp = torch.linspace(0, 1, 21)[:-1] + 0.025  # position of the pixel over the field of view
    for size in (10, 40):
        found = resample_slices(ramp.expand(1, 1, 6, 20), (6, size))[0, 0, 0, 2:-2]
        wanted = (torch.arange(size) + 0.5)[2:-2] / size
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 30), st.integers(1, 30), st.floats(-10, 10))
def test_resampling_keeps_constants(rows, columns, new_rows, new_columns, value):
    image = torch.full((2, 1, rows, columns), value)
    found = resample_slices(image, (new_rows, new_columns))
    assert found.shape == (2, 1, new_rows, new_columns)
    torch.testing.assert_close(found, torch.full_like(found, value), rtol=1e-5, atol=1e-5)


def test_resampling_to_the_same_size_changes_nothing():
    image = torch.randn(2, 1, 5, 6)
    assert torch.equal(resample_slices(image, (5, 6)), image)


@pytest.mark.parametrize("rotation", ["straight", "oblique"])
def test_a_voxel_size_that_the_affine_has_lost_is_used_and_kept(tmp_path, rotation):
    """An sform of unit steps with a pixdim of 1.5 x 1.5 x 10 mm: sizes go by pixdim, the affine stays as it was."""
    affine = placed(ROTATIONS[rotation], (1, 1, 1))
    nifti = nib.Nifti1Image(np.zeros((6, 5, 4), np.float32), affine)
    nifti.set_sform(affine, code=1)
    nifti.set_qform(None, code=0)
    nifti.header["pixdim"][1:4] = (1.5, 1.5, 10)
    nifti.header.set_xyzt_units("mm", "sec")
    (tmp_path / "v.nii").write_bytes(nifti.to_bytes())
    image = read_image(tmp_path / "v.nii")
    (tmp_path / "again.nii").write_bytes(encode_image(image, tmp_path / "again.nii", "again"))
    for read in (image, read_image(tmp_path / "again.nii")):
        assert read.spacing == (1.5, 1.5, 10)
        np.testing.assert_allclose(read.affine, affine, atol=1e-5)
        assert sum("has lost its spacing" in str(doubt) for doubt in read.doubts()) == 1
        assert thickest_axis(read) == 2
        assert choose_order(read, None, None)[0].spacing == (10, 1.5, 1.5)
    header = nib.load(tmp_path / "again.nii").header
    np.testing.assert_allclose(header["pixdim"][1:4], (1.5, 1.5, 10))
    np.testing.assert_allclose(header.get_sform(), affine, atol=1e-5)


def test_a_voxel_size_that_agrees_with_the_affine_is_no_contradiction(tmp_path):
    for spacing in ((1, 1, 1), SPACING):
        nib.save(nib.Nifti1Image(np.zeros((6, 5, 4), np.float32), placed(np.eye(3), spacing)), tmp_path / "v.nii")
        assert read_image(tmp_path / "v.nii").pixdim is None
