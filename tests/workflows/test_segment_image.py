"""Segmentation and evaluation of images in memory: as of files, and no file is touched."""

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.bundles.store import write_bundle
from crnn_cli.data.image import Image
from crnn_cli.errors import QualityError, UnsupportedDataError, UsageError
from crnn_cli.labels.label_image import LabelImage
from crnn_cli.workflows.evaluate.evaluate import evaluate_images
from crnn_cli.workflows.evaluate.options import EvaluateOptions
from crnn_cli.workflows.segment.options import SegmentOptions
from crnn_cli.workflows.segment.steps import prepare, segment_image
from tests.cli.test_segment import AFFINE, CONFIG, save, volume, weights


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("segment") / "tiny"
    return SegmentOptions(model=str(write_bundle(folder, CONFIG, weights(), "# tiny\n").folder), device="cpu")


def test_an_image_in_memory_is_labelled_as_the_file_is(crnn, options, tmp_path, monkeypatch):
    save(tmp_path / "v.nii.gz", volume())
    ended = crnn("segment", tmp_path / "v.nii.gz", "--slices", "-o", tmp_path / "l.nii.gz", "--model", options.model)
    assert ended.code == 0, ended.err
    file = nib.load(tmp_path / "l.nii.gz")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    steps = []
    run = segment_image(
        Image(volume(), AFFINE), options, keep_probabilities=True, progress=lambda *step: steps.append(step)
    )
    np.testing.assert_array_equal(run.labels.array, np.asanyarray(file.dataobj))
    assert run.labels.names == {1: "left ventricle", 2: "wall"}
    assert run.labels.mask("WALL").sum() == run.report["labels"][1]["voxels"][0] == run.labels.mask(2).sum()
    together = sum(image.array for image in run.probabilities().values())
    np.testing.assert_array_equal(run.labels.array > 0, together >= 0.5)
    assert (run.report["format"], run.report["passed"], run.report["input"]) == (2, None, {})
    assert "command" not in run.report
    assert steps[-1][0] == steps[-1][1] > 0
    assert not list((tmp_path / "empty").iterdir())


def test_a_loaded_model_serves_many_images(options):
    engine = prepare(options)
    first, second = (segment_image(Image(volume(seed=s), AFFINE), options, engine).labels.array for s in (0, 1))
    again = segment_image(Image(volume(seed=0), AFFINE), options).labels.array
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"slices": "diagonal"}, UsageError, "slices='diagonal'"),
        ({"threshold": 0.0}, UsageError, "threshold=0.0"),
        ({"labels": "aorta"}, UsageError, "labels='aorta'.*1 left ventricle"),
        ({"slices": "axial:2-9"}, UsageError, "has 5 slices"),
    ],
)
def test_errors_speak_of_parameters(options, change, kind, words):
    with pytest.raises(kind, match=words):
        segment_image(Image(volume(), AFFINE), SegmentOptions(**{"model": options.model, "device": "cpu"} | change))


def label_map(shift=0):
    array = np.zeros((12, 12, 3), np.uint8)
    array[2 + shift : 6 + shift, 2:6] = 1
    return array


def test_label_images_are_compared_as_label_maps_and_images_as_images():
    grid = Image(np.zeros((12, 12, 3), np.float32), AFFINE)
    tested, reference = (LabelImage.on_grid(grid, label_map(shift), ()) for shift in (1, 0))
    found = evaluate_images(tested, reference, EvaluateOptions(require_dice=0.5)).report
    assert (found["compared"], found["passed"], found["format"]) == ("labels", True, 2)
    assert found["labels"][0]["dice"] == pytest.approx(0.75)
    images = [Image(each.array.astype(np.float32) + 0.25, AFFINE) for each in (tested, reference)]
    missed = evaluate_images(*images, EvaluateOptions(require_psnr=90), names=("mine", "theirs"))
    assert (missed.report["compared"], missed.report["passed"]) == ("images", False)
    with pytest.raises(QualityError, match="mine against theirs: PSNR is"):
        missed.require_passed()
    with pytest.raises(UnsupportedDataError, match="kind='labels' or kind='images'"):
        evaluate_images(tested, images[1])
    with pytest.raises(UsageError, match="fit_scale is for images"):
        evaluate_images(tested, reference, EvaluateOptions(fit_scale=True))


def test_a_label_map_of_other_numbers_is_refused():
    with pytest.raises(UnsupportedDataError, match="unsigned integers"):
        LabelImage(np.zeros((2, 2, 2), np.float32), AFFINE)
