"""sform, qform and their codes, sound and damaged, against the formulas of the NIfTI-1 standard written out."""

import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from crnn_cli.data.image import Image
from crnn_cli.io.images import load_image
from crnn_cli.io.nifti.image import write_image
from crnn_cli.workflows.evaluate.evaluate import evaluate_images
from tests.io.nifti.test_own_types import stored

ARRAY = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
ZOOMS = np.array([1.5, 1.25, 8.0])
FLOATS = st.floats(-1, 1, width=32)


def standard_affine(quaternion, offset, qfac):
    """Affine of a qform by nifti1.h, method 2; b, c, d that are too long are scaled as nifti_quatern_to_mat44 does."""
    b, c, d = (float(v) for v in quaternion)
    left = 1 - (b * b + c * c + d * d)
    if left < 1e-7:
        length = np.sqrt(b * b + c * c + d * d)
        a, b, c, d = 0.0, b / length, c / length, d / length
    else:
        a = np.sqrt(left)
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    affine = np.eye(4)
    affine[:3, :3] = rotation * (ZOOMS * [1, 1, qfac])
    affine[:3, 3] = offset
    return affine


def placed(path, quaternion, qfac, codes, sform=None):
    """Write a file whose fields are given one by one, right or wrong."""
    content = bytearray(nib.Nifti1Image(ARRAY, np.eye(4)).to_bytes())
    content[76:92] = struct.pack("<4f", qfac, *ZOOMS)
    content[123:124] = bytes([2])
    content[252:256] = struct.pack("<2h", *codes)
    content[256:280] = struct.pack("<6f", *quaternion, 10, 20, 30)
    content[280:328] = struct.pack("<12f", *(np.zeros(12) if sform is None else np.asarray(sform)[:3].ravel()))
    path.write_bytes(bytes(content))
    return path


def codes_of(loaded):
    return {each.code for each in loaded.remarks()}


@settings(max_examples=80, deadline=None)
@given(quaternion=st.tuples(FLOATS, FLOATS, FLOATS), stretch=st.sampled_from([None, 1.0, 1.0000002, 1.001, 1.7]),
       qfac=st.sampled_from([-1.0, 1.0]))  # fmt: skip
def test_a_qform_is_read_as_the_standard_reads_it(tmp_path_factory, quaternion, stretch, qfac):
    length = float(np.linalg.norm(quaternion))
    assume(length > 0.1 and (stretch is not None or length < 0.999))
    scaled = np.array(quaternion, np.float32) * np.float32(1 if stretch is None else stretch / length)
    path = placed(tmp_path_factory.mktemp("q") / "a.nii", scaled, qfac, (1, 0))
    loaded = load_image(path)
    np.testing.assert_allclose(loaded.image.affine, standard_affine(scaled, (10, 20, 30), qfac), atol=0.02)
    assert ("qform-no-rotation" in codes_of(loaded)) == (stretch is not None and stretch > 1.0001)


