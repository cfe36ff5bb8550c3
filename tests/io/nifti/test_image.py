"""NIfTI in and out: nothing lost, a second reader agrees, what is no NIfTI is refused."""

import gzip
import io
import struct
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crnn_cli.data.image import Image
from crnn_cli.errors import CrnnError, OutputError, UnreadableError, UnsupportedDataError
from crnn_cli.io.nifti import image as nifti
from crnn_cli.io.nifti.image import (
    decode_image,
    encode_image,
    read_bytes,
    read_image,
    write_image,
)
from crnn_cli.io.phase import join_phase, phase_sibling
from tests.support.cines import AFFINE, moving_cine, save
from tests.support.data import data_file

LPS = np.diag([-1, -1, 1])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [np.float32, np.complex64, np.uint8])
@pytest.mark.parametrize("axes", [3, 4])
def test_round_trip_keeps_voxels_and_geometry(tmp_path, suffix, kind, axes):
    array = moving_cine() if kind == np.complex64 else (20 * np.abs(moving_cine())).astype(kind)
    array = array[..., 0] if axes == 3 else array
    image = Image(array, AFFINE, 0.0317 if axes == 4 else None, (1, 2))
    write_image(image, tmp_path / f"a{suffix}", "test")
    again = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(again.array, array)
    np.testing.assert_allclose(again.affine, AFFINE, atol=1e-5)
    assert again.codes == (1, 2)
    assert again.frame_time == (pytest.approx(0.0317) if axes == 4 else None)
    assert not list(tmp_path.glob(".crnn-*"))


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_both_versions_and_byte_orders_are_read_whatever_the_name(tmp_path, kind, endianness):
    array = np.abs(moving_cine())
    stored = kind(array, AFFINE, kind.header_class(endianness=endianness)).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(stored)
    (tmp_path / "a.nii").write_bytes(gzip.compress(stored))
    for name in ("a.nii", "a.nii.gz"):
        again = read_image(tmp_path / name)
        np.testing.assert_array_equal(again.array, array)
        np.testing.assert_allclose(again.affine, AFFINE, atol=1e-5)


