"""`convert` keeps every value as it is stored, and `verify` sees the smallest difference; what is not finite stays."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from crnn_cli.data.alignment import compare_images
from crnn_cli.data.image import Image
from crnn_cli.io.images import load_image
from crnn_cli.io.nifti import image as nifti_image
from crnn_cli.io.nifti.image import read_image, write_image
from crnn_cli.workflows.convert import convert_image
from crnn_cli.workflows.verify import verify_images

AFFINE = np.array([[-1.5, 0, 0, 90], [0, 1.5, 0, -60], [0, 0, 8, -20], [0, 0, 0, 1.0]])
TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8", "c8", "c16", ">i2", ">f8", ">u4")


def stored(path, array, slope=None, inter=0.0, header=nib.Nifti1Image):
    image = header(array, AFFINE, dtype=array.dtype)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 1)
    content = bytearray(image.to_bytes())
    if slope is not None:
        order = ">" if content[:4] == struct.pack(">i", 348) else "<"
        content[112:120] = struct.pack(f"{order}2f", slope, inter)
    path.write_bytes(bytes(content))
    return path


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from(TYPES), large=st.booleans(), packed=st.booleans())
def test_convert_keeps_every_value_and_its_type(tmp_path_factory, data, kind, large, packed):
    array = data.draw(hnp.arrays(np.dtype(kind), (2, 3, 2), fill=st.nothing()))
    place = tmp_path_factory.mktemp("kept")
    source = stored(place / "a.nii", array)
    if packed:
        source = place / "a.nii.gz"
        source.write_bytes(gzip.compress((place / "a.nii").read_bytes(), 1))
    with pytest.MonkeyPatch.context() as patch:
        if large:  # the way of images that do not fit into memory
            patch.setattr("crnn_cli.data.mapped_arrays.LARGE", 1)
        convert_image(source, place / "b.nii")
    theirs = nib.load(place / "b.nii")
    assert theirs.get_data_dtype() == np.dtype(kind).newbyteorder("=")
    np.testing.assert_array_equal(np.asanyarray(theirs.dataobj), array)
    assert verify_images(source, place / "b.nii").passed


@settings(max_examples=40, deadline=None)
@given(data=st.data(), kind=st.sampled_from([k for k in TYPES if "c" not in k]))
def test_verify_sees_the_smallest_difference(tmp_path_factory, data, kind):
    dtype = np.dtype(kind).newbyteorder("=")
    finite = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    array = data.draw(hnp.arrays(dtype, (2, 2, 2), elements=hnp.from_dtype(dtype, **finite), fill=st.nothing()))
    other = array.copy()
    if dtype.kind == "f":
        other[1, 0, 1] = np.nextafter(array[1, 0, 1], dtype.type(0 if array[1, 0, 1] else 1), dtype=dtype)
    else:
        other[1, 0, 1] = array[1, 0, 1] - 1 if array[1, 0, 1] > np.iinfo(dtype).min else array[1, 0, 1] + 1
    place = tmp_path_factory.mktemp("seen")
    found = verify_images(stored(place / "a.nii", array), stored(place / "b.nii", other))
    assert not found.passed
    assert found.comparison.voxels == 1


@pytest.mark.parametrize(
    ("first", "second", "voxels"),
    [
        (np.int64(2**53 + 1), np.float64(2**53), 1), (np.int64(2**53), np.float64(2**53), 0),
        (np.uint64(2**64 - 1), np.int64(-1), 1), (np.uint64(7), np.int64(7), 0), (np.int8(3), np.uint16(3), 0),
        (np.uint64(2**64 - 1), np.float64(2**64), 1), (np.float32(0.1), np.float64(0.1), 1),
        (np.int32(2**24 + 1), np.float32(2**24), 1), (np.float64("nan"), np.float32("nan"), 0),
        (np.int16(1), np.complex64(1), 0),
    ],
)  # fmt: skip
def test_values_of_different_types_are_compared_as_numbers(first, second, voxels):
    images = [Image(np.full((2, 2, 2), each, np.asarray(each).dtype)) for each in (first, second)]
    for a, b in (images, images[::-1]):
        found = compare_images(a, b)
        assert found.voxels == 8 * voxels
        assert (found.difference > 0) == bool(voxels)


@pytest.mark.parametrize(("slope", "kept"), [(2.0, np.float32), (0.1, np.float64), (0.0, np.int16)])
def test_scaled_values_are_kept_to_the_last_bit(crnn, tmp_path, slope, kept):
    array = np.arange(-12, 12, dtype=np.int16).reshape(2, 3, 4) * 1000
    source = stored(tmp_path / "a.nii", array, slope, 0.5)
    assert crnn("convert", source, tmp_path / "b.nii").code == 0
    theirs = nib.load(tmp_path / "b.nii")
    assert theirs.get_data_dtype() == kept
    np.testing.assert_array_equal(np.asanyarray(theirs.dataobj), np.asanyarray(nib.load(source).dataobj))
    assert crnn("verify", source, tmp_path / "b.nii").code == 0
    assert load_image(source).image.array.dtype == np.float32  # what is computed on stays in single precision


def test_values_that_are_not_finite_stay_and_are_told(crnn, tmp_path):
    array = np.ones((2, 3, 4), np.float32)
    array[1, 1, 1], array[0, 2, 3] = np.nan, np.inf
    source = stored(tmp_path / "a.nii", array)
    ended = crnn("convert", source, tmp_path / "b.nii")
    assert ended.code == 0
    assert "2 voxels are NaN or infinite" in ended.err.replace("\n", " ")
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "b.nii").dataobj), array)
    assert crnn("verify", source, tmp_path / "b.nii").code == 0
    assert crnn("convert", source, tmp_path / "c.nii", "--strict").code in (2, 4)
    ended = crnn("convert", source, tmp_path / "folder")
    assert ended.code == 4
    assert "NaN or infinite" in ended.err.replace("\n", " ")


def test_what_is_read_back_is_compared_in_its_own_type(tmp_path, monkeypatch):
    image = Image(np.full((2, 2, 2), 2**24 + 1, np.int32))
    whole = nifti_image.decode_image
    monkeypatch.setattr(nifti_image, "decode_image", lambda *a, **k: off_by_one(whole(*a, **k)))
    with pytest.raises(Exception, match="read back differs"):
        write_image(image, tmp_path / "a.nii", "test")
    monkeypatch.undo()
    write_image(image, tmp_path / "a.nii", "test")
    assert read_image(tmp_path / "a.nii").array.max() == 2**24  # in single precision, as networks take it


def off_by_one(image):
    image.array.setflags(write=True)
    image.array[0, 0, 0] -= 1
    return image
