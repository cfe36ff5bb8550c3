"""Previews show the frames they name, in one grey scale, with square pixels and labels that fit."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from crnn_cli.errors import UsageError
from crnn_cli.report.montage import Panel, preview_output, require_preview_name

HEIGHT, STRIP, GAP = 220, 14, 2  # a panel as high as a tile is shown pixel by pixel


def frames(t=3, y=HEIGHT, x=110, seed=0):
    """Return noise with a few bright outliers."""
    values = np.random.default_rng(seed).random((t, y, x)).astype(np.float32)
    values[:, 0, : x // 2] = 50
    return values


def pictures(panels, name, spacing=(1.0, 1.0), frame_time=0.03):
    """Return the frames of the preview as arrays, and the opened picture."""
    output = preview_output(panels, spacing, frame_time, Path(name))
    assert output.target == Path(name)
    picture = PIL.Image.open(io.BytesIO(output.content))
    shown = []
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        shown.append(np.array(picture.convert("L")))
    return shown, picture


def title(text, width):
    """Return a strip with a text in it."""
    strip = PIL.Image.new("L", (width, STRIP))
    PIL.ImageDraw.Draw(strip).text((2, 1), text, fill=220)
    return np.array(strip)


def grey(values, white):
    return (255 * np.clip(values / white, 0, 1)).round().astype(np.uint8)


@pytest.mark.parametrize(("t", "chosen"), [(2, (0, 1)), (5, (0, 1, 2, 3, 4)), (9, (0, 2, 4, 6, 8))])
def test_montage_shows_the_frames_it_names_in_the_grey_scale_of_the_first_panel(t, chosen):
    truth, error = frames(t), 0.1 * frames(t, seed=1)
    white = np.percentile(truth, 99.7)
    (shown,), _ = pictures([Panel("truth", truth), Panel("error x 5", error, 5)], "a.PNG")
    assert shown.shape == (2 * (STRIP + HEIGHT), len(chosen) * (110 + GAP) + 55 + GAP)
    for panel, (label, values) in enumerate((("truth", truth), ("error x 5", 5 * error))):
        top = panel * (STRIP + HEIGHT)
        for place, frame in enumerate(chosen):
            tile = shown[top : top + STRIP + HEIGHT, place * (110 + GAP) :][:, : 110 + GAP]
            np.testing.assert_array_equal(tile[STRIP:, :110], grey(values[frame], white))
            np.testing.assert_array_equal(tile[:STRIP, :110], title(f"{label}, frame {frame}", 110))
            assert not tile[:, 110:].any()


def test_profile_is_of_the_column_that_moves_most_and_runs_over_time():
    values = np.zeros((8, HEIGHT, 110), np.float32)
    values[:, :, 20] = 1  # bright, but still
    values[1::2, :30, 50] = 0.3  # moves, a little
    values[4:, :60, 70] = 1
    (shown,), _ = pictures([Panel("", values)], "a.png")
    profile = shown[STRIP:, -55 - GAP : -GAP]
    assert (profile[:55, 30:] > 200).all()
    assert (profile[:55, :25] < 50).all()
    assert (profile[65:] == 0).all()


def test_a_long_scan_gets_a_profile_of_two_pixels_a_frame():
    (shown,), _ = pictures([Panel("", frames(t=80, x=20))], "a.png")
    assert shown.shape[1] == 5 * (20 + GAP) + 160 + GAP


@pytest.mark.parametrize(
    ("shape", "spacing", "size"),
    [
        ((40, 20), (1.0, 1.0), (220, 110)),
        ((40, 20), (2.0, 1.0), (220, 55)),
        ((20, 40), (1.0, 2.0), (55, 220)),
        ((400, 4), (1.0, 1.0), (220, 16)),
        ((4, 400), (1.0, 1.0), (16, 220)),
    ],
)
def test_pixels_are_square_in_millimetres(shape, spacing, size):
    shown, _ = pictures([Panel("", frames(2, *shape))], "a.gif", spacing)
    assert shown[0].shape == (size[0] + STRIP, size[1] + GAP)


def test_pictures_are_enlarged_smoothly():
    values = np.zeros((2, 22, 22), np.float32)
    values[:, 10:12, 10:12] = 1
    (shown, *_), _ = pictures([Panel("", values)], "a.gif")
    assert len(np.unique(shown[STRIP:])) > 10


def test_movie_shows_every_frame_of_every_panel_side_by_side_for_ever():
    one, two = frames(4, x=30), frames(4, x=30, seed=1)
    shown, movie = pictures([Panel("one", one), Panel("two", two)], "a.gif")
    assert len(shown) == 4
    assert movie.info["loop"] == 0
    white = np.percentile(one, 99.7)
    for frame, picture in enumerate(shown):
        np.testing.assert_array_equal(picture[STRIP:, :30], grey(one[frame], white))
        np.testing.assert_array_equal(picture[STRIP:, 30 + GAP :][:, :30], grey(two[frame], white))
        np.testing.assert_array_equal(picture[:STRIP, :30], title("one", 30))
        np.testing.assert_array_equal(picture[:STRIP, 30 + GAP :][:, :30], title("two", 30))


@pytest.mark.parametrize(("frame_time", "milliseconds"), [(0.03, 30), (0.1, 100), (None, 50), (0.004, 20)])
def test_movie_runs_at_the_speed_of_the_heart(frame_time, milliseconds):
    _, movie = pictures([Panel("", frames())], "a.gif", frame_time=frame_time)
    for frame in range(3):
        movie.seek(frame)
        assert movie.info["duration"] == milliseconds


def test_a_label_that_does_not_fit_is_cut_at_its_end():
    label = "fully sampled reference"
    shown, _ = pictures([Panel(label, frames(x=60)), Panel("", frames(x=60))], "a.gif")
    strip = shown[0][:STRIP]
    assert not strip[:, 58:].any()
    kept = [n for n in range(len(label)) if np.array_equal(strip[:, :60], title(label[:n], 60))]
    assert kept
    assert title(label[: kept[-1] + 1], 200)[:, 58:].any()


def test_black_frames_stay_black():
    with np.errstate(all="raise"):
        (shown,), _ = pictures([Panel("", np.zeros((3, HEIGHT, 40), np.float32))], "a.png")
    assert not shown[STRIP:].any()


@pytest.mark.parametrize("name", ["a.jpg", "a", "png", "a.png.nii"])
def test_other_names_are_refused(name):
    for refuse in (require_preview_name, lambda target: preview_output([Panel("", frames())], (1, 1), None, target)):
        with pytest.raises(UsageError, match=r"\.png"):
            refuse(Path(name))


def test_names_may_be_in_capitals():
    for name in ("a.png", "A.PNG", "a.gif", "b.Gif"):
        require_preview_name(Path(name))