def test_standard_input_is_read_but_not_from_a_terminal_and_not_empty(monkeypatch):
    class Terminal(io.BytesIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x")))
    assert read_bytes(Path("-")) == b"x"
    for stream, words in ((Terminal(b"x"), "is a terminal"), (io.BytesIO(), "standard input is empty")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
        with pytest.raises(UnreadableError, match=words):
            read_bytes(Path("-"))


def test_simpleitk_reads_the_same_voxels_and_places(tmp_path):
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    rotation[:, 2] *= np.linalg.det(rotation)
    affine = np.eye(4)
    affine[:3, :3] = rotation * [1.2, 1.4, 8]
    affine[:3, 3] = [10, -20, 30]
    array = np.abs(moving_cine())[..., 0]
    write_image(Image(array, affine), tmp_path / "a.nii.gz", "test")
    other = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(other).T, array)
    for index in ((0, 0, 0), (5, 3, 1), (23, 19, 1)):
        place = LPS @ np.array(other.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(place, (affine @ [*index, 1])[:3], atol=1e-3)


@pytest.mark.parametrize("file", ["fmri/fmri.nii.gz", "acdc_cine/patient021_4d.nii.gz"])
def test_real_files_read_as_simpleitk_reads_them(file):
    path = data_file(file)
    ours = read_image(path)
    other = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_allclose(ours.array, other.T, rtol=1e-6)


def test_same_image_same_bytes():
    image = Image(moving_cine(), AFFINE, 0.03)
    first, again = (encode_image(image, Path("a.nii.gz"), "test") for _ in range(2))
    assert first == again
    assert first[4:8] == bytes(4)  # the time of gzip


@pytest.mark.parametrize("change", ["voxel", "shape", "affine"])
def test_what_is_read_back_differently_is_not_kept(tmp_path, monkeypatch, change):
    array, affine = np.abs(moving_cine()), AFFINE.copy()
    other = {"voxel": array.copy(), "shape": array[:-1], "affine": array}[change]
    if change == "voxel":
        other[-1, -1, -1, -1] += 1e-3
    if change == "affine":
        affine[0, 3] += 1
    damaged = encode_image(Image(other, affine, 0.03), Path("a.nii"), "test")
    monkeypatch.setattr(nifti, "encode_image", lambda *arguments: damaged)
    (tmp_path / "a.nii").write_bytes(b"old")
    with pytest.raises(OutputError, match="differs"):
        write_image(Image(array, AFFINE, 0.03), tmp_path / "a.nii", "test")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.nii", b"old")]


@pytest.mark.parametrize(("unit", "size"), [("mm", 1.0), ("meter", 1e-3), ("micron", 1e3)])
def test_lengths_become_millimetres(tmp_path, unit, size):
    affine = AFFINE.copy()
    affine[:3] *= size
    stored = nib.Nifti1Image(np.ones((4, 5, 2), np.float32), affine)
    stored.header.set_xyzt_units(unit, "sec")
    nib.save(stored, tmp_path / "a.nii")
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").affine, AFFINE, rtol=1e-5)


@pytest.mark.parametrize("codes", [(1, 1), (1, 0), (0, 2), (4, 3)])
def test_codes_are_kept(tmp_path, codes):
    straight = np.diag([1.5, 1.2, 8, 1])
    write_image(Image(np.ones((4, 5, 2, 3), "f4"), straight, 0.03, codes), tmp_path / "a.nii", "test")
    assert read_image(tmp_path / "a.nii").codes == codes


def test_without_codes_the_voxel_size_is_kept_and_no_place_is_claimed(tmp_path):
    image = Image(np.ones((4, 5, 2, 3), "f4"), AFFINE, 0.03, (0, 0))
    write_image(image, tmp_path / "a.nii", "test")
    again = read_image(tmp_path / "a.nii")
    assert again.codes == (0, 0)
    np.testing.assert_allclose(again.spacing, image.spacing, atol=1e-5)


@pytest.mark.parametrize(
    ("unit", "value", "seconds"),
    [
        ("sec", 0.03, 0.03), ("msec", 30, 0.03), ("usec", 30_000, 0.03), ("unknown", 1, None), ("hz", 30, None),
        ("sec", 0, None), ("sec", np.inf, None), ("sec", np.nan, None),
    ],
)  # fmt: skip
def test_frame_time_units(tmp_path, unit, value, seconds):
    stored = nib.Nifti1Image(np.ones((4, 4, 1, 3), np.float32), AFFINE)
    stored.header.set_xyzt_units("mm", unit)
    stored.header["pixdim"][4] = value
    nib.save(stored, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").frame_time == (None if seconds is None else pytest.approx(seconds))


def test_scaling_is_applied(tmp_path):
    nifti = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), AFFINE)
    nifti.header.set_slope_inter(2, 5)
    nib.save(nifti, tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii").get_fdata()
    np.testing.assert_allclose(read_image(tmp_path / "a.nii").array, stored)


def test_scaling_that_overflows_is_refused():
    raw = bytearray(nib.Nifti1Image(np.full((4, 4, 1, 3), 30000, np.int16), AFFINE).to_bytes())
    raw[112:116] = struct.pack("<f", 3e38)
    with pytest.raises(UnsupportedDataError, match="single precision"):
        decode_image(bytes(raw), Path("a.nii"))


def test_axes_are_reordered(tmp_path):
    array = np.abs(moving_cine(z=1))[:, :, 0]
    save(tmp_path / "a.nii", array)
    assert read_image(tmp_path / "a.nii").shape == (24, 20, 6)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii", "x,y,t").array[:, :, 0], array)
    save(tmp_path / "c.nii", array[..., None, None])
    np.testing.assert_array_equal(read_image(tmp_path / "c.nii", "x,y,t").array[:, :, 0], array)
    save(tmp_path / "b.nii", np.abs(moving_cine()).transpose(1, 0, 3, 2))
    assert read_image(tmp_path / "b.nii", "y,x,t,z").shape == (24, 20, 2, 6)
    for wrong in ("x,y", "x,y,z,t", "x,y,q", "x,x,t", "t,x,y"):
        with pytest.raises(CrnnError, match="axes"):
            read_image(tmp_path / "a.nii", wrong)


def test_reordered_axes_take_their_geometry_along(tmp_path):
    array = np.abs(moving_cine())
    turned = AFFINE[:, [1, 2, 0, 3]]
    save(tmp_path / "a.nii", array.transpose(1, 2, 0, 3), affine=turned)
    again = read_image(tmp_path / "a.nii", "y,z,x,t")
    np.testing.assert_array_equal(again.array, array.astype(np.float32))
    np.testing.assert_allclose(again.affine, AFFINE, atol=1e-5)
    assert again.frame_time == pytest.approx(0.03)


def test_a_qform_of_its_own_is_kept(tmp_path):
    nifti = nib.Nifti1Image(np.ones((4, 5, 2, 3), np.float32), AFFINE)
    scanner = np.diag([1.5, 1.2, 8, 1])
    nifti.set_qform(scanner, code=1)
    nifti.set_sform(AFFINE, code=2)
    nib.save(nifti, tmp_path / "a.nii")
    write_image(read_image(tmp_path / "a.nii"), tmp_path / "b.nii", "test")
    again = nib.load(tmp_path / "b.nii")
    np.testing.assert_allclose(again.get_qform(), scanner, atol=1e-5)
    np.testing.assert_allclose(again.get_sform(), AFFINE, atol=1e-5)
    assert read_image(tmp_path / "b.nii").codes == (1, 2)


def test_a_frame_step_without_a_unit_is_kept_as_it_is(tmp_path):
    nifti = nib.Nifti1Image(np.ones((4, 5, 2, 3), np.float32), AFFINE)
    nifti.header.set_xyzt_units("mm", "unknown")
    nifti.header["pixdim"][4] = 33
    nib.save(nifti, tmp_path / "a.nii")
    write_image(read_image(tmp_path / "a.nii"), tmp_path / "b.nii", "test")
    again = nib.load(tmp_path / "b.nii").header
    assert (again["pixdim"][4], again.get_xyzt_units()) == (33, ("mm", "unknown"))


def test_a_header_that_promises_more_than_the_file_is_refused_before_memory_is_taken():
    raw = bytearray(nib.Nifti1Image(np.ones((4, 5, 2, 3), np.float32), AFFINE).to_bytes())
    raw[42:48] = struct.pack("<hhh", 30000, 30000, 30000)
    with pytest.raises(UnreadableError, match="truncated"):
        decode_image(bytes(raw), Path("a.nii"))


@pytest.mark.parametrize(("stored", "read"), [((4, 3), (4, 3, 1)), ((4, 3, 2, 5, 1, 1), (4, 3, 2, 5))])
def test_axes_that_are_missing_or_one_too_many_are_of_length_one(tmp_path, stored, read):
    array = np.random.default_rng(0).random(stored).astype(np.float32)
    nib.save(nib.Nifti1Image(array, AFFINE), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii").array, array.reshape(read))


@pytest.mark.parametrize(
    ("low", "unit"), [("radians", np.pi / np.pi), ("siemens", 4096 / np.pi), ("positive", 4096 / (2 * np.pi))]
)
def test_magnitude_and_phase_make_complex(low, unit):
    image = moving_cine(noise=0.05)
    angle = np.angle(image)
    stored = (angle + np.pi) * unit if low == "positive" else angle * unit
    magnitude = Image(np.abs(image), AFFINE, 0.03, (2, 4))
    joined = join_phase(magnitude, Image(stored.astype(np.float32), AFFINE), "phase")
    np.testing.assert_allclose(joined.array, image, atol=1e-4)
    np.testing.assert_array_equal(joined.affine, AFFINE)
    assert (joined.frame_time, joined.codes) == (0.03, (2, 4))


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2)])
def test_a_phase_that_is_stored_along_other_axes_is_turned_to_the_magnitude(order, flips):
    image = moving_cine(z=3)
    angle, affine = np.angle(image).transpose(*order, 3), AFFINE[:, [*order, 3]].copy()
    for axis in flips:
        angle = np.flip(angle, axis)
        affine[:, 3] += affine[:, axis] * (angle.shape[axis] - 1)
        affine[:, axis] *= -1
    joined = join_phase(Image(np.abs(image), AFFINE, 0.03), Image(angle.astype(np.float32), affine), "phase")
    np.testing.assert_allclose(joined.array, image, atol=1e-4)
    np.testing.assert_array_equal(joined.affine, AFFINE)


