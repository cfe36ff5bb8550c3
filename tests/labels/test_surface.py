"""Surface distances: laws, hand-computed cases, all pairs of voxels, and other libraries."""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.surface import (
    SurfaceDistances,
    directed_distances,
    orthogonal_spacing,
    surface,
    surface_distances,
)
from tests.support.data import data_file

SPACING = (1.5, 0.7, 8.0)
PATIENT = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
spacings = st.tuples(*[st.floats(0.3, 10)] * 3)


@st.composite
def pairs(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))
    masks = [draw(hnp.arrays(bool, shape, fill=st.booleans())) for _ in range(2)]
    for mask in masks:
        mask.flat[draw(st.integers(0, mask.size - 1))] = True
    return tuple(masks)


def slow_surface(mask):
    """Return the indices of the surface voxels, voxel by voxel."""
    found = []
    for index in itertools.product(*map(range, mask.shape)):
        open_sides = 0
        for axis, step in itertools.product(range(3), (-1, 1)):
            beside = list(index)
            beside[axis] += step
            outside = not 0 <= beside[axis] < mask.shape[axis]
            open_sides += mask.shape[axis] > 1 and (outside or not mask[tuple(beside)])
        if mask[index] and (open_sides or mask.size == 1):
            found.append(index)
    return found


def slow_distances(tested, reference, spacing):
    """Return both directed sets from all pairs of surface voxels."""
    first, second = (np.array(slow_surface(mask), float).reshape(-1, 3) * spacing for mask in (tested, reference))
    pairs = np.sqrt(((first[:, None] - second[None]) ** 2).sum(axis=-1))
    return pairs.min(axis=1), pairs.min(axis=0)


def box(shape, *ranges):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*one) for one in ranges)] = True
    return mask


def near(found):
    return SurfaceDistances(*(pytest.approx(v, rel=1e-5, abs=1e-5) for v in (found.hd95, found.mean)))


@given(pairs(), spacings)
@PATIENT
def test_all_pairs_of_surface_voxels_agree(pair, spacing):
    found = directed_distances(*pair, spacing)
    for directed, expected in zip(found, slow_distances(*pair, spacing), strict=True):
        assert directed == pytest.approx(expected, rel=1e-5, abs=1e-5)
    expected = slow_distances(*pair, spacing)
    whole = surface_distances(*pair, spacing)
    assert whole.hd95 == pytest.approx(max(np.quantile(one, 0.95) for one in expected), rel=1e-5, abs=1e-5)
    assert whole.mean == pytest.approx(np.hstack(expected).mean(), rel=1e-5, abs=1e-5)


@given(pairs())
@PATIENT
def test_surface_voxels_have_a_neighbour_outside(pair):
    assert np.argwhere(surface(pair[0])).tolist() == [list(index) for index in slow_surface(pair[0])]


