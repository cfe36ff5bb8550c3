"""The picture of several methods shows the heart, large enough to see, however many methods there are."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.report.comparison_montage import GAIN, MethodFrames, comparison_output
from crnn_cli.report.crop import moving_region, region_around
from tests.report.test_montage import GAP, HEIGHT, POINTER, STRIP, grey, lines_of, title


def beating(rows=80, columns=100, centre=(30, 60), frames=8, radius=7.0):
    """Return a still body with a disc that grows and shrinks, and a faint shimmer everywhere."""
    y, x = np.mgrid[:rows, :columns]
    distance = np.hypot(y - centre[0], x - centre[1])
    radii = radius * (1 + 0.4 * np.cos(2 * np.pi * np.arange(frames) / frames))
    noise = np.random.default_rng(0).normal(0, 0.01, (frames, rows, columns))
    return (0.4 + (distance < radii[:, None, None]) + noise).astype(np.float32)


def drawn(methods, name="p.png", spacing=(1.0, 1.0), frame_time=0.03):
    file = PIL.Image.open(io.BytesIO(comparison_output(methods, spacing, frame_time, Path(name), "caption").content))
    pictures = []
    for index in range(getattr(file, "n_frames", 1)):
        file.seek(index)
        pictures.append(np.array(file.convert("L")))
    return pictures


def compared(truth, count):
    rng = np.random.default_rng(1)
    others = [truth + rng.normal(0, 0.1, truth.shape).astype(np.float32) for _ in range(count)]
    named = [MethodFrames(f"m{n}", each, "truth", np.abs(each - truth)) for n, each in enumerate(others)]
    return [MethodFrames("truth", truth), *named]


@given(st.integers(15, 65), st.integers(15, 85), st.sampled_from([(1.0, 1.0), (2.0, 1.0), (0.8, 1.3)]))
@settings(max_examples=25, deadline=None)
def test_the_crop_holds_all_that_beats_with_a_margin_and_little_else(y, x, spacing):
    rows, columns = moving_region(beating(centre=(y, x)), spacing)
    reach = 7 * 1.4
    assert rows.start <= max(0, y - reach)
    assert rows.stop >= min(80, y + reach)
    assert columns.start <= max(0, x - reach)
    assert columns.stop >= min(100, x + reach)
    assert (rows.stop - rows.start) * (columns.stop - columns.start) <= 0.6 * 80 * 100


def test_all_is_shown_where_nothing_or_everything_moves():
    still = np.ones((4, 40, 40), np.float32)
    assert moving_region(still, (1, 1)) is None
    assert moving_region(still[:1], (1, 1)) is None
    assert moving_region(np.random.default_rng(0).random((4, 40, 40)), (1, 1)) is None
    assert region_around(np.zeros((9, 9), bool), (1, 1)) is None


@pytest.mark.parametrize("count", [1, 5, 9])
def test_a_montage_is_never_taller_than_a_screen_and_says_that_it_is_cropped(count):
    (shown,) = drawn(compared(beating(), count))
    assert shown.shape[0] <= 1200 + (count + 2) * (2 * STRIP + POINTER)
    np.testing.assert_array_equal(shown[:STRIP], title("caption; cropped to what moves", shown.shape[1], 255))


def test_each_row_is_a_method_with_its_differences_beside_the_frames():
    truth = np.random.default_rng(0).random((3, HEIGHT, HEIGHT)).astype(np.float32)
    truth[1] *= 2
    methods = compared(truth, 1)
    (shown,) = drawn(methods)
    white = np.percentile(truth, 99.7)
    height = STRIP + POINTER + HEIGHT
    for row, method in enumerate(methods):
        strip = shown[STRIP + row * height :][:height]
        for place, frame in ((0, 0), (2, 1)):
            tile = strip[:, place * (HEIGHT + GAP) :][:, :HEIGHT]
            assert lines_of(tile[:STRIP], f"{method.label}, frame {frame + 1}")
            np.testing.assert_array_equal(tile[-HEIGHT:], grey(method.frames_TYX[frame], white))
            beside = strip[-HEIGHT:, (place + 1) * (HEIGHT + GAP) :][:, :HEIGHT]
            expected = np.zeros_like(beside) if row == 0 else grey(GAIN * method.difference_TYX[frame], white)
            np.testing.assert_array_equal(beside, expected)


def test_a_movie_has_every_frame_and_its_time_and_differences_below():
    truth = np.random.default_rng(0).random((3, 60, 40)).astype(np.float32)
    shown = drawn(compared(truth, 2), "p.gif")
    assert len(shown) == 3
    for frame, picture in enumerate(shown):
        width = picture.shape[1]
        np.testing.assert_array_equal(
            picture[STRIP : 2 * STRIP], title(f"frame {frame + 1} of 3, {30 * frame} ms", width, 255)
        )
        half = (picture.shape[0] - 2 * STRIP) // 2
        assert not picture[2 * STRIP + half + STRIP :, : width // 3 - GAP].any()  # the truth has no difference
        assert picture[2 * STRIP + half + STRIP :, width // 3 : -GAP].any()