SOUND = np.array([[-1.5, 0, 0, 90], [0, 1.25, 0, -60], [0, 0, 8, -20], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("sform", [np.zeros((4, 4)), np.full((4, 4), np.nan), SOUND * [1, 1, 0, 1]], ids=str)
def test_a_damaged_sform_gives_way_to_the_qform(tmp_path, sform):
    loaded = load_image(placed(tmp_path / "a.nii", (0, 1, 0), 1.0, (1, 1), sform))
    np.testing.assert_allclose(loaded.image.affine, standard_affine((0, 1, 0), (10, 20, 30), 1.0), atol=1e-3)
    assert "sform-unusable" in codes_of(loaded)
    assert loaded.image.codes == (1, 0)


def moved(x=0.0):
    """Return the sound affine, moved along x."""
    affine = SOUND.copy()
    affine[0, 3] += x
    return affine


def test_a_damaged_quaternion_beside_a_sound_sform_does_no_harm(tmp_path):
    loaded = load_image(placed(tmp_path / "a.nii", (0, 1.001, 0), 1.0, (1, 1), SOUND))
    np.testing.assert_allclose(loaded.image.affine, SOUND)
    assert not {"qform-no-rotation", "sform-and-qform-differ"} & codes_of(loaded)


@pytest.mark.parametrize(
    ("sform", "codes", "doubted", "said"),
    [
        (moved(), (1, 1), False, ""),
        (np.diag([-1.0, 1, 1, 1]) @ SOUND, (1, 1), True, "mirror"),
        (moved(100), (1, 1), True, "100 mm"),
        (moved(100), (1, 2), False, ""),  # another space, as it says
        (moved(1), (1, 1), False, ""),  # less than a voxel
    ],
)
def test_forms_of_one_code_that_lie_apart_are_doubted(tmp_path, sform, codes, doubted, said):
    image = nib.Nifti1Image(ARRAY, SOUND)
    image.set_sform(sform, codes[1])
    image.set_qform(SOUND, codes[0])
    nib.save(image, tmp_path / "a.nii")
    loaded = load_image(tmp_path / "a.nii")
    assert ("sform-and-qform-differ" in codes_of(loaded)) == doubted
    assert said in " ".join(str(each) for each in loaded.remarks())
    np.testing.assert_allclose(loaded.image.affine, sform, atol=1e-4)


def test_a_sheared_grid_whose_qform_cannot_say_so_is_not_doubted(tmp_path):
    sheared = SOUND + np.array([[0, 2.0, 0, 0], [0] * 4, [0] * 4, [0] * 4])
    write_image(Image(np.zeros((40, 40, 4), np.float32), sheared), tmp_path / "a.nii", "")
    loaded = load_image(tmp_path / "a.nii")
    assert loaded.image.qform is not None
    assert "sform-and-qform-differ" not in codes_of(loaded)


@pytest.mark.parametrize("after", [b"garbage after the stream", b"\0" * 512, b"", b"\x1f\x8b"], ids=repr)
def test_what_follows_a_compressed_image_is_left_aside(tmp_path, after):
    plain = stored(tmp_path / "a.nii", ARRAY)
    packed = tmp_path / "b.nii.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()) + after)
    if after == b"\x1f\x8b":  # a member that is cut off is damage
        with pytest.raises(Exception, match="truncated or damaged"):
            load_image(packed)
        return
    loaded = load_image(packed)
    np.testing.assert_array_equal(loaded.image.array, ARRAY)
    assert ("trailing-bytes" in codes_of(loaded)) == after.startswith(b"garbage")


@pytest.mark.parametrize("field", [(76 + 4, "<3f", (0, 0, 0)), (76 + 4, "<3f", (-1.5, -1.5, 8)), (108, "<f", (344.0,))])
def test_nibabel_does_not_speak_for_us(crnn, tmp_path, capfd, field):
    at, form, values = field
    content = bytearray(stored(tmp_path / "a.nii", ARRAY).read_bytes())
    content[at : at + struct.calcsize(form)] = struct.pack(form, *values)
    (tmp_path / "a.nii").write_bytes(bytes(content))
    ended = crnn("convert", tmp_path / "a.nii", tmp_path / "b.nii")
    said = capfd.readouterr().err + ended.err
    assert "pixdim[" not in said
    assert "leaving at current" not in said
    assert "setting to minimum" not in said


def test_a_lost_affine_becomes_dicom_of_the_stated_size(crnn, tmp_path):
    image = nib.Nifti1Image(ARRAY, np.eye(4))
    image.set_sform(np.eye(4), 1)
    image.header["pixdim"][1:4] = ZOOMS
    nib.save(image, tmp_path / "a.nii")
    ended = crnn("convert", tmp_path / "a.nii", tmp_path / "d")
    assert ended.code == 0
    assert "lost its spacing" in ended.err.replace("\n", " ")
    again = load_image(tmp_path / "d").image
    np.testing.assert_allclose(again.spacing, ZOOMS)
    np.testing.assert_array_equal(np.sort(again.array.ravel()), np.sort(ARRAY.ravel()))


def test_images_that_lie_nowhere_are_compared_as_stored(tmp_path):
    truth = Image(np.random.default_rng(0).random((16, 17, 2), np.float32), np.diag([1.5, 1.25, 8, 1]), codes=(0, 0))
    write_image(truth, tmp_path / "nowhere.nii", "")
    write_image(Image(truth.array, SOUND), tmp_path / "somewhere.nii", "")
    assert nib.load(tmp_path / "nowhere.nii").header["qform_code"] == 0
    assert nib.load(tmp_path / "nowhere.nii").header["sform_code"] == 0
    found = evaluate_images(tmp_path / "nowhere.nii", tmp_path / "somewhere.nii")
    assert found.report["identical"]
    assert not found.report["geometry_ignored"]
