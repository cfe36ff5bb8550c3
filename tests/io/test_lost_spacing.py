"""A spacing that a header does not give, 0 or not a number, is told and never 1 mm in silence, in every format."""

import json
import math
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from crnn_cli.errors import UnreadableError
from crnn_cli.io.images import load_image
from crnn_cli.workflows.segment.spacing import with_spacing

LABELS = np.zeros((8, 9, 5), np.uint8)
LABELS[2:5, 3:6, 1:4] = 1
STEPS = (1.25, 1.25, 8.0)
TOLD = "the header gives no spacing along z: 1 mm stands in, and sizes are not known"


def nifti(path, codes, stated, sform=None):
    image = nib.Nifti1Image(LABELS, np.diag([*STEPS, 1]))
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(np.diag([*STEPS, 1]), codes[0])
    image.set_sform(np.diag([*STEPS, 1]) if sform is None else sform, codes[1])
    nib.save(image, path)
    content = bytearray(path.read_bytes())
    struct.pack_into("<fff", content, 80, *stated)
    path.write_bytes(content)
    return path


def itk(path):
    image = sitk.GetImageFromArray(LABELS.transpose(2, 1, 0))
    image.SetSpacing(STEPS)
    sitk.WriteImage(image, str(path))
    return path


def nrrd(path, spacings=None):
    head, _, voxels = itk(path).read_bytes().partition(b"\n\n")
    if spacings is None:
        head = head.replace(b"(0,0,8)", b"(nan,nan,nan)")
    else:
        lines = [line for line in head.split(b"\n") if not line.startswith((b"space", b"kinds"))]
        head = b"\n".join([*lines, b"spacings: " + spacings])
    path.write_bytes(head + b"\n\n" + voxels)
    return path


def doubts(path):
    return [doubt.text for doubt in load_image(path).remarks() if doubt.code == "implausible-spacing"]


@pytest.mark.parametrize("stated", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("codes", [(0, 0), (1, 0)])
def test_nifti_whose_steps_come_from_pixdim(tmp_path, codes, stated):
    file = nifti(tmp_path / "a.nii", codes, (1.25, 1.25, stated))
    assert doubts(file) == [TOLD]
    assert load_image(file).image.spacing == (1.25, 1.25, 1.0)
    turned = nifti(tmp_path / "b.nii", codes, (1.25, stated, 8))
    axes = load_image(turned, "x,z,y").image
    assert (axes.unknown_spacing, axes.spacing[2]) == ((2,), 1.0)


@pytest.mark.parametrize("stated", [0.0, math.nan])
def test_nifti_whose_sform_gives_the_steps(tmp_path, stated):
    for codes in ((0, 1), (1, 1)):
        loaded = load_image(nifti(tmp_path / f"{codes[0]}.nii", codes, (1.25, 1.25, stated)))
        assert loaded.image.spacing == STEPS
        assert [each.code for each in loaded.remarks()] == []
    assert doubts(nifti(tmp_path / "lost.nii", (0, 1), (1.25, 1.25, stated), np.eye(4))) == [TOLD]


def test_nrrd(tmp_path):
    for spacings in (None, b"1.25 1.25 nan"):
        file = nrrd(tmp_path / "a.nrrd", spacings)
        assert doubts(file) == [TOLD]
        assert load_image(file).image.spacing == (1.25, 1.25, 1.0)
    series = sitk.GetImageFromArray(np.zeros((5, 9, 8, 3), np.float32), isVector=True)
    series.SetSpacing(STEPS)
    sitk.WriteImage(series, str(tmp_path / "series.nrrd"))
    content = (tmp_path / "series.nrrd").read_bytes()
    (tmp_path / "series.nrrd").write_bytes(content.replace(b"kinds: vector", b"kinds: list"))
    assert doubts(tmp_path / "series.nrrd") == [], "of the list of values in each voxel no spacing is expected"


@pytest.mark.parametrize("stated", [b"nan", b"0", b"inf", b"x"])
def test_metaimage(tmp_path, stated):
    file = itk(tmp_path / "a.mha")
    file.write_bytes(file.read_bytes().replace(b"1.25 1.25 8\n", b"1.25 1.25 " + stated + b"\n"))
    with pytest.raises(UnreadableError, match=f"the spacing 1.25 1.25 {stated.decode()}, which is no length"):
        load_image(file)


def test_no_size_is_stated_until_the_spacing_is_given(crnn, tmp_path):
    for file in (nifti(tmp_path / "a.nii", (1, 0), (1.25, 1.25, math.nan)), nrrd(tmp_path / "a.nrrd")):
        ended = crnn("labels", file, "--json")
        assert json.loads(ended.out)["labels"][0]["volume_ml"] == [None]
        assert TOLD in ended.err
        assert crnn("labels", file, "--strict").code == 4
        given = with_spacing(load_image(file).image, STEPS, "a")
        assert given.spacing == pytest.approx(STEPS)
        assert [each.code for each in given.doubts() if each.code != "position-unknown"] == []
