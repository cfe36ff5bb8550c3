"""What is drawn stays as it is, to the voxel, in every orientation and type; what cannot be meant is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import crnn_cli as crnn
from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError, UsageError
from tests.support.drawn import AFFINE, beating, drawn_in, image_of, small_bundle, truth

TYPES = ["uint8", "int8", "int16", "uint16", "int32", "int64", "float32", "float64"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("drawn") / "small")


def stored(image, order, flips):
    """Return the same image with its axes stored in another order and direction."""
    array, affine = image.array.transpose(*order, *range(3, image.array.ndim)), image.affine[:, [*order, 3]].copy()
    for axis in (axis for axis in range(3) if flips[axis]):
        array = np.flip(array, axis)
        affine[:, 3] += affine[:, axis] * (array.shape[axis] - 1)
        affine[:, axis] *= -1
    return replace(image, array=array, affine=affine)


def labelled(image, drawn, **more):
    return crnn.segment(image, drawn=drawn, **({"fill": "distances"} | more))


ORDERS = st.permutations([0, 1, 2])
FLIPS = st.tuples(st.booleans(), st.booleans(), st.booleans())
SLICES = st.lists(st.integers(1, 7), min_size=1, max_size=4, unique=True)


@settings(max_examples=24, deadline=None)
@given(
    ORDERS, FLIPS, ORDERS, FLIPS, st.sampled_from(TYPES), SLICES, st.sampled_from(["distances", "nearest", "network"])
)
def test_drawn_slices_are_kept_in_every_orientation_and_type(
    model, order, flips, own_order, own_flips, kind, slices, fill
):
    image = stored(image_of(truth()), order, flips)
    drawn = drawn_in(truth(), slices).astype(kind)
    given_as = stored(Image(drawn, AFFINE), own_order, own_flips)
    made = labelled(image, given_as, fill=fill, slices="axial", model=model if fill == "network" else None)
    assert made.shape == image.shape
    assert made.array.dtype == np.uint8
    np.testing.assert_array_equal(made.affine, image.affine)
    found = stored(Image(drawn, AFFINE), order, flips).array
    axis = order.index(2)
    at = np.flatnonzero(found.any(axis=tuple(each for each in range(3) if each != axis)))
    np.testing.assert_array_equal(np.take(made.array, at, axis), np.take(found, at, axis))
    assert len(at) == len(slices)


@pytest.mark.parametrize("value", [300, 65535])
def test_large_label_values_are_kept_in_16_bits(value):
    drawn = drawn_in(np.where(truth() == 5, np.uint16(value), truth()), [2, 6])
    made = labelled(image_of(truth()), drawn)
    assert made.array.dtype == np.uint16
    assert set(np.unique(made.array)) == {0, 2, value}
    np.testing.assert_array_equal(made.array[..., [2, 6]], drawn[..., [2, 6]])
    assert made.names == {2: "label 2", value: f"label {value}"}


def test_slices_said_to_be_empty_stay_empty():
    drawn = drawn_in(truth(), [4])
    assert labelled(image_of(truth()), drawn).array[..., [0, 8]].any()
    made = labelled(image_of(truth()), drawn, empty=[1, 2, 9])
    assert not made.array[..., [0, 1, 8]].any()
    assert made.array[..., [3, 4, 5]].any(axis=(0, 1)).all()


def test_numbers_of_slices_count_along_the_axis_as_stored():
    image, drawn = image_of(truth()), Image(drawn_in(truth(), [4]), AFFINE)
    turned = stored(image, (0, 1, 2), (False, False, True))
    made = labelled(turned, drawn, empty=[1, 2])
    assert not made.array[..., [0, 1]].any()
    assert made.array[..., [7, 8]].any()


def test_a_range_limits_what_is_labelled_and_keeps_what_is_drawn():
    drawn = drawn_in(truth(), [2, 6])
    made = labelled(image_of(truth()), drawn, slices="axial:4-5")
    np.testing.assert_array_equal(made.array[..., [2, 6]], drawn[..., [2, 6]])
    assert made.array[..., [3, 4]].any(axis=(0, 1)).all()
    assert not made.array[..., [1, 5, 7]].any()


def test_fixed_slices_of_a_whole_map_count_alone():
    corrected = truth()
    corrected[..., 3] = 0  # a wrong slice of the last result, not fixed
    made = labelled(image_of(truth()), corrected, fixed=[1, 3, 5, 9])
    np.testing.assert_array_equal(made.array[..., [0, 2, 4, 8]], corrected[..., [0, 2, 4, 8]])
    assert made.array[..., 3].any()


def test_one_frame_is_followed_through_the_others():
    labels = beating()
    made = labelled(image_of(labels), labels[..., 2], frames=[3])
    assert made.shape == labels.shape
    np.testing.assert_array_equal(made.array[..., 2], labels[..., 2])
    np.testing.assert_array_equal(made.array[..., 5], labels[..., 2])
    one_of_all = labelled(image_of(labels), labels, frames=[3])
    np.testing.assert_array_equal(one_of_all.array, made.array)


def test_a_frame_with_some_slices_is_completed_first():
    labels = beating()
    drawn = np.zeros_like(labels)
    drawn[..., [1, 4, 7], 2] = labels[..., [1, 4, 7], 2]
    made = labelled(image_of(labels), drawn)
    np.testing.assert_array_equal(made.array[..., [1, 4, 7], 2], drawn[..., [1, 4, 7], 2])
    assert made.array.any(axis=(0, 1))[1:8].all()


def nothing(labels):
    return np.zeros_like(labels)


def with_nan(labels):
    drawn = drawn_in(labels, [3]).astype(np.float32)
    drawn[0, 0, 0] = np.nan
    return drawn


def in_two_planes(labels):
    return np.maximum(drawn_in(labels, [3]), drawn_in(labels, [14], 0))


def numbered(labels):
    drawn = np.zeros(labels.shape, np.uint16)
    drawn[..., 3].flat[:300] = np.arange(1, 301)
    return drawn


REFUSED = {
    "nothing": (nothing, {}, "holds no label: no slice is drawn"),
    "all": (lambda labels: np.maximum(labels, 1), {}, "every slice of the drawn labels is drawn"),
    "planes": (in_two_planes, {}, "in two planes, across the axes x and z"),
    "planes, though said": (in_two_planes, {"slices": "axial"}, "in two planes"),
    "many": (numbered, {}, "holds 300 different labels; up to 255"),
    "fractions": (lambda labels: drawn_in(labels, [3]) * 0.3, {}, "labels are whole numbers"),
    "negative": (lambda labels: -drawn_in(labels, [3]).astype(np.int16), {}, "labels are whole numbers from 0"),
    "NaN": (with_nan, {}, "NaN or infinite"),
    "complex": (lambda labels: drawn_in(labels, [3]) * 1j, {}, "its values are complex"),
    "other grid": (lambda labels: Image(drawn_in(labels, [3]), AFFINE + np.eye(4)), {}, "does not lie on the grid"),
    "other shape": (lambda labels: Image(drawn_in(labels, [3])[:9], AFFINE @ np.diag([2, 1, 1, 1])), {}, "not lie on"),
    "series on a volume": (lambda labels: Image(np.stack([labels] * 2, -1), AFFINE), {}, "2 frames, and the image is"),
    "fixed and empty": (lambda labels: labels, {"fixed": [1, 9]}, "no slice of the drawn labels that counts as drawn"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(case):
    make, more, text = REFUSED[case]
    with pytest.raises(UnsupportedDataError, match=text) as refused:
        labelled(image_of(truth()), make(truth()), **more)
    assert refused.value.exit_code == 4


def test_a_volume_of_labels_on_a_series_needs_its_frame():
    with pytest.raises(UnsupportedDataError, match="one volume, and the image has 8 frames"):
        labelled(image_of(beating()), truth())


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"empty": [4]}, "slice 4 holds labels"),
        ({"empty": [10]}, "no slice 10; the stack has 9"),
        ({"fixed": [12]}, "no slice 12"),
        ({"frames": [2]}, "no frame 2"),
        ({"fill": "magic"}, "not known"),
        ({"labels": "2"}, "about the labels of a model"),
        ({"keep_largest": True}, "about the labels of a model"),
        ({"seed": 3}, "that of the tuning"),
        ({"minutes": 1, "steps": 3}, "use one of them"),
        ({"minutes": 1}, "tunes a network"),
        ({"model": "drawn-clstm"}, "uses none"),
    ],
)
def test_options_that_contradict_each_other_are_wrong_usage(more, text):
    with pytest.raises(UsageError, match=text):
        labelled(image_of(truth()), drawn_in(truth(), [3]), **more)


@pytest.mark.parametrize("name", ["empty", "fixed", "frames", "fill", "minutes", "steps", "seed"])
def test_options_about_drawn_slices_need_some(name):
    value = {"fill": "nearest", "minutes": 1.0, "steps": 1, "seed": 1}.get(name, [1])
    with pytest.raises(UsageError, match=f"{name} is about drawn slices"):
        crnn.segment(image_of(truth()), **{name: value})


def test_whole_valued_floats_are_labels():
    drawn = drawn_in(truth(), [2, 6])
    np.testing.assert_array_equal(
        labelled(image_of(truth()), drawn.astype(np.float64)).array, labelled(image_of(truth()), drawn).array
    )


def test_what_is_doubtful_is_said(caplog):
    labelled(image_of(truth()), drawn_in(truth(), [4]))
    assert "one slice is drawn" in caplog.text
    whole = truth()
    whole[..., 4] = 0
    labelled(image_of(truth()), whole)
    assert "slice 5: empty between drawn ones" in caplog.text
    more = truth()
    more[3, 3, 5] = 7
    labelled(image_of(truth()), more, fixed=[3])
    assert "label 7 of the drawn labels is in no slice that counts as drawn" in caplog.text
