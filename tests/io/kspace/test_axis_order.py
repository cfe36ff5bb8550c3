"""Orders of axes that are proposed are right, in whatever order an array is stored; an exchange is doubted."""

from itertools import permutations

import numpy as np
import pytest

from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.kspace.read import read_raw
from tests.support.cines import moving_cine, to_kspace

COILS, FRAMES, LINES, SAMPLES = 4, 6, 32, 40


def cine(sparse=False, coils=COILS):
    """Return k-space (coil, t, ky, kx) of a moving object, seen by coils with phases of their own."""
    images_TYX = moving_cine(SAMPLES, LINES, 1, FRAMES)[:, :, 0].transpose(2, 1, 0)
    y, x = np.mgrid[:LINES, :SAMPLES] / LINES - 0.5
    angles = 2 * np.pi * np.arange(coils) / COILS
    maps_CYX = [np.exp(2j * a - (x - np.cos(a)) ** 2 - (y - np.sin(a)) ** 2 + 2j * (x * a - y)) for a in angles]
    k_CTYX = to_kspace((np.array(maps_CYX)[:, None] * images_TYX).transpose(3, 2, 0, 1)).transpose(2, 3, 1, 0)
    if sparse:
        lines = (np.arange(LINES) + np.arange(FRAMES)[:, None]) % 4 == 0
        k_CTYX = k_CTYX * (lines | (abs(np.arange(LINES) - LINES // 2) < 5))[:, :, None]
    return k_CTYX.astype(np.complex64)


def proposed(path, array):
    np.save(path, array)
    with pytest.raises(UnsupportedDataError) as caught:
        read_raw(path)
    return str(caught.value).partition("by the values perhaps axes='")[2].partition("'")[0]


@pytest.mark.parametrize(
    ("array", "names"),
    [
        (cine(), "coil,t,ky,kx"), (cine(sparse=True), "coil,t,ky,kx"), (cine(coils=1), "-,t,ky,kx"),
        (cine()[:, 0], "coil,ky,kx"), (cine()[0], "t,ky,kx"),
    ],
    ids=["full", "sparse", "one coil", "static", "without coils"],
)  # fmt: skip
def test_a_likely_order_is_proposed_for_any_stored_order(tmp_path, array, names):
    names = names.split(",")
    for order in permutations(range(array.ndim)):
        wanted = [names[axis] for axis in order]
        said = proposed(tmp_path / "k.npy", array.transpose(order)).split(",")
        assert ["k" if name[0] == "k" else name for name in said] == ["k" if n[0] == "k" else n for n in wanted]
        assert [name for name in said if name[0] == "k"] == ["ky", "kx"]


def test_coils_and_frames_that_were_exchanged_are_a_doubt(tmp_path):
    np.save(tmp_path / "k.npy", cine())
    codes = {axes: [each.code for each in read_raw(tmp_path / "k.npy", axes).remarks]
             for axes in ("coil,t,ky,kx", "t,coil,ky,kx")}  # fmt: skip
    assert "axes-exchanged" in codes["t,coil,ky,kx"]
    assert "axes-exchanged" not in codes["coil,t,ky,kx"]
