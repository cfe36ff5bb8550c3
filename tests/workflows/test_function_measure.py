"""Function of a heart from an image in memory: what is said once."""

import pytest

from crnn_cli import notices
from crnn_cli.labels.label_image import LabelImage
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