@given(pairs(), spacings, st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
@PATIENT
def test_laws(pair, spacing, order, flips):
    tested, reference = pair
    found = surface_distances(tested, reference, spacing)
    assert surface_distances(reference, tested, spacing) == near(found)
    assert surface_distances(tested, tested, spacing) == SurfaceDistances(0, 0)
    stored = [one[tuple(slice(None, None, -1 if flip else 1) for flip in flips)].transpose(order) for one in pair]
    assert surface_distances(*stored, tuple(spacing[axis] for axis in order)) == near(found)
    larger = surface_distances(tested, reference, tuple(3 * one for one in spacing))
    assert larger == near(SurfaceDistances(3 * found.hd95, 3 * found.mean))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("steps", [1, 3])
def test_a_plate_moved_by_whole_voxels_lies_as_far_away_as_it_was_moved(axis, steps):
    tested = box((12, 12, 12), (3, 9), (3, 9), (3, 9))
    tested[tuple(slice(4, None) if one == axis else slice(None) for one in range(3))] = False
    moved = surface_distances(np.roll(tested, steps, axis), tested, SPACING)
    assert moved == near(SurfaceDistances(steps * SPACING[axis], steps * SPACING[axis]))


def test_single_voxels_by_hand():
    first, second = box((9, 9, 9), (1, 2), (1, 2), (1, 2)), box((9, 9, 9), (4, 5), (5, 6), (2, 3))
    distance = np.sqrt((3 * 1.5) ** 2 + (4 * 0.7) ** 2 + 8**2)
    assert surface_distances(first, second, SPACING) == near(SurfaceDistances(distance, distance))


def test_the_larger_percentile_counts_and_both_sets_are_averaged():
    line, point = box((30, 3, 3), (1, 22), (1, 2), (1, 2)), box((30, 3, 3), (1, 2), (1, 2), (1, 2))
    to_point, to_line = directed_distances(line, point, (2.0, 1, 1))
    assert to_point == pytest.approx(2.0 * np.arange(21))
    assert to_line == pytest.approx([0])
    assert surface_distances(line, point, (2.0, 1, 1)) == near(SurfaceDistances(2.0 * 19, 2.0 * 210 / 22))
    assert surface_distances(point, line, (2.0, 1, 1)) == near(SurfaceDistances(2.0 * 19, 2.0 * 210 / 22))


def test_a_hollow_is_a_surface_and_the_inside_is_not():
    solid = box((9, 9, 9), (1, 8), (1, 8), (1, 8))
    assert surface(solid).sum() == 7**3 - 5**3
    solid[4, 4, 4] = False
    assert surface(solid).sum() == 7**3 - 5**3 + 6


def test_the_border_of_the_array_is_a_surface_but_not_across_a_single_slice():
    assert surface(np.ones((5, 5, 5), bool)).sum() == 5**3 - 3**3
    assert surface(np.ones((5, 5, 1), bool)).sum() == 5**2 - 3**2
    assert surface(box((5, 5, 2), (0, 5), (0, 5), (0, 1)))[..., 0].all()


@pytest.mark.parametrize("z", range(3))
def test_a_label_in_one_of_many_slices_is_all_surface_wherever_it_lies(z):
    small, large = box((9, 9, 3), (3, 6), (3, 6), (z, z + 1)), box((9, 9, 3), (1, 8), (1, 8), (z, z + 1))
    padded = [np.pad(one, 4) for one in (large, small)]
    assert surface_distances(large, small, SPACING) == near(surface_distances(*padded, SPACING))
    assert directed_distances(small, large, SPACING)[0] == pytest.approx(np.zeros(9))
    flat = directed_distances(small[..., z : z + 1], large[..., z : z + 1], SPACING)[0]
    assert len(flat) == 8
    assert flat.min() > 1


def test_a_single_voxel_is_its_own_surface():
    voxel = np.ones((1, 1, 1), bool)
    assert surface_distances(voxel, voxel, SPACING) == SurfaceDistances(0, 0)


@pytest.mark.parametrize("shape", [(6, 6, 4), (6, 6, 1)])
def test_undefined_where_a_mask_is_empty(shape):
    full, empty = np.ones(shape, bool), np.zeros(shape, bool)
    for pair in ((full, empty), (empty, full), (empty, empty)):
        assert surface_distances(*pair, SPACING) is None
        assert directed_distances(*pair, SPACING) is None


def test_the_masks_are_left_as_they_were():
    mask = box((6, 6, 4), (1, 5), (1, 5), (0, 4))
    copy = mask.copy()
    surface_distances(mask, mask[::-1], SPACING)
    assert np.array_equal(mask, copy)


def blobs(shape, seed):
    from scipy import ndimage

    generator = np.random.default_rng(seed)
    return [ndimage.gaussian_filter(generator.standard_normal(shape), 2) > 0.05 for _ in range(2)]


@pytest.mark.parametrize("shape", [(30, 28, 9), (31, 25, 1)])
def test_scipy_agrees(shape):
    pytest.importorskip("scipy")
    from scipy import ndimage

    tested, reference = blobs(shape, 3)
    within = ndimage.generate_binary_structure(3, 1)
    if shape[2] == 1:
        within[:, :, [0, 2]] = False
    edges = [one & ~ndimage.binary_erosion(one, within) for one in (tested, reference)]
    there, back = directed_distances(tested, reference, SPACING)
    assert there == pytest.approx(ndimage.distance_transform_edt(~edges[1], sampling=SPACING)[edges[0]], rel=1e-5)
    assert back == pytest.approx(ndimage.distance_transform_edt(~edges[0], sampling=SPACING)[edges[1]], rel=1e-5)


@pytest.mark.parametrize("shape", [(30, 28, 9), (31, 25, 1)])
def test_monai_agrees(shape):
    metrics = pytest.importorskip("monai.metrics")
    pytest.importorskip("scipy")
    import torch

    tested, reference = blobs(shape, 4)
    axes = 3 if shape[2] > 1 else 2
    hot = [torch.from_numpy(one.reshape((1, 1, *shape[:axes])).astype(np.float32)) for one in (tested, reference)]
    options = {"include_background": True, "spacing": list(SPACING[:axes])}
    found = surface_distances(tested, reference, SPACING)
    assert found.hd95 == pytest.approx(
        float(metrics.compute_hausdorff_distance(*hot, percentile=95, **options)), rel=1e-5
    )
    mean = metrics.compute_average_surface_distance(*hot, symmetric=True, **options)
    assert found.mean == pytest.approx(float(mean), rel=1e-5)


@pytest.mark.parametrize("value", [1, 2, 3])
def test_monai_agrees_on_real_labels(value):
    metrics = pytest.importorskip("monai.metrics")
    import nibabel as nib
    import torch

    files = [data_file("acdc_labelled", "patient001", f"patient001_frame{n}_gt.nii.gz") for n in ("01", "12")]
    images = [nib.load(file) for file in files]
    masks = [np.asarray(image.dataobj) == value for image in images]
    spacing = orthogonal_spacing(Image(masks[0], images[0].affine))
    hot = [torch.from_numpy(one[None, None].astype(np.float32)) for one in masks]
    expected = metrics.compute_hausdorff_distance(*hot, include_background=True, percentile=95, spacing=list(spacing))
    assert surface_distances(*masks, spacing).hd95 == pytest.approx(float(expected), rel=1e-5)


def spacing_of(affine, pixdim=None):
    return orthogonal_spacing(Image(np.zeros((2, 2, 2)), affine, pixdim=pixdim))


def test_spacing_of_orthogonal_grids_only():
    turn = np.array([[0.6, -0.8, 0], [0.8, 0.6, 0], [0, 0, -1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(SPACING)
    assert spacing_of(affine) == pytest.approx(SPACING)
    rounded, sheared = affine.copy(), affine.copy()
    rounded[:3, 0] += 9e-4 * 1.5 * turn[:, 1]
    sheared[:3, 0] += 2e-3 * 1.5 * turn[:, 1]
    assert spacing_of(rounded) == pytest.approx(SPACING, rel=1e-5)
    with pytest.raises(UnsupportedDataError, match=r"two of its axes are 0\.115 degrees off a right angle"):
        spacing_of(sheared)
    sheared[:3, 0] = 1.5 * (turn[:, 0] + turn[:, 1])
    with pytest.raises(UnsupportedDataError, match="45 degrees"):
        spacing_of(sheared)


def test_the_voxel_size_beside_an_affine_that_lost_it_counts():
    assert spacing_of(np.eye(4), SPACING) == SPACING
