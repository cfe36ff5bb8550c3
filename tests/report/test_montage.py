"""Previews show the frames they name, in one grey scale, with square pixels; no word is cut."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest

from crnn_cli.errors import UsageError
from crnn_cli.report.montage import Panel, preview_output, require_preview_name

HEIGHT, STRIP, POINTER, GAP = 220, 14, 5, 2  # a panel as high as a tile is shown pixel by pixel


def frames(t=3, y=HEIGHT, x=110, seed=0):
    """Return noise with a few bright outliers."""
    values = np.random.default_rng(seed).random((t, y, x)).astype(np.float32)
    values[:, 0, : x // 2] = 50
    return values


def pictures(panels, name, spacing=(1.0, 1.0), frame_time=0.03, caption=""):
    """Return the frames of the preview as arrays, and the opened picture."""
    output = preview_output(panels, spacing, frame_time, Path(name), caption)
    assert output.target == Path(name)
    picture = PIL.Image.open(io.BytesIO(output.content))
    shown = []
    for index in range(getattr(picture, "n_frames", 1)):
        picture.seek(index)
        shown.append(np.array(picture.convert("L")))
    return shown, picture


def title(text, width, fill=220):
    """Return a strip with a text in it."""
    strip = PIL.Image.new("L", (width, STRIP))
    PIL.ImageDraw.Draw(strip).text((2, 1), text, fill=fill)
    return np.array(strip)


def grey(values, white):
    return (255 * np.clip(values / white, 0, 1)).round().astype(np.uint8)


@pytest.mark.parametrize(("t", "chosen"), [(2, (0, 1)), (5, (0, 1, 2, 3, 4)), (9, (0, 2, 4, 6, 8))])
def test_montage_shows_the_frames_it_names_in_the_grey_scale_of_the_first_panel(t, chosen):
    truth, error = frames(t, x=220), 0.1 * frames(t, x=220, seed=1)
    white = np.percentile(truth, 99.7)
    (shown,), _ = pictures([Panel("truth", truth), Panel("error x 5", error, 5)], "a.PNG")
    above = STRIP + POINTER
    assert shown.shape == (2 * (above + HEIGHT), len(chosen) * (220 + GAP) + 110 + GAP)
    for panel, (label, values) in enumerate((("truth", truth), ("error x 5", 5 * error))):
        top = panel * (above + HEIGHT)
        for place, frame in enumerate(chosen):
            tile = shown[top : top + above + HEIGHT, place * (220 + GAP) :][:, : 220 + GAP]
            np.testing.assert_array_equal(tile[above:, :220], grey(values[frame], white))
            np.testing.assert_array_equal(tile[:STRIP, :220], title(f"{label}, frame {frame + 1}", 220))
            assert not tile[above:, 220:].any()


def test_profile_is_of_the_column_that_moves_most_and_runs_over_time():
    values = np.zeros((8, HEIGHT, 110), np.float32)
    values[:, :, 20] = 1  # bright, but still
    values[1::2, :30, 50] = 0.3  # moves, a little
    values[4:, :60, 70] = 1
    (shown,), _ = pictures([Panel("", values)], "a.png")
    profile = shown[-HEIGHT:, -55 - GAP : -GAP]
    assert (profile[:55, 30:] > 200).all()
    assert (profile[:55, :25] < 50).all()
    assert (profile[65:] == 0).all()


def test_a_triangle_above_every_frame_points_at_the_column_of_the_profile():
    values = np.zeros((2, HEIGHT // 2, 110), np.float32)
    values[1, :, 63] = 1
    (shown,), _ = pictures([Panel("", values)], "a.png")
    above = shown[-HEIGHT - POINTER : -HEIGHT]
    for left in (0, 220 + GAP):
        pointed = np.flatnonzero(above[-1, left : left + 220])
        assert pointed == [2 * 63 + 1]
        assert (np.diff(np.count_nonzero(above[:, left : left + 220], axis=1)) == -2).all()
    assert not above[:, 2 * (220 + GAP) :].any()


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
    assert shown[0].shape[1] == size[1] + GAP
    assert (shown[0].shape[0] - size[0]) % STRIP == 0


def test_pictures_are_enlarged_smoothly():
    values = np.zeros((2, 22, 22), np.float32)
    values[:, 10:12, 10:12] = 1
    (shown, *_), _ = pictures([Panel("", values)], "a.gif")
    assert len(np.unique(shown[-220:])) > 10


def test_movie_shows_every_frame_of_every_panel_side_by_side_for_ever():
    one, two = frames(4), frames(4, seed=1)
    shown, movie = pictures([Panel("one", one), Panel("two", two)], "a.gif")
    assert len(shown) == 4
    assert movie.info["loop"] == 0
    white = np.percentile(one, 99.7)
    for frame, picture in enumerate(shown):
        np.testing.assert_array_equal(picture[:STRIP], title(f"frame {frame + 1} of 4, {30 * frame} ms", 224, 255))
        np.testing.assert_array_equal(picture[2 * STRIP :, :110], grey(one[frame], white))
        np.testing.assert_array_equal(picture[2 * STRIP :, 110 + GAP :][:, :110], grey(two[frame], white))
        np.testing.assert_array_equal(picture[STRIP : 2 * STRIP, :110], title("one", 110))
        np.testing.assert_array_equal(picture[STRIP : 2 * STRIP, 110 + GAP :][:, :110], title("two", 110))


def test_a_movie_without_a_frame_time_counts_frames_only():
    shown, _ = pictures([Panel("", frames())], "a.gif", frame_time=None)
    np.testing.assert_array_equal(shown[2][:STRIP], title("frame 3 of 3", 112, 255))


@pytest.mark.parametrize(("frame_time", "milliseconds"), [(0.03, 30), (0.1, 100), (None, 50), (0.004, 20)])
def test_movie_runs_at_the_speed_of_the_heart(frame_time, milliseconds):
    _, movie = pictures([Panel("", frames())], "a.gif", frame_time=frame_time)
    for frame in range(3):
        movie.seek(frame)
        assert movie.info["duration"] == milliseconds


def lines_of(strip, text, fill=220):
    """Return the lines in which a text stands in a strip, read word by word."""
    words, lines = text.split(), []
    for top in range(0, len(strip), STRIP):
        here = strip[top : top + STRIP]
        count = next((n for n in range(1, len(words) + 1)
                      if np.array_equal(here, title(" ".join(words[:n]), here.shape[1], fill))), 0)  # fmt: skip
        lines.append(" ".join(words[:count]))
        words = words[count:]
    return lines if not words else None


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_words_that_do_not_fit_go_on_in_the_next_line(name):
    label, caption = "fully sampled reference", "slice 1 of 1, not for diagnostic use, left R, top A"
    panels = [Panel(label, frames(1, x=70)), Panel("", frames(1, x=70))]
    (shown,), _ = pictures(panels, name, caption=caption)
    assert shown.shape[1] == ((70 + GAP) * (2 if name == "a.gif" else 1))
    assert np.flatnonzero(shown[:STRIP].any(axis=0))[-1] < shown.shape[1] - 2
    count = next(n for n in range(1, 9) if lines_of(shown[: n * STRIP], caption, 255))
    assert count > 1
    full = label if name == "a.gif" else f"{label}, frame 1"
    titles = shown[count * STRIP :, : 70 + GAP]
    broken = next(found for n in range(1, 9) if (found := lines_of(titles[: n * STRIP], full)))
    assert len(broken) > 1


def test_black_frames_stay_black():
    with np.errstate(all="raise"):
        (shown,), _ = pictures([Panel("", np.zeros((3, HEIGHT, 40), np.float32))], "a.png")
    assert not shown[-HEIGHT:].any()


@pytest.mark.parametrize("name", ["a.jpg", "a", "png", "a.png.nii"])
def test_other_names_are_refused(name):
    for refuse in (require_preview_name, lambda target: preview_output([Panel("", frames())], (1, 1), None, target)):
        with pytest.raises(UsageError, match=r"\.png"):
            refuse(Path(name))


def test_names_may_be_in_capitals():
    for name in ("a.png", "A.PNG", "a.gif", "b.Gif"):
        require_preview_name(Path(name))
