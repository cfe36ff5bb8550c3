"""Function of a heart from an image in memory: what is said, and what is said once."""

import pytest

from crnn_cli import notices
from crnn_cli.labels.label_image import LabelImage
from crnn_cli.labels.names import Label
from crnn_cli.notices import Doubt
from crnn_cli.workflows.function.measure import measure_image
from crnn_cli.workflows.function.options import FunctionOptions
from tests.cardiac.hearts import heart


@pytest.mark.parametrize("said", [False, True])
def test_frames_out_of_order_are_said_once(said):
    """Of a cine they are found in the images, and again in the labels that are made of them."""
    whole = heart(frames=6)
    shuffled = LabelImage.on_grid(whole, whole.array[..., [0, 2, 4, 1, 3, 5]], ())
    with notices.recording() as record:
        if said:
            notices.tell(Doubt("frames-out-of-order", "the frames do not follow each other"))
        measure_image(shuffled, FunctionOptions(labels="acdc"), lambda done, steps: None)
    assert [each.code for each in record.remarks].count("frames-out-of-order") == 1


@pytest.mark.parametrize("third", ["left atrium", "left ventricle"])
def test_labels_that_are_none_of_the_heart_s_are_named(third):
    """Values of ACDC; with an atrium in place of the left cavity the right one alone is measured."""
    names = ("right ventricle", "myocardium", third)
    labels = [Label(value, name, (9, 9, 9)) for value, name in enumerate(names, 1)]
    whole = heart(frames=6)
    with notices.recording() as record:
        measure_image(LabelImage.on_grid(whole, whole.array, labels), FunctionOptions(), lambda done, steps: None)
    said = [each.text for each in record.remarks if each.code == "labels-not-measured"]
    assert [text.endswith("not measured: left atrium") for text in said] == [True] * (third == "left atrium")
