"""Frames that settle each other: parabolas pass unchanged, noise gets smaller, and memory has a limit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from crnn_cli.data.geometry import slice_order
from crnn_cli.data.image import Image
from crnn_cli.segmentation.frames import FrameWindow, frame_window, smooth_over_frames
from crnn_cli.segmentation.preprocessing import SlicePreprocessing
from crnn_cli.segmentation.segment import segment


def beating(frames=30, step=None, part=1.0):
    """A disc that gets smaller and wider again over ``part`` of a cycle: depth in pixels below its edge."""
    y, x, _ = np.mgrid[-20:20, -20:20, 0:3]
    radius = 10 + 4 * np.cos(2 * np.pi * part * np.arange(frames) / frames)
    return Image((radius - np.hypot(x, y)[..., None]).astype(np.float32), np.diag([1.0, 1, 8, 1]), step)


def settled(probabilities_TK, window):
    out = dict(smooth_over_frames(iter(probabilities_TK), window))
    assert sorted(out) == list(range(window.frames))
    return np.stack([out[t] for t in range(window.frames)])


def of_logits(logit_T):
    """Probabilities (T, K, 1) of two classes."""
    p = 1 / (1 + np.exp(-np.asarray(logit_T, float)))
    return np.stack([1 - p, p], axis=1)[..., None].astype(np.float32)


def logit_of(probabilities_TK):
    return np.log(probabilities_TK[:, 1, 0] / probabilities_TK[:, 0, 0])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(0, 30), st.booleans(), st.tuples(*[st.floats(-1, 1)] * 3), st.integers(0, 10**6))
def test_the_fit_is_that_of_savitzky_and_golay(half, more, cyclic, parabola, seed):
    frames = 2 * half + 1 + more
    t = np.linspace(-1, 1, frames)  # logits within 4: probabilities below 0.01 count as 0.01
    logit = np.polyval(parabola, t) + np.random.default_rng(seed).normal(0, 0.3, frames).clip(-1, 1)
    found = logit_of(settled(of_logits(logit), FrameWindow(half, frames, cyclic)))
    expected = savgol_filter(logit, 2 * half + 1, 2, mode="wrap" if cyclic else "interp")
    np.testing.assert_allclose(found, expected, atol=0.02)  # log-probabilities are kept in half precision


def test_a_parabola_keeps_its_peak_and_noise_gets_smaller():
    t = np.arange(30)
    parabola = 2 - 0.01 * (t - 12) ** 2
    found = logit_of(settled(of_logits(parabola), FrameWindow(3, 30, False)))
    np.testing.assert_allclose(found, parabola, atol=0.02)
    noise = np.random.default_rng(0).normal(0, 1, 400)
    smooth = logit_of(settled(of_logits(noise), FrameWindow(3, 400, True)))
    assert smooth.var() / noise.var() == pytest.approx(1 / 3, abs=0.05)


@pytest.mark.parametrize("cyclic", [True, False])
def test_frames_come_once_and_no_more_than_two_windows_are_kept(cyclic):
    window, asked, given_out, most = FrameWindow(3, 200, cyclic), 0, 0, 0

    def frames():
        nonlocal asked, most
        for _ in range(200):
            asked += 1
            most = max(most, asked - given_out)
            yield np.full((2, 1), 0.5, np.float32)

    for _ in smooth_over_frames(frames(), window):
        given_out += 1
    assert (asked, given_out) == (200, 200)
    assert most <= 2 * (2 * 3 + 1)


def test_times_decide_which_frames_settle_each_other():
    window = frame_window(beating(30, 0.03), 80)
    assert (window.half, window.cyclic) == (3, True)
    assert frame_window(beating(100, 0.02), 80).half == 4  # real time, several beats: it is time that counts
    assert frame_window(beating(30), 80).half == 3  # unknown times: a cycle
    assert frame_window(beating(60), 80) is None  # unknown times, too many for a cycle
    assert frame_window(beating(30, 1.0), 80) is None  # a perfusion series
    assert frame_window(beating(30), None) is None
    assert frame_window(beating(8), 80) is None  # a tenth of the cycle is less than a frame
    assert frame_window(Image(np.ones((4, 4, 3)), np.eye(4)), 80) is None


def test_half_a_cycle_is_not_closed():
    assert not frame_window(beating(30, 0.03, 0.5), 80).cyclic


class Flickering:
    """Network whose certainty rises with the depth, but that sees nothing in two of the frames."""

    def __init__(self):
        self.seen = 0

    def label(self, image_SYX, progress=None):
        wrong = self.seen in (5, 24)
        self.seen += 1
        p = torch.zeros_like(image_SYX) if wrong else torch.sigmoid(20 * image_SYX - 10)
        return torch.stack([1 - p, p], dim=1)


def test_a_frame_that_fails_is_mended_by_its_neighbours_and_end_systole_keeps_its_size():
    image = beating(30, 0.03)
    order, recipe, cpu = slice_order(image, 2), SlicePreprocessing(1.0, "window", -10.0, 10.0), torch.device("cpu")
    alone = segment(image, order, Flickering(), recipe, cpu).labels
    together = segment(image, order, Flickering(), recipe, cpu, window=frame_window(image, 80)).labels
    true = (image.array > 0).sum((0, 1, 2))
    assert alone[..., 5].sum() == 0
    error = np.abs(together.sum((0, 1, 2)) / true - 1)
    assert error.max() < 0.45
    assert error[15] < 0.05
