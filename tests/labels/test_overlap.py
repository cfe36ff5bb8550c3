"""Overlap of label maps: laws of Dice and Jaccard, hand-computed cases, SimpleITK and MONAI, and rejected inputs."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.labels.overlap import Overlap, as_labels, holds_few_labels, label_values, overlaps, voxel_millilitres
from tests.support.cines import AFFINE
from tests.support.data import data_file

VALUES = (1, 2, 7)
PATIENT = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
maps = hnp.arrays(
    np.uint16, hnp.array_shapes(min_dims=3, max_dims=4, max_side=4), elements=st.sampled_from((0, *VALUES))
)


@st.composite
def pairs(draw):
    first = draw(maps)
    return first, draw(hnp.arrays(np.uint16, first.shape, elements=st.sampled_from((0, *VALUES))))


@given(pairs())
@PATIENT
def test_counts_are_those_of_sets_of_voxels(pair):
    tested, reference = pair
    for value, found in overlaps(tested, reference, VALUES).items():
        a, b = ({tuple(i) for i in np.argwhere(one == value)} for one in pair)
        assert found == Overlap(len(a & b), len(a), len(b))
        assert found.dice == (2 * len(a & b) / (len(a) + len(b)) if a or b else None)
        assert found.jaccard == (len(a & b) / len(a | b) if a or b else None)


@given(pairs())
@PATIENT
def test_laws(pair):
    tested, reference = pair
    there, back = overlaps(tested, reference, VALUES), overlaps(reference, tested, VALUES)
    flipped, turned = ([one[::-1, :, ::-1] for one in pair], [one.swapaxes(0, 2) for one in pair])
    assert there == overlaps(*flipped, VALUES) == overlaps(*turned, VALUES)
    for value in VALUES:
        dice, jaccard = there[value].dice, there[value].jaccard
        assert (dice, jaccard) == (back[value].dice, back[value].jaccard)
        assert overlaps(tested, tested, VALUES)[value].dice == (1 if (tested == value).any() else None)
        if dice is not None:
            assert jaccard == pytest.approx(dice / (2 - dice))
            assert 0 <= jaccard <= dice <= 1


@given(pairs())
@PATIENT
def test_adding_is_pooling(pair):
    tested, reference = pair
    whole, halves = overlaps(tested, reference, VALUES), [slice(None, 1), slice(1, None)]
    first, second = (overlaps(tested[half], reference[half], VALUES) for half in halves)
    assert all(whole[value] == first[value] + second[value] for value in VALUES)


def test_by_hand():
    tested, reference = np.zeros((2, 4, 5, 1), np.uint16)
    tested[0, :3] = 3
    reference[0, 1:] = 3
    reference[3, 0] = 9
    found = overlaps(tested, reference, label_values(tested, reference))
    assert list(found) == [3, 9]
    assert (found[3].common, found[3].tested, found[3].reference) == (2, 3, 4)
    assert (found[3].dice, found[3].jaccard, found[3].difference_percent) == (4 / 7, 2 / 5, -25)
    assert (found[9].dice, found[9].jaccard, found[9].difference_percent) == (0, 0, -100)


def test_empty_labels():
    assert (Overlap(0, 0, 0).dice, Overlap(0, 0, 0).jaccard, Overlap(0, 0, 0).difference_percent) == (None, None, None)
    assert (Overlap(0, 5, 0).dice, Overlap(0, 5, 0).jaccard, Overlap(0, 5, 0).difference_percent) == (0, 0, None)
    assert (Overlap(0, 0, 5).dice, Overlap(0, 0, 5).jaccard, Overlap(0, 0, 5).difference_percent) == (0, 0, -100)


def test_simpleitk_agrees():
    generator = np.random.default_rng(1)
    tested, reference = generator.integers(0, 4, (2, 9, 8, 7)).astype(np.uint16)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(sitk.GetImageFromArray(reference), sitk.GetImageFromArray(tested))
    for value, found in overlaps(tested, reference, (1, 2, 3)).items():
        assert found.dice == pytest.approx(measures.GetDiceCoefficient(value))
        assert found.jaccard == pytest.approx(measures.GetJaccardCoefficient(value))


def test_monai_agrees():
    metrics = pytest.importorskip("monai.metrics")
    import torch

    tested, reference = np.random.default_rng(2).integers(0, 3, (2, 6, 8, 7)).astype(np.uint16)
    hot = [torch.from_numpy(np.stack([one == value for value in range(3)])[None].astype(np.float32)) for one in
           (tested, reference)]  # fmt: skip
    dice = metrics.compute_dice(*hot, include_background=False)[0]
    found = overlaps(tested, reference, (1, 2))
    assert [found[1].dice, found[2].dice] == pytest.approx(dice.tolist())


def test_shapes_must_agree():
    with pytest.raises(UnsupportedDataError, match="cannot be compared"):
        overlaps(np.zeros((2, 2, 2), np.uint16), np.zeros((2, 2, 1), np.uint16), [1])


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.5, "0.5"), (-1, "-1"), (np.nan, "nan"), (np.inf, "inf"), (65536, "65536"), (1j, "complex")],
)
def test_what_is_no_label_map(value, words):
    array = np.zeros((2, 3, 2), np.complex64 if isinstance(value, complex) else np.float32)
    array[1, 2, 0] = value
    with pytest.raises(UnsupportedDataError, match=r"map\.nii is no label map") as refused:
        as_labels(array, "map.nii")
    assert words in str(refused.value)
    assert isinstance(value, complex) or "(1, 2, 0)" in str(refused.value)


def test_rounding_is_not_advised_where_it_would_leave_nothing():
    with pytest.raises(UnsupportedDataError, match=r"take the scale \(scl_slope\) off labels"):
        as_labels(np.arange(4) / 255, "map.nii")
    with pytest.raises(UnsupportedDataError, match="Round or threshold"):
        as_labels(np.arange(4) + 0.01, "map.nii")


def test_what_may_be_a_label_map():
    few = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    assert holds_few_labels(few)
    assert not holds_few_labels(few - 1)
    assert not holds_few_labels(few / 2)
    assert not holds_few_labels(few.astype(np.complex64))
    assert not holds_few_labels(np.arange(65, dtype=np.float32).reshape(5, 13, 1))
    assert holds_few_labels(np.full((2, 2, 2), 65535, np.float32))
    assert as_labels(few, "").dtype == np.uint16
    assert np.array_equal(as_labels(few, ""), few)


def test_voxel_volume():
    def millilitres(affine, pixdim=None):
        return voxel_millilitres(Image(np.zeros((2, 2, 2)), affine, pixdim=pixdim))

    assert millilitres(np.diag([-2.0, 3, 5, 1])) == pytest.approx(0.03)
    sheared = np.diag([2.0, 3, 5, 1])
    sheared[0, 1] = 4
    assert millilitres(sheared) == pytest.approx(0.03)
    edges = AFFINE[:3, :3].T
    assert millilitres(AFFINE) == pytest.approx(abs(edges[0] @ np.cross(edges[1], edges[2])) / 1000)
    assert millilitres(np.diag([-1.0, 1, 1, 1]), (2.0, 3.0, 5.0)) == pytest.approx(0.03)


def test_real_labels_agree_with_simpleitk():
    files = [data_file("acdc_labelled", "patient001", f"patient001_frame{n}_gt.nii.gz") for n in ("01", "12")]
    images = [sitk.ReadImage(str(file)) for file in files]
    tested, reference = (sitk.GetArrayFromImage(image).astype(np.uint16) for image in images)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(images[1], images[0])
    assert label_values(tested, reference) == [1, 2, 3]
    for value, found in overlaps(tested, reference, (1, 2, 3)).items():
        assert found.dice == pytest.approx(measures.GetDiceCoefficient(value))
        assert found.difference_percent == pytest.approx(100 * (found.tested / found.reference - 1))
