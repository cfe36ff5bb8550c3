"""Sensitivities from files of each format; what is none is refused in words, damaged headers included."""

import h5py
import numpy as np
import pytest

from crnn_cli.errors import CrnnError, UnreadableError, UnsupportedDataError
from crnn_cli.io.kspace.coil_maps import read_maps
from tests.support.cfl import write_cfl
from tests.support.kspace import write_v5, write_v73

RNG = np.random.default_rng(0)
MAPS = (RNG.normal(size=(2, 3, 5, 7)) + 1j * RNG.normal(size=(2, 3, 5, 7))).astype(np.complex64)


def bart(path):
    stored = np.zeros((7, 5, 1, 3, *(1,) * 9, 2), np.complex64)
    stored[:, :, 0, :, 0, 0, 0, 0, 0, 0, 0, 0, 0] = MAPS.transpose(3, 2, 1, 0)
    write_cfl(path, stored)
    return path


def hdf5(path):
    with h5py.File(path, "w") as file:
        file["maps"] = MAPS
    return path


WRITERS = {
    "m.npy": lambda path: np.save(path, MAPS.astype(complex)) or path, "m": bart,
    "m.cfl": lambda path: bart(path.with_suffix("")) and path, "v5.mat": lambda path: write_v5(path, maps=MAPS.T),
    "v73.mat": lambda path: write_v73(path, maps=MAPS.T), "m.h5": hdf5,
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_each_format_gives_back_the_sensitivities(tmp_path, name):
    np.testing.assert_array_equal(read_maps(WRITERS[name](tmp_path / name)), MAPS)


def test_one_slice_may_have_no_axis(tmp_path):
    np.save(tmp_path / "m.npy", MAPS[0])
    np.testing.assert_array_equal(read_maps(tmp_path / "m.npy"), MAPS[:1])


def test_what_is_no_sensitivities_is_refused_in_words(tmp_path):
    np.save(tmp_path / "real.npy", MAPS.real)
    np.save(tmp_path / "flat.npy", MAPS[0, 0])
    np.save(tmp_path / "nan.npy", MAPS * np.nan)
    (tmp_path / "text.txt").write_text("hello")
    write_v5(tmp_path / "two.mat", a=MAPS, b=MAPS)
    cases = {
        "real.npy": (UnsupportedDataError, "is real"), "flat.npy": (UnsupportedDataError, "coil, y, x"),
        "nan.npy": (UnsupportedDataError, "NaN"), "text.txt": (UnreadableError, "complex array"),
        "two.mat": (UnsupportedDataError, "several complex arrays"), "absent.npy": (UnreadableError, "does not exist"),
    }  # fmt: skip
    for name, (kind, words) in cases.items():
        with pytest.raises(kind, match=words):
            read_maps(tmp_path / name)


def test_damaged_headers_are_no_traceback(tmp_path):
    np.save(tmp_path / "m.npy", MAPS)
    whole = (tmp_path / "m.npy").read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for trial in range(60):
        damaged = bytearray(whole)
        at = int(rng.integers(6, 120))
        damaged[at : at + 4] = rng.bytes(4)
        (tmp_path / f"{trial}.npy").write_bytes(damaged)
        try:
            read_maps(tmp_path / f"{trial}.npy")
        except CrnnError:
            refused += 1
    assert refused > 30
