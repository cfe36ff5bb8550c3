"""NRRD and MetaImage: every voxel where SimpleITK puts it in NIfTI too; nothing is read that lies elsewhere."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.data.alignment import compare_images
from crnn_cli.errors import CrnnError, UnreadableError, UnsupportedDataError
from crnn_cli.io.images import load_image
from crnn_cli.labels.label_image import LabelImage
from tests.support.dicom import oblique

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")


def itk_image(seed, kind=np.int16, frames=1):
    rng = np.random.default_rng(seed)
    shape = ((frames,) if frames > 1 else ()) + (3, 4, 5)
    array = rng.integers(0, 100, shape).astype(kind)
    image = sitk.GetImageFromArray(array, isVector=False)
    row, column = oblique(seed)
    direction = np.eye(image.GetDimension())
    direction[:3, :3] = np.column_stack([row, column, np.cross(row, column)])
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing([1.5, 1.25, 8.0, 40.0][: image.GetDimension()])
    image.SetOrigin([-30.5, 12.25, 7.0, 0.0][: image.GetDimension()])
    return image


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), suffix=st.sampled_from(SUFFIXES), frames=st.sampled_from([1, 4]),
       kind=st.sampled_from([np.int8, np.uint16, np.int32, np.float32, np.float64]), packed=st.booleans())  # fmt: skip
def test_an_image_is_the_same_as_in_nifti(tmp_path_factory, seed, suffix, frames, kind, packed):
    place = tmp_path_factory.mktemp("itk")
    image = itk_image(seed, kind, frames)
    sitk.WriteImage(image, place / f"a{suffix}", useCompression=packed)
    sitk.WriteImage(image, place / "a.nii")
    read = load_image(place / f"a{suffix}", keep_type=True)
    truth = load_image(place / "a.nii", keep_type=True).image
    assert read.image.array.dtype == kind
    assert read.format == ("NRRD" if suffix in SUFFIXES[:2] else "MetaImage")
    found = compare_images(truth, read.image)
    assert (found.voxels, found.shapes[0]) == (0, found.shapes[1])
    assert found.distance_mm < 1e-3
    assert load_image(place / f"a{suffix}").image.array.dtype == np.float32


def nrrd(path, array, **fields):
    """Write a NRRD file by hand, x fastest."""
    kinds = {"i2": "short", "u1": "uchar"}
    header = {"type": kinds[array.dtype.str[1:]], "dimension": array.ndim, "sizes": " ".join(map(str, array.shape)),
              "endian": "little", "encoding": "raw"} | fields  # fmt: skip
    lines = [f"{key}:={value}" if key.startswith("Segment") else f"{key}: {value}" for key, value in header.items()]
    path.write_bytes(("NRRD0005\n" + "\n".join(lines) + "\n\n").encode() + array.tobytes("F"))
    return path


@pytest.mark.parametrize("first", [True, False])
def test_a_sequence_of_3d_slicer_is_a_series(tmp_path, first):
    array = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)  # x, y, z, t
    directions = ["(1.5,0,0)", "(0,1.25,0)", "(0,0,8)"]
    path = nrrd(
        tmp_path / "a.seq.nrrd", array.transpose(3, 0, 1, 2) if first else array, space="left-posterior-superior",
        kinds="list domain domain domain" if first else "domain domain domain list",
        **{"space directions": " ".join(["none", *directions] if first else [*directions, "none"])},
        **{"space origin": "(1,2,3)"},
    )  # fmt: skip
    image = load_image(path, keep_type=True).image
    np.testing.assert_array_equal(image.array, array)
    np.testing.assert_allclose(image.affine, [[-1.5, 0, 0, -1], [0, -1.25, 0, -2], [0, 0, 8, 3], [0, 0, 0, 1]])
    assert image.codes == (1, 1)
    assert image.frame_time is None


def test_a_file_that_does_not_say_where_it_lies_is_nowhere(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", np.ones((4, 5, 3), np.int16), spacings="1.5 1.25 8")
    loaded = load_image(path)
    assert loaded.image.codes == (0, 0)
    assert loaded.image.spacing == (1.5, 1.25, 8.0)
    assert "position-unknown" in {each.code for each in loaded.remarks()}


def segmentation(place):
    labels = np.random.default_rng(0).integers(0, 3, (12, 13, 2)).astype(np.uint8)
    fields = {
        "Segment0_ID": "a", "Segment0_Name": "left ventricle", "Segment0_LabelValue": "1", "Segment0_Color": "1 0 0",
        "Segment1_ID": "b", "Segment1_Name": "right ventricle", "Segment1_LabelValue": "2",
        "space directions": "(1,0,0) (0,1,0) (0,0,8)", "space origin": "(0,0,0)",
    }  # fmt: skip
    return labels, nrrd(place / "a.seg.nrrd", labels, space="left-posterior-superior", **fields)


def test_a_segmentation_of_3d_slicer_is_a_label_map(crnn, tmp_path):
    labels, path = segmentation(tmp_path)
    image = load_image(path).image
    assert isinstance(image, LabelImage)
    assert image.names == {1: "left ventricle", 2: "right ventricle"}
    assert image.labels[0].colour == (255, 0, 0)
    assert crnn("convert", path, tmp_path / "labels.nii.gz").code == 0
    np.testing.assert_array_equal(nib.load(tmp_path / "labels.nii.gz").dataobj, labels)
    ended = crnn("evaluate", path, "--reference", tmp_path / "labels.nii.gz", "--json")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["compared"] == "labels"
    found = {each["name"]: each["dice"] for each in report["labels"]}
    assert found == {"left ventricle": 1, "right ventricle": 1}


def test_commands_take_them_as_they_take_nifti(crnn, tmp_path):
    image = itk_image(3, np.float32, 4)
    for name in ("a.mha", "a.nrrd", "a.nii"):
        sitk.WriteImage(image, tmp_path / name)
    for name in ("a.mha", "a.nrrd"):
        assert crnn("verify", tmp_path / name, tmp_path / "a.nii").code == 0
        assert crnn("info", tmp_path / name).code == 0
        out = ("reconstruct", "--undersample", "2", "--method", "zero-filled", "-o")
        assert crnn(*out, tmp_path / f"{name}.nii", tmp_path / name).code == 0
    assert crnn(*out, tmp_path / "b.nii", tmp_path / "a.nii").code == 0
    ours = [nib.load(tmp_path / name) for name in ("a.mha.nii", "a.nrrd.nii", "b.nii")]
    assert np.array_equal(ours[0].dataobj, ours[2].dataobj)
    assert np.array_equal(ours[1].dataobj, ours[2].dataobj)


@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
@pytest.mark.parametrize(
    "name", ["../secret.raw", "/etc/hostname", "sub/a.raw", "link.raw", "absent.raw", "a%03d.raw 1 2 1"]
)
def test_voxels_in_another_place_are_not_read(tmp_path, suffix, name):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "secret.raw").write_bytes(b"\x01" * 1000)
    (tmp_path / "in" / "link.raw").symlink_to(tmp_path / "secret.raw")
    (tmp_path / "in" / "sub" / "a.raw").write_bytes(b"\x01" * 1000)
    image = itk_image(1)
    path = tmp_path / "in" / f"a{suffix}"
    sitk.WriteImage(image, path)
    raw = next(p.name for p in (tmp_path / "in").iterdir() if p.name in ("a.raw", "a.zraw", "a.raw.gz"))
    load_image(path)  # beside it: as it should be
    path.write_text(path.read_text().replace(raw, name))
    with pytest.raises(CrnnError, match=r"another place|missing beside|several files"):
        load_image(path)


def test_the_sha256_covers_the_voxels_beside_it(tmp_path):
    sitk.WriteImage(itk_image(1), tmp_path / "a.mhd")
    before = load_image(tmp_path / "a.mhd").source["sha256"]
    raw = next(p for p in tmp_path.iterdir() if p.suffix != ".mhd")
    raw.write_bytes(raw.read_bytes()[:-1] + b"\x07")
    assert load_image(tmp_path / "a.mhd").source["sha256"] != before


@pytest.mark.parametrize(
    ("write", "error", "why"),
    [
        (lambda p: p.write_bytes(b"NRRD0005\ntype: short\n\n"), UnreadableError, "lacks dimension"),
        (lambda p: p.write_bytes(b"ObjectType = Image\nNDims = 3\n"), UnreadableError, "lacks dimsize"),
        (lambda p: sitk.WriteImage(sitk.Image(4, 5, 3, sitk.sitkVectorFloat32), p, imageIO="MetaImageIO"),
         UnsupportedDataError, "vectors or colours"),
        (lambda p: nrrd(p, np.ones((4, 5, 3), np.int16), sizes="40000 50000 30000"), UnreadableError, "cannot hold"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(tmp_path, capfd, write, error, why):
    path = tmp_path / "a.mha"
    write(path)
    with pytest.raises(error, match=why):
        load_image(path)
    assert capfd.readouterr().err == ""


def test_overlapping_segments_are_refused(tmp_path):
    labels = np.ones((2, 12, 13, 2), np.uint8)
    path = nrrd(tmp_path / "a.seg.nrrd", labels, space="left-posterior-superior", kinds="list domain domain domain",
                **{"space directions": "none (1,0,0) (0,1,0) (0,0,8)", "Segment0_LabelValue": "1"})  # fmt: skip
    with pytest.raises(UnsupportedDataError, match="overlap"):
        load_image(path)
