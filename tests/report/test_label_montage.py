"""Outlines lie around the labels in their colours; the rest of the picture is the image, and the words fit."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from crnn_cli.data.image import Image
from crnn_cli.errors import UsageError
from crnn_cli.labels.names import Label
from crnn_cli.labels.statistics import label_statistics
from crnn_cli.report.label_montage import LabelledSlices, outlines_output

NAMES = [Label(1, "cavity", (230, 60, 50)), Label(9, "wall", (60, 200, 90))]
TILE, STRIP, GAP = 220, 14, 2  # a slice as large as a tile is shown pixel by pixel
COLOURS = {label.value: np.array(label.colour) for label in NAMES}


def scene(t=1, s=3, y=TILE, x=TILE, seed=0):
    """Return a noisy image (T, S, Y, X) and an empty label map."""
    rng = np.random.default_rng(seed)
    return rng.normal(100, 20, (t, s, y, x)).astype(np.float32), np.zeros((t, s, y, x), np.uint8)


def pictures(image, labels, name, names=NAMES, caption="", spacing=(1.0, 1.0), frame_time=None, numbers=None):
    """Return the pictures as arrays (rows, columns, 3), and the opened file."""
    voxels = [Image(array.transpose(3, 2, 1, 0), np.diag([*spacing[::-1], 8.0, 1])) for array in (labels, image)]
    slices = LabelledSlices(image, labels, numbers or range(image.shape[1]), spacing, frame_time, "left R, top A")
    output = outlines_output(slices, names, label_statistics(*voxels, names), Path(name), caption)
    assert output.target == Path(name)
    file = PIL.Image.open(io.BytesIO(output.content))
    shown = []
    for index in range(getattr(file, "n_frames", 1)):
        file.seek(index)
        shown.append(np.array(file.convert("RGB")).astype(int))
    return shown, file


def strip(text, fill=255, width=400):
    """Return the ink of a text, without black around it."""
    picture = PIL.Image.new("L", (width, STRIP))
    PIL.ImageDraw.Draw(picture).text((2, 1), text, fill=fill)
    ink = np.array(picture).astype(int)
    return ink[:, 2 : np.flatnonzero(ink.any(axis=0))[-1] + 1]


def finds(picture, text, fill=255):
    """Return whether a text stands in one of the lines on top of a picture; a movie has fewer greys."""
    ink = strip(text, fill)
    count = min(12, len(picture) // STRIP)
    lines = picture[: count * STRIP, :, 0].reshape(count, STRIP, -1)
    windows = np.lib.stride_tricks.sliding_window_view(lines, ink.shape[1], axis=2)
    columns = np.flatnonzero((np.abs(windows[:, 5] - ink[5]).max(axis=-1) <= 1).any(axis=0))
    return any((np.abs(windows[:, :, column] - ink).max(axis=(1, 2)) <= 1).any() for column in columns)


def has_colour(picture, value):
    return (picture == COLOURS[value]).all(axis=-1)


def tiles_of(picture, count, across, lines, size=(TILE, TILE)):
    """Return the tiles of a montage that stands below ``lines`` strips of text."""
    found = []
    for index in range(count):
        top = lines * STRIP + index // across * (size[0] + STRIP) + STRIP
        found.append(picture[top : top + size[0], index % across * (size[1] + GAP) :][:, : size[1]])
    return found


def grey(image):
    low, high = np.percentile(image, (1, 99.5))
    return (255 * np.clip((image - low) / (high - low), 0, 1)).round()


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_only_the_edge_of_a_label_has_its_colour_and_all_else_is_the_image(name):
    image, labels = scene()
    labels[0, :, 20:200, 10:210] = 9
    labels[0, 1, 60:160, 50:150] = 1
    edges = np.zeros(labels.shape, int)
    for top, bottom, left, right in ((20, 199, 10, 209), (60, 159, 50, 149)):
        value, slices = (9, slice(0, 3)) if top == 20 else (1, slice(1, 2))
        for line in ((slice(top, bottom + 1), [left, right]), ([top, bottom], slice(left, right + 1))):
            edges[0, slices, line[0], line[1]] = value
    (shown,), _ = pictures(image, labels, name)
    assert shown.shape == (2 * STRIP + 2 * (TILE + STRIP), 2 * (TILE + GAP), 3)
    for tile, edge, values in zip(tiles_of(shown, 3, 2, 2), edges[0], grey(image)[0], strict=True):
        for value in (1, 9):
            np.testing.assert_array_equal(has_colour(tile, value), edge == value)
        inside = tile[edge == 0]
        tolerance = 0 if name == "a.png" else 1
        assert np.abs(inside - values[edge == 0][:, None]).max() <= tolerance


@pytest.mark.parametrize("inner", [1, 9])
@pytest.mark.parametrize("size", [40, 180])
def test_the_line_between_two_labels_is_drawn_once_in_the_colour_of_the_one_within(inner, size):
    image, labels = scene()
    labels[0, 1, 5:215, 5:215] = 10 - inner
    labels[0, 1, 20 : 20 + size, 20 : 20 + size] = inner
    (shown,), _ = pictures(image, labels, "a.png")
    tile = tiles_of(shown, 3, 2, 2)[1]
    across = np.flatnonzero((has_colour(tile, 1) | has_colour(tile, 9))[30])
    np.testing.assert_array_equal(across, [5, 20, 19 + size, 214])
    np.testing.assert_array_equal(has_colour(tile, inner)[30, across], [False, True, True, False])
    assert has_colour(tile, inner).sum() == 4 * (size - 1)


def test_an_outline_is_one_pixel_wide_after_enlarging_and_closed_at_the_border():
    image, labels = scene(1, 3, 11, 11)
    labels[0, 1, 3:7, 0:5] = 1
    image[:] = 0
    labels[0, 1, 10, 10] = 9
    (shown,), _ = pictures(image, labels, "a.png")
    tile = tiles_of(shown, 3, 2, 2)[1]
    expected = np.zeros((TILE, TILE), bool)
    expected[60:140, :100] = True
    expected[61:139, 1:99] = False
    np.testing.assert_array_equal(has_colour(tile, 1), expected)
    np.testing.assert_array_equal(has_colour(tile, 9)[200:, 200:].sum(axis=0), [20, *[2] * 18, 20])


def test_values_without_a_name_are_not_shown():
    image, labels = scene()
    labels[0, 0, 50:60, 50:60] = 77
    (shown,), _ = pictures(image, labels, "a.png")
    (expected,), _ = pictures(image, 0 * labels, "a.png")
    np.testing.assert_array_equal(shown, expected)


def test_legend_has_the_colour_the_name_and_the_volume_of_each_label():
    image, labels = scene()
    labels[0, 0, 0:200, :] = 1
    (shown,), _ = pictures(image, labels, "a.png")
    assert finds(shown, f"cavity  {200 * 220 * 8 / 1000} ml")
    assert finds(shown, "wall  0 ml")
    legend = shown[STRIP : 2 * STRIP]
    for value in (1, 9):
        assert has_colour(legend, value).sum() == 81


def test_small_volumes_are_not_rounded_to_nothing():
    image, labels = scene(1, 3, 20, 20)
    labels[0, 0, 3:5, 4] = 1
    (shown,), _ = pictures(image, labels, "a.png", spacing=(0.5, 0.5))
    assert finds(shown, "cavity  0.004 ml")


def test_it_is_said_what_is_shown():
    image, labels = scene(3)
    (shown,), _ = pictures(image, labels, "a.png", caption="what is shown", numbers=[7, 8, 90], frame_time=0.03)
    for text in ("what is shown", "left R, top A; not for diagnostic use", "frame 2 of 3, 30 ms, the middle one"):
        assert finds(shown, text), text
    for text in ("slice 7", "slice 8"):
        assert finds(shown, text, fill=220), text


@pytest.mark.parametrize(("labelled", "slices", "chosen"), [
    (range(12), 12, range(12)),
    ([], 12, range(12)),
    ([4], 12, range(12)),
    ([], 23, range(0, 23, 2)),
    ([5, 6, 9], 30, [5, 6, 9]),
    (range(7, 30), 40, range(7, 30, 2)),
])  # fmt: skip
def test_up_to_twelve_slices_are_shown_those_with_labels_first(labelled, slices, chosen):
    image, labels = scene(1, slices, 30, 30)
    labels[0, list(labelled), 2:28, 2:28] = 1
    (shown,), _ = pictures(image, labels, "a.png")
    across = 4 if len(chosen) > 3 else 2
    assert shown.shape[0] == 2 * STRIP + -(-len(chosen) // across) * (TILE + STRIP)
    for place, index in enumerate(chosen):
        top, left = 2 * STRIP + place // across * (TILE + STRIP), place % across * (TILE + GAP)
        np.testing.assert_array_equal(
            shown[top : top + STRIP, left + 2 :, 0][:, : strip(f"slice {index}").shape[1]], strip(f"slice {index}", 220)
        )
        tile = shown[top + STRIP : top + STRIP + TILE, left : left + TILE]
        assert has_colour(tile, 1).any() == (index in labelled)
    assert has_colour(shown, 1).sum() == 81 + sum(
        has_colour(tile, 1).sum() for tile in tiles_of(shown, len(chosen), across, 2)
    )


def test_a_small_labelled_region_is_enlarged_with_its_surroundings_and_that_is_said():
    image, labels = scene(1, 3, 400, 300)
    labels[0, 0, 100:150, 200:240] = 1
    labels[0, 2, 120:160, 190:200] = 9
    (shown,), _ = pictures(image, labels, "a.png")
    assert finds(shown, "left R, top A; cropped to the labels; not for diagnostic use")
    region = labels[0, :, 100 - 21 : 160 + 21, 190 - 21 : 240 + 21]
    size = (220, round(220 * region.shape[2] / region.shape[1]))
    tiles = tiles_of(shown, 3, 2, 2, size)
    for tile, part in zip(tiles, region, strict=True):
        resized = np.array(PIL.Image.fromarray(part).resize(size[::-1], PIL.Image.Resampling.NEAREST))
        for value in (1, 9):
            found, whole = has_colour(tile, value), resized == value
            assert not (found & ~whole).any()
            assert found.any() == whole.any()
            if whole.any():
                rows, columns = np.nonzero(whole)
                assert found[rows.min(), columns.min() : columns.max() + 1].all()
                assert found.sum() == 2 * (np.ptp(rows) + np.ptp(columns))


def test_the_region_stays_where_it_is_while_the_heart_beats():
    image, labels = scene(4, 3, 200, 200)
    for frame in range(4):
        labels[frame, 1, 60 : 80 + 10 * frame, 100:120] = 1
    shown, _ = pictures(image, labels, "a.gif", frame_time=0.04)
    tops = [np.flatnonzero(has_colour(tiles_of(picture, 3, 2, 3)[1], 1).any(axis=1))[0] for picture in shown]
    assert len(set(tops)) == 1


def test_a_movie_shows_every_frame_with_its_volume_and_a_still_the_middle_one():
    image, labels = scene(5)
    for frame in range(5):
        labels[frame, :, 10 : 60 + 30 * frame, 10:210] = 1
    shown, movie = pictures(image, labels, "a.gif", frame_time=0.04)
    assert len(shown) == 5
    assert movie.info["loop"] == 0
    assert movie.info["duration"] == 40
    for frame, picture in enumerate(shown):
        assert finds(picture, f"frame {frame + 1} of 5, {40 * frame} ms")
        assert finds(picture, f"cavity  {3 * (50 + 30 * frame) * 200 * 8 / 1000:.1f} ml")
        for tile in tiles_of(picture, 3, 2, 3):
            assert has_colour(tile, 1).sum() == 2 * (49 + 30 * frame + 199)
    (still,), _ = pictures(image, labels, "a.png", frame_time=0.04)
    np.testing.assert_array_equal(has_colour(still[3 * STRIP :], 1), has_colour(shown[2][3 * STRIP :], 1))
    assert finds(still, "frame 3 of 5, 80 ms, the middle one")


def test_grey_is_one_scale_from_the_darkest_to_the_brightest_but_for_outliers():
    image, labels = scene(2)
    image -= 500
    image[0, 0, 0, :50] = 1e6
    shown, _ = pictures(image, labels, "a.gif")
    for frame, picture in enumerate(shown):
        for tile, values in zip(tiles_of(picture, 3, 2, 3), grey(image)[frame], strict=True):
            assert np.abs(tile[..., 0] - values).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
@pytest.mark.parametrize("shape", [(1, 1, 3, 3), (2, 1, 1, 1), (1, 2, 3, 50), (2, 13, 31, 3), (1, 5, 17, 29)])
@pytest.mark.parametrize("value", [0, 1])
def test_any_shape_will_do(name, shape, value):
    image, labels = scene(*shape)
    labels[..., 0] = value
    with np.errstate(all="raise"):
        shown, _ = pictures(image, labels, name, spacing=(1.3, 0.7), frame_time=0.05)
    for picture in shown:
        assert finds(picture, "not for diagnostic use")
        assert picture.shape[1] >= 300
        assert has_colour(picture[STRIP:], 1).sum() > 81 * value


def test_one_slice_is_shown_large():
    image, labels = scene(1, 1, 220, 110)
    labels[0, 0, 10:210, 10:100] = 1
    (shown,), _ = pictures(image, labels, "a.png")
    assert shown.shape == (3 * STRIP + 440, 300, 3)
    assert has_colour(shown, 1).sum() == 81 + 2 * (399 + 179)


def test_a_picture_without_contrast_or_labels_is_black():
    image, labels = scene()
    with np.errstate(all="raise"):
        (shown,), _ = pictures(np.full_like(image, 3), labels, "a.png", names=[])
    for tile in tiles_of(shown, 3, 2, 1):
        assert not tile.any()


def test_words_that_do_not_fit_go_on_in_the_next_line():
    image, labels = scene(1, 1, 20, 5)
    words = [f"word{number}" for number in range(20)]
    (shown,), _ = pictures(image, labels, "a.png", caption=" ".join([*words, "x" * 90 + "END"]))
    for text in (*words, "xEND", "left R, top A; not for diagnostic use"):
        assert finds(shown, text), text
    assert not shown[:-440, -2:].any()


def test_long_names_are_cut_and_their_volumes_are_not():
    image, labels = scene(1, 1, 20, 5)
    names = [Label(1, "left atrial appendage " * 9, (230, 60, 50)), Label(9, "wall", (60, 200, 90))]
    (shown,), _ = pictures(image, labels, "a.png", names)
    assert shown.shape[1] == 300
    for text in ("left atrial app", "wall  0 ml"):
        assert finds(shown, text), text
    for value in (1, 9):
        assert has_colour(shown, value).sum() == 81
        entry = np.flatnonzero(has_colour(shown, value).any(axis=1))[0] // STRIP * STRIP
        assert finds(shown[entry : entry + STRIP], " 0 ml")
    assert not shown[:-440, -2:].any()


def test_255_labels_are_drawn():
    image, labels = scene(1, 3, 32, 32)
    names = [Label(value, f"label {value}", (value, 255 - value, 17)) for value in range(1, 256)]
    labels[0, 1, ::2, ::2] = np.arange(256).reshape(16, 16)
    for name in ("a.png", "a.gif"):
        (shown,), _ = pictures(image, labels, name, names)
        drawn = shown[-2 * (TILE + STRIP) :]
        assert {label.colour for label in names} <= {
            tuple(colour) for colour in np.unique(drawn.reshape(-1, 3), axis=0)
        }


@pytest.mark.parametrize("name", ["a.jpg", "a", "png"])
def test_other_names_are_refused(name):
    with pytest.raises(UsageError, match=r"\.png"):
        pictures(*scene(), name)
