"""The picture of sensitivities numbers the coils, and shows phase as a circle of colours that everybody can follow."""

import io
from pathlib import Path

import numpy as np
import PIL.Image
from hypothesis import given
from hypothesis import strategies as st

from crnn_cli.report.coil_montage import maps_output, phase_colours
from tests.report.test_montage import GAP, STRIP, title
from tests.support.colour_vision import VISIONS, seen

ANGLES = st.floats(-np.pi, np.pi)


def picture(maps):
    output = maps_output(np.asarray(maps, np.complex64), Path("maps.png"))
    return np.array(PIL.Image.open(io.BytesIO(output.content)))


@given(ANGLES, st.integers(-2, 2))
def test_a_full_turn_changes_no_colour_and_a_small_one_little(angle, turns):
    here = phase_colours(np.array([angle])).astype(int)
    assert np.abs(phase_colours(np.array([angle + 2 * np.pi * turns])) - here).max() <= 1
    assert np.abs(phase_colours(np.array([angle + 0.05])) - here).max() <= 12


@given(ANGLES)
def test_opposite_phases_and_quarter_turns_look_different_to_every_eye(angle):
    colours = phase_colours(angle + np.pi / 2 * np.arange(4))
    for vision in VISIONS:
        lab = seen(colours, vision)
        assert min(np.linalg.norm(lab[i] - lab[j]) for i in range(4) for j in range(i)) > 15, vision


def test_every_coil_has_its_number_its_magnitude_and_its_phase():
    maps = np.full((3, 5, 22, 11), 0.5, complex)
    maps[1] *= np.exp(1j * np.arange(5))[:, None, None]
    maps[1, 4, :11] = 0.001
    shown = picture(maps)
    across, (height, width) = 4, (440, 110)  # of a coil, magnitude above phase
    top = shown.shape[0] - 2 * (STRIP + height)
    for coil in range(5):
        row, left = top + coil // across * (STRIP + height), coil % across * (width + GAP)
        np.testing.assert_array_equal(
            shown[row : row + STRIP, left : left + width, 1], title(f"coil {coil + 1}", width)
        )
        tile = shown[row + STRIP : row + STRIP + height, left : left + width]
        assert np.isin(tile[130:220], (127, 128)).all()  # the lower half of the magnitude
        assert (tile[330:] == phase_colours(np.array(float(coil)))).all()
    assert not tile[220:330].any()  # where the last coil sees nothing
    assert not shown[top + STRIP + height + STRIP :, width + GAP :].any()


def test_an_array_is_written_as_it_is():
    maps = (np.arange(24) * 1j).reshape(1, 2, 3, 4).astype(np.complex64)
    output = maps_output(maps, Path("maps.npy"))
    np.testing.assert_array_equal(np.load(io.BytesIO(output.content)), maps)
