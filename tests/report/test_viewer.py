"""The viewer of a page holds every slice, frame and label in the room that it may take, and text stays text."""

import base64
import io
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest

from crnn_cli.data.geometry import displayed_slice
from crnn_cli.data.image import Image
from crnn_cli.report.label_montage import LabelledSlices
from crnn_cli.report.page import image_slices as scan
from crnn_cli.report.page import viewer as module
from crnn_cli.report.page.html import render_page
from crnn_cli.report.page.image_slices import image_slices
from crnn_cli.report.page.viewer import Outline, Viewer
from tests.report.test_page import NASTY, parsed


def slices(frames=7, height=45, width=61, count=3, seed=1):
    """Smooth random slices and labels, in descending order of their numbers."""
    from scipy import ndimage

    noise = np.random.default_rng(seed).random((frames, count, height, width))
    image = ndimage.gaussian_filter(noise, (0, 0, 3, 3))
    labels = (image > np.median(image)).astype(np.uint8) * 4
    return LabelledSlices(image, labels, list(range(count, 0, -1)), (1.5, 1.0), 0.04, "left R, top A")


def content(part):
    page = render_page("a", [part])
    tree = parsed(page, scripts=1)
    (script,) = [each for each in tree.iter("script") if each.get("type") == "application/json"]
    return json.loads(script.text), page


def frame_of(found, z, frame):
    """Picture of a slice and frame as the script cuts it out of the sheet."""
    sheet = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(found["images"][z]))))
    tall, wide = found["tile"]
    y, x = frame // found["across"] * tall, frame % found["across"] * wide
    return sheet[y : y + found["height"], x : x + found["width"]].astype(float)


def test_every_frame_of_every_slice_is_in_the_page_by_its_number():
    part = slices()
    found, _ = content(Viewer(part, "c", [Outline(4, "label", "#fff")]))
    assert found["numbers"] == [1, 2, 3]
    white = np.percentile(part.image_TSYX, 99.7)
    for z in range(3):
        stored = 2 - z  # descending
        labels = np.frombuffer(zlib.decompress(base64.b64decode(found["labels"][z])), np.uint8).reshape(7, 45, 61)
        np.testing.assert_array_equal(labels, part.labels_TSYX[:, stored])
        for frame in range(7):
            expected = np.clip(255 * part.image_TSYX[frame, stored] / white, 0, 255)
            assert np.abs(frame_of(found, z, frame) - expected).mean() < 2


def test_labels_without_an_outline_are_not_in_the_page():
    part = slices()
    part.labels_TSYX[part.labels_TSYX == 0] = 9
    found, _ = content(Viewer(part, "c", [Outline(4, "label", "#fff")]))
    labels = zlib.decompress(base64.b64decode(found["labels"][0]))
    assert set(labels) == {0, 4}


@pytest.mark.parametrize(
    ("budget", "whole", "best"), [(3_500_000, True, True), (30_000, True, False), (9_000, False, False)]
)
def test_images_keep_to_their_budget_and_the_page_says_how(monkeypatch, budget, whole, best):
    monkeypatch.setattr(module, "BUDGET", budget)
    found, page = content(Viewer(slices(frames=20, height=64, width=64), "c"))
    assert sum(map(len, found["images"])) <= budget
    said = re.search(r"JPEG, quality (\d+)(?:, every (\d)\w\w pixel)?", page)
    assert (said[2] is None, int(said[1]) == 92) == (whole, best)
    assert found["step"] == int(said[2] or 1)


def test_text_in_a_viewer_is_text():
    outline = Outline(4, NASTY, "#fff")
    found, page = content(Viewer(slices(), NASTY, [outline], [(0, NASTY), (3, "b")]))
    assert found["outlines"][0]["name"] == NASTY
    assert NASTY not in page
    assert page.count("<script") == 2  # the values and the viewer


def test_one_frame_has_no_line_over_time_and_nothing_to_play():
    _, page = content(Viewer(slices(frames=1), "c"))
    for word in ('class="play"', 'class="profile"', "line over time<"):
        assert word not in page


def test_a_scan_is_in_the_page_up_to_a_size_and_its_slices_keep_their_numbers(monkeypatch):
    array = np.random.default_rng(2).random((12, 10, 5, 4)).astype(np.float32)
    image = Image(array * np.exp(1j), np.diag([-1.0, -1.0, 8.0, 1.0]), 0.05)
    whole = image_slices(image)
    assert (whole.image_TSYX.shape, list(whole.numbers)) == ((4, 5, 10, 12), [1, 2, 3, 4, 5])
    white = np.percentile(array[:, :, 2], 99.7)
    expected = np.clip(255 * displayed_slice(replace(image, array=array), 3) / white, 0, 255)
    assert np.abs(whole.image_TSYX[:, 3] - expected).max() <= 0.51
    monkeypatch.setattr(scan, "MOST", 3 * 4 * 10 * 12)
    part = image_slices(image, first=7)
    assert list(part.numbers) == [8, 9, 10]
    np.testing.assert_array_equal(part.image_TSYX, whole.image_TSYX[:, 1:4])
    found, page = content(Viewer(part, "c", total=12))
    assert (found["numbers"], found["total"], found["labels"]) == ([8, 9, 10], 12, [])
    assert "outlines" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)
