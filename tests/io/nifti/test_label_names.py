"""Names of labels in a NIfTI file: kept by what we write, passed over by others, never trusted."""

import json

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension

import crnn_cli
from crnn_cli.data.image import Image
from crnn_cli.io.nifti.image import load_nifti
from crnn_cli.labels.label_image import LabelImage
from crnn_cli.labels.names import Label
from tests.support.data import ROOT

LABELS = (
    Label(1, "right ventricle", (70, 140, 255), ("SCT", "53085002", "Right ventricle")),
    Label(200, "Größe, 大", (1, 2, 3)),
)
GRID = Image(np.zeros((6, 5, 4)), np.diag([1.5, 1.5, 8, 1]))


def label_map():
    array = np.zeros(GRID.shape, np.uint8)
    array[2, 2, 1], array[3, 2, 1] = 1, 200
    return LabelImage.on_grid(GRID, array, LABELS)


@pytest.mark.parametrize("name", ["labels.nii", "labels.nii.gz"])
def test_what_is_saved_is_loaded_with_its_names(tmp_path, name):
    labels = label_map()
    crnn_cli.save(labels, tmp_path / name)
    found = crnn_cli.load(tmp_path / name)
    assert isinstance(found, LabelImage)
    assert found.labels == LABELS
    np.testing.assert_array_equal(found.array, labels.array)
    other = nib.load(tmp_path / name)
    np.testing.assert_array_equal(np.asanyarray(other.dataobj), labels.array)
    np.testing.assert_allclose(other.affine, labels.affine)


def test_names_go_through_a_pipe(crnn):
    made = crnn("segment", ROOT / "sample_data/pig_stack.nii.gz", "--slices", "-o", "-")
    assert made.code == 0, made.err
    found = crnn("function", "-", "--json", stdin=made.out)
    assert found.code == 0, found.err
    assert json.loads(found.out)["quantities"]["left"]["edv"]["value"] > 10


@pytest.mark.parametrize(
    "content",
    [
        b"not JSON", b"[]", b"{}", b'{"crnn_labels": 3}', b'{"crnn_labels": [{"value": 0, "name": "x"}]}',
        b'{"crnn_labels": [{"value": 1, "name": " "}]}', b'{"crnn_labels": [{"value": 1e400, "name": "x"}]}',
        b"[" * 60000, b'{"crnn_labels": [{"value": true, "name": "x"}]}', b"\xff\xfe",
    ],
)  # fmt: skip
def test_a_damaged_extension_is_passed_over(tmp_path, content):
    image = nib.Nifti1Image(label_map().array, GRID.affine)
    image.header.set_intent("label")
    image.header.extensions.append(Nifti1Extension(6, content))
    nib.save(image, tmp_path / "a.nii")
    assert not isinstance(load_nifti(tmp_path / "a.nii").image, LabelImage)


def test_names_alone_make_no_label_map(tmp_path):
    """Values that are no labels stay an image, whatever the extension says."""
    from crnn_cli.io.nifti.label_names import names_extension

    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32), GRID.affine)
    image.header.set_intent("label")
    image.header.extensions.append(names_extension(LABELS))
    nib.save(image, tmp_path / "a.nii")
    assert not isinstance(load_nifti(tmp_path / "a.nii").image, LabelImage)