def test_more_than_four_axes_are_refused_with_what_to_save_instead():
    for shape, remedy in (((4, 3, 1, 6, 2), "as one complex file"), ((4, 3, 2, 1, 6), "if its fifth axis is time")):
        content = nib.Nifti1Image(np.ones(shape, np.float32), AFFINE).to_bytes()
        with pytest.raises(UnsupportedDataError, match=remedy):
            decode_image(content, Path("a.nii"))


def test_phase_of_unknown_range_or_shape_is_refused():
    image = Image(np.abs(moving_cine()), AFFINE)
    for low, high in ((0, 90), (-180, 180), (-3142, 3142), (0, 5000), (-5000, 4000), (100, 5000), (-10, 5000)):
        phase = Image(np.linspace(low, high, image.array.size).reshape(image.shape), AFFINE)
        with pytest.raises(UnsupportedDataError, match=f"from {low} to {high}: .*radians"):
            join_phase(image, phase, "phase")
    with pytest.raises(UnsupportedDataError, match="NaN"):
        join_phase(image, Image(np.full(image.shape, np.nan), AFFINE), "phase")
    with pytest.raises(UnsupportedDataError, match=r"shape .*, the magnitude .*not one acquisition"):
        join_phase(image, Image(image.array[..., :2], AFFINE), "phase")
    with pytest.raises(UnsupportedDataError, match=r"^phase and the magnitude lie apart in space: not one acquisition"):
        join_phase(image, Image(image.array, np.diag([-1, 1, 1, 1]) @ AFFINE), "phase")
    with pytest.raises(UnsupportedDataError, match="complex"):
        join_phase(image, Image(image.array + 1j, AFFINE), "phase")


