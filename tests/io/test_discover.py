"""A folder stands for the images in it, at any depth; label maps and masks are left out, and named."""

import nibabel as nib
import numpy as np
import pytest

from crnn_cli import notices
from crnn_cli.errors import UnreadableError
from crnn_cli.io.discover import LABEL_ENDINGS, find_inputs, is_label_file, name_of
from tests.support.cines import save
from tests.support.dicom import values, write_series


def put(path, intent=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.ones((4, 4, 2), np.uint8), np.eye(4))
    if intent is not None:
        image.header.set_intent(intent)
    nib.save(image, path)
    return path


def found(folder, **options):
    return [path.relative_to(folder).as_posix() for path in find_inputs(folder, **options)]


def test_files_of_subjects_are_inputs_at_any_depth_beside_files_and_studies(tmp_path):
    for name in ("a.nii", "sub-01/cine.nii.gz", "sub-02/anat/sub-02_cine.nii", "sub-02/ses-1/deep/x.nii.gz"):
        put(tmp_path / name)
    for name in (".hidden/a.nii", "sub-01/.cache/b.nii", "sub-01/.c.nii"):
        put(tmp_path / name)
    (tmp_path / "sub-01" / "notes.txt").write_text("no image")
    write_series(tmp_path / "study" / "DICOM", values(1, 1, 4, 4))
    put(tmp_path / "results" / "a_crnn.nii.gz")
    (tmp_path / "results" / "crnn_batch.jsonl").write_text("{}")
    (tmp_path / "empty").mkdir()
    assert found(tmp_path) == [
        "a.nii", "study", "sub-01/cine.nii.gz", "sub-02/anat/sub-02_cine.nii", "sub-02/ses-1/deep/x.nii.gz",
    ]  # fmt: skip
    assert found(tmp_path, leave={(tmp_path / "sub-02").resolve()}) == ["a.nii", "study", "sub-01/cine.nii.gz"]


def test_empty_files_and_links_to_nothing_are_inputs_that_fail_by_name(tmp_path):
    put(tmp_path / "a.nii")
    (tmp_path / "sub").mkdir()
    for name in ("b.h5", "c.txt", "d.hdr", "sub/e.npy"):
        (tmp_path / name).touch()
    for name in ("f.h5", "g.txt", "sub/h.nii", "sub/i.h5"):
        (tmp_path / name).symlink_to(tmp_path / "gone")
    assert found(tmp_path) == ["a.nii", "b.h5", "f.h5", "sub/e.npy", "sub/h.nii", "sub/i.h5"]
    assert found(tmp_path, raw=False) == ["a.nii", "sub/h.nii"]


def test_the_phase_beside_a_magnitude_of_a_subject_is_no_input(tmp_path):
    for part in ("mag", "phase"):
        put(tmp_path / "sub-1" / f"sub-1_part-{part}_cine.nii")
    assert found(tmp_path) == ["sub-1/sub-1_part-mag_cine.nii"]


@pytest.mark.parametrize("ending", LABEL_ENDINGS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("below", ["", "patient001/"])
def test_label_maps_beside_images_are_left_out_and_named(tmp_path, ending, suffix, below):
    put(tmp_path / f"{below}frame01{suffix}")
    labels = put(tmp_path / f"{below}frame01{ending}{suffix}")
    with notices.recording() as record:
        assert found(tmp_path) == [f"{below}frame01{suffix}"]
    (fact,) = record.as_json()["facts"]
    assert fact["code"] == "labels-left-out"
    assert labels.name in fact["text"]
    assert find_inputs(labels) == [labels]  # who names it means it


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(("intent", "label"), [("label", True), ("none", False), ("estimate", False)])
def test_a_header_that_says_labels_is_believed(tmp_path, suffix, intent, label):
    assert is_label_file(put(tmp_path / f"a{suffix}", intent)) is label


def test_names_that_only_sound_like_labels_are_images(tmp_path):
    for name in ("label.nii", "gt.nii", "masked.nii", "a_gt_cine.nii", "segment.nii.gz"):
        put(tmp_path / name)
    assert len(found(tmp_path)) == 5


def test_a_folder_of_labels_alone_says_so(tmp_path):
    put(tmp_path / "a_gt.nii")
    with pytest.raises(UnreadableError, match="label maps alone"):
        find_inputs(tmp_path)


@pytest.mark.parametrize(("path", "name"), [
    ("in/a.nii.gz", "a"), ("in/anna/cine.nii", "anna_cine"), ("in/anna/day2/cine.nii", "anna_day2_cine"),
    ("in/patient001/patient001_4d.nii.gz", "patient001_4d"), ("elsewhere/b.nii", "b"), ("in", "in"),
])  # fmt: skip
def test_outputs_of_subjects_are_called_by_them(tmp_path, path, name):
    assert name_of(tmp_path / path, tmp_path / "in") == name


def test_two_subjects_with_one_name_of_a_scan_are_both_done(crnn, bundle, tmp_path):
    from tests.support.cines import lines_mask, moving_cine, to_images, to_kspace

    for seed, subject in enumerate(("anna", "berta")):
        (tmp_path / "in" / subject).mkdir(parents=True)
        scan = to_images(to_kspace(moving_cine(seed=seed)) * lines_mask(24, 20, 6)).astype(np.complex64)
        save(tmp_path / "in" / subject / "cine.nii", scan)
        put(tmp_path / "in" / subject / "cine_gt.nii")
    ended = crnn(
        "batch", "reconstruct", tmp_path / "in", "-o", tmp_path / "out", "--model", bundle, "--preview", "{name}.png"
    )
    assert ended.code == 0, ended.err
    assert "2 label maps or masks are left out" in ended.err
    written = sorted(path.name for path in (tmp_path / "out").iterdir() if path.suffix in (".gz", ".png"))
    assert written == ["anna_cine.png", "anna_cine_crnn.nii.gz", "berta_cine.png", "berta_cine_crnn.nii.gz"]
