"""NRRD and MetaImage: every voxel where SimpleITK puts it in NIfTI too; nothing is read that lies elsewhere."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.data.alignment import compare_images, padded_to
from crnn_cli.data.image import Image
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


def metaimage(path, array, **fields):
    """Write a MetaImage file by hand, x fastest."""
    header = {"ObjectType": "Image", "NDims": array.ndim, "DimSize": " ".join(map(str, array.shape)),
              "ElementType": "MET_SHORT", **fields, "ElementDataFile": "LOCAL"}  # fmt: skip
    path.write_bytes("".join(f"{key} = {value}\n" for key, value in header.items()).encode() + array.tobytes("F"))
    return path


SPACED = {"space directions": "(1.5,0,0) (0,1.25,0) (0,0,8)", "space origin": "(1,2,3)"}


@pytest.mark.parametrize(("unit", "mm"), [("mm", 1), ("cm", 10), ("m", 1000), ("um", 0.001), ("?", 1)])
def test_lengths_in_other_units_are_brought_to_mm(tmp_path, unit, mm):
    array, each = np.ones((3, 4, 5), np.int16), " ".join([f'"{unit}"'] * 3)
    files = [
        nrrd(tmp_path / "space.nrrd", array, space="LPS", **SPACED, **{"space units": each}),
        nrrd(tmp_path / "axes.nrrd", array, spacings="1.5 1.25 8", units=each),
        metaimage(tmp_path / "a.mha", array, ElementSpacing="1.5 1.25 8", DistanceUnits=unit),
    ]
    for file in files:
        np.testing.assert_allclose(load_image(file).image.spacing, np.array([1.5, 1.25, 8]) * mm)
    np.testing.assert_allclose(load_image(files[0]).image.affine[:3, 3], np.array([-1, -2, 3]) * mm)


@pytest.mark.parametrize(("space", "known"), [
    ("left-posterior-superior", True), ("RAS", True), ("scanner-xyz", False), ("3D-right-handed", False), ("", False),
])  # fmt: skip
def test_a_space_that_is_not_the_patient_says_nothing_of_left_and_right(tmp_path, space, known):
    where = {"space": space} if space else {"space dimension": 3}
    file = nrrd(tmp_path / "a.nrrd", np.ones((3, 4, 5), np.int16), **where, **SPACED)
    assert (load_image(file).image.codes != (0, 0)) == known


def test_a_time_axis_with_a_unit_has_a_frame_time(tmp_path):
    file = nrrd(tmp_path / "a.nrrd", np.ones((3, 4, 5, 6), np.int16), spacings="1.5 1.25 8 30",
                kinds="space space space time", units='"mm" "mm" "mm" "ms"')  # fmt: skip
    assert load_image(file).image.frame_time == pytest.approx(0.03)


@pytest.mark.parametrize(("write", "why"), [
    (lambda p, a: metaimage(p, a, ElementToIntensityFunctionSlope="2"), "scales its voxels .*slope 2"),
    (lambda p, a: metaimage(p, a, ElementToIntensityFunctionOffset="-5"), "scales its voxels .*offset -5"),
    (lambda p, a: nrrd(p, a, space="LPS", **SPACED, **{"space units": '"foo" "foo" "foo"'}), "lengths in foo"),
    (lambda p, a: nrrd(p, a, space="LPS", **SPACED, **{"space units": '"mm" "mm" "m"'}), "lengths in m and mm"),
    (lambda p, a: nrrd(p, np.stack([a, a], 3), space="LPS", kinds="domain domain domain time", **SPACED
                       | {"space directions": SPACED["space directions"] + " none"}), "call it list"),
])  # fmt: skip
def test_what_simpleitk_leaves_out_is_refused(tmp_path, write, why):
    with pytest.raises(UnsupportedDataError, match=why):
        load_image(write(tmp_path / "a.mha", np.ones((3, 4, 5), np.int16)))


OBLIQUE = "(0.6,0.8,0) (-0.8,0.6,0) (0,0,8)"
PLACED = {"space directions": f"none {OBLIQUE}", "space origin": "(5,6,7)"}


def layered(path, layers, *segments, **fields):
    """Write layers (layer, x, y, z) of segments: name, value and layer of each."""
    for number, (name, value, layer) in enumerate(segments):
        words = {"Name": name, "LabelValue": value, "Layer": layer}
        fields |= {f"Segment{number}_{key}": str(word) for key, word in words.items()}
    return nrrd(path, layers, space="left-posterior-superior", kinds="list domain domain domain", **PLACED, **fields)


def layers_of_heart():
    """A cavity and a wall in one layer, and the right ventricle beside them in another."""
    layers = np.zeros((2, 12, 13, 2), np.uint8)
    layers[0, 4:8, 3:9] = 2
    layers[0, 5:7, 4:8] = 1
    layers[1, 8:11, 3:9] = 1
    return layers


@pytest.mark.parametrize(
    ("layers", "segments", "why"),
    [
        (np.ones((2, 12, 13, 2), np.uint8), [("epicardium", 1, 0), ("LV", 1, 1)], "overlap: epicardium and LV"),
        (np.ones((2, 12, 13, 2), np.uint8), [("LV", 1, 0)], "none of its segments"),
        (layers_of_heart(), [("LV", 1, 0), ("myocardium", 2, 0)], "none of its segments"),
    ],
)
def test_segments_that_make_no_label_map_are_refused(tmp_path, layers, segments, why):
    with pytest.raises(UnsupportedDataError, match=why):
        load_image(layered(tmp_path / "a.seg.nrrd", layers, *segments))


def test_layers_of_segments_that_do_not_overlap_are_one_label_map(tmp_path):
    layers = layers_of_heart()
    named = [("LV", 1, 0), ("myocardium", 2, 0), ("RV", 1, 1)]
    image = load_image(layered(tmp_path / "a.seg.nrrd", layers, *named)).image
    assert image.names == {1: "LV", 2: "myocardium", 3: "RV"}
    for value, (name, held, layer) in enumerate(named, 1):
        np.testing.assert_array_equal(image.mask(name), layers[layer] == held)
        assert (image.array[image.mask(name)] == value).all()


@pytest.mark.parametrize(("values", "kept"), [((50, 100), (50, 100)), ((100, 3000), (1, 2))])
def test_segments_keep_their_names_whatever_their_type(tmp_path, values, kept):
    array = np.zeros((12, 13, 2), np.int16)
    array[2:5, 2:5], array[7:9, 2:5] = values
    names = {f"Segment{k}_{key}": v for k in (0, 1) for key, v in {"Name": "ab"[k], "LabelValue": values[k]}.items()}
    image = load_image(nrrd(tmp_path / "a.seg.nrrd", array, **names)).image
    assert image.names == dict(zip(kept, "ab", strict=True))
    assert image.array.dtype == np.uint8
    for value, name in zip(values, "ab", strict=True):
        np.testing.assert_array_equal(image.mask(name), array == value)


def test_a_part_of_the_images_lies_where_it_was(crnn, tmp_path):
    """3D Slicer writes the labelled part alone, and where it begins in the images."""
    whole = np.zeros((12, 13, 5), np.uint8)
    whole[4:12, 3:9, 1:4] = 1  # to the last voxel of the first axis
    part, before = whole[4:, 3:9, 1:4], (4, 3, 1)
    steps = np.array([[0.6, 0.8, 0], [-0.8, 0.6, 0], [0, 0, 8]])
    origin = ",".join(map(str, np.array([5, 6, 7]) + before @ steps))
    named = {"space": "left-posterior-superior", "space directions": OBLIQUE}
    named |= {"Segment0_Name": "left ventricle", "Segment0_LabelValue": "1"}
    offset = {"Segmentation_ReferenceImageExtentOffset": "4 3 1"}
    paths = [
        nrrd(tmp_path / "whole.seg.nrrd", whole, **named, **{"space origin": "(5,6,7)"}),
        nrrd(tmp_path / "part.seg.nrrd", part, **named, **offset, **{"space origin": f"({origin})"}),
    ]
    images = [load_image(path).image for path in paths]
    np.testing.assert_allclose(images[0].affine, images[1].affine, atol=1e-9)
    np.testing.assert_array_equal(images[1].array, np.pad(whole, 1)[1:, 1:, 1:][:13, :10, :5])
    ended = crnn("evaluate", paths[1], "--reference", paths[0], "--json")
    assert [each["dice"] for each in json.loads(ended.out)["labels"]] == [1.0]


def test_labels_beyond_a_grid_are_no_part_of_it():
    grid, part = np.eye(4), np.eye(4)
    part[0, 3] = 3
    labels = Image(np.zeros((4, 4, 4), np.uint8), part)
    labels.array[0, 1, 1] = 1
    assert padded_to(labels, grid, (6, 4, 4, 1)).array[3, 1, 1] == 1
    labels.array[3, 1, 1] = 1
    assert padded_to(labels, grid, (6, 4, 4, 1)) is None