def test_bids_sibling_is_found(tmp_path):
    (tmp_path / "s_part-phase_cine.nii.gz").write_bytes(b"x")
    assert phase_sibling(tmp_path / "s_part-mag_cine.nii.gz") == tmp_path / "s_part-phase_cine.nii.gz"
    assert phase_sibling(tmp_path / "other_part-mag_cine.nii.gz") is None
    assert phase_sibling(tmp_path / "s_part-phase_cine.nii.gz") is None


def broken_files():
    whole = encode_image(Image(np.abs(moving_cine()), AFFINE), Path("a.nii.gz"), "t")
    plain = gzip.decompress(whole)
    pair = bytearray(plain)
    pair[344:348] = b"ni1\0"
    colours = np.zeros((3, 3, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    shape = bytearray(plain)
    shape[42:44] = struct.pack("<h", -4)
    singular = bytearray(plain)
    singular[296:312] = bytes(16)
    singular[252:254] = bytes(2)  # and no qform to go by
    kind = bytearray(plain)
    kind[70:72] = struct.pack("<h", 77)
    units = bytearray(plain)
    units[123] = 4
    return {
        "empty": (b"", UnreadableError),
        "text": (b"this is not an image\n" * 40, UnreadableError),
        "truncated gzip": (whole[: len(whole) // 2], UnreadableError),
        "damaged gzip": (whole[:40] + b"\xff" * 20 + whole[60:], UnreadableError),
        "truncated voxels": (plain[:2000], UnreadableError),
        "truncated header": (plain[:200], UnreadableError),
        "half of a pair": (bytes(pair), UnreadableError),
        "unknown voxel type": (bytes(kind), UnreadableError),
        "units that do not exist": (bytes(units), UnreadableError),
        "negative size": (bytes(shape), CrnnError),
        "RGB": (nib.Nifti1Image(colours, AFFINE).to_bytes(), UnsupportedDataError),
        "vectors": (nib.Nifti1Image(np.zeros((3, 3, 2, 1, 3), "f4"), AFFINE).to_bytes(), UnsupportedDataError),
        "singular affine": (bytes(singular), UnsupportedDataError),
    }


@pytest.mark.parametrize("name", list(broken_files()))
def test_broken_files_are_refused(tmp_path, name):
    content, kind = broken_files()[name]
    file = tmp_path / "a.nii"
    file.write_bytes(content)
    with pytest.raises(kind) as caught:
        read_image(file)
    assert isinstance(caught.value, CrnnError)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 3))
@example([(111, 95)], 0)  # voxels from byte 9.2e18 on
def test_mutated_headers_never_end_in_a_traceback(changes, cut):
    content = bytearray(encode_image(Image(np.abs(moving_cine(6, 5, 1, 2)), AFFINE), Path("a.nii"), "t"))
    for place, value in changes:
        content[place] = value
    content = content[: len(content) - 37 * cut]
    try:
        image = decode_image(bytes(content), Path("a.nii"))
    except CrnnError:
        return
    assert image.array.size < 1e7


def test_missing_files_and_folders_are_refused():
    for bad in (Path("does/not/exist.nii"), Path("/")):
        with pytest.raises(UnreadableError):
            read_image(bad)
