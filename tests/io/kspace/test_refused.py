"""What is no readable raw k-space, or not what it is called, is refused with the reason; what is right never is."""

import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.errors import UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.formats import is_kspace
from crnn_cli.io.kspace.read import read_raw
from tests.support.data import data_file
from tests.support.kspace import kspace, lines, matlab, write_bart, write_fastmri, write_npy, write_v5, write_v73
from tests.support.remarks import texts

AXES = "slice,coil,t,ky,kx"
SHIFT = (-2, -1)


@pytest.fixture(scope="module")
def full():
    return kspace()


@pytest.fixture(scope="module")
def long():
    """Return a longer series, (1, 8, 20, 48, 40)."""
    return kspace(slices=1, coils=8, frames=20, lines=48, samples=40)


@pytest.mark.parametrize(
    ("axes", "problem"),
    [
        ("coil,t,ky,kx", "names 4 axes"), ("slice,coil,t,ky,q", "'q' is no axis"), ("slice,coil,t,ky,ky", "twice"),
        ("slice,coil,t,kz,kx", "ky is missing"), ("slice,coil,-,ky,kx", "has length 5"), ("", "'' is no axis"),
    ],
)  # fmt: skip
def test_axes_that_do_not_fit_are_wrong_usage(axes, problem, full, tmp_path):
    with pytest.raises(UsageError, match=problem):
        read_raw(write_npy(tmp_path / "k.npy", full), axes)


def test_arrays_that_are_no_kspace(full, tmp_path):
    cases = {
        "no phase": full.real, "not complex": full.real.astype(np.int16),
        r"a\[..., 0\]": full.view(np.float32).reshape(*full.shape, 2),
        r"a\[0\] \+ 1j": np.stack([full.real, full.imag]), "is empty": full[:0], "zero everywhere": 0 * full,
        "NaN": np.where(np.arange(32) == 3, np.nan, full), "too large": full.astype(complex) * 1e200,
    }  # fmt: skip
    for problem, array in cases.items():
        with pytest.raises(UnsupportedDataError, match=problem):
            read_raw(write_npy(tmp_path / "k.npy", array), AXES)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_nothing_is_unpickled(tmp_path):
    array = np.empty(2, object)
    array[:] = [Trap(), Trap()]
    np.save(tmp_path / "k.npy", array, allow_pickle=True)
    with pytest.raises(UnsupportedDataError, match="never unpickled"):
        read_raw(tmp_path / "k.npy", "ky,kx")
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Trap()))
    assert not is_kspace(tmp_path / "p.npy")


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<c8', 'fortran_order': False, 'shape': (100000, 100000, 100000), }",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (-3, 4), }", "{'descr': '<c8'}", "(" * 3000, "\x00\xff",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (3, 4.5), }",
        "{'descr': 'zz', 'fortran_order': False, 'shape': (3, 4), }",
    ],
)  # fmt: skip
def test_absurd_npy_headers(header, tmp_path):
    text = header.encode("latin1")
    place = tmp_path / "k.npy"
    place.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64))
    with pytest.raises(UnreadableError):
        read_raw(place, "ky,kx")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.7, 0.99])
def test_truncated_files(share, full, tmp_path):
    files = [
        write_npy(tmp_path / "k.npy", full), write_bart(tmp_path / "b", full), write_fastmri(tmp_path / "f.h5", full),
        write_v73(tmp_path / "k.mat", kspace_full=matlab(full)),
        write_v5(tmp_path / "v5.mat", kspace_full=matlab(full)),
    ]  # fmt: skip
    for place in files:
        content = place.read_bytes()
        place.write_bytes(content[: int(share * len(content))])
        if share >= 0.01 or place.suffix == ".cfl":
            assert is_kspace(place)
        with pytest.raises(UnreadableError):
            read_raw(place, AXES if place.suffix == ".npy" else None)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("# Dimensions\n4 -4\n", "4 -4"), ("# Dimensions\n4 0\n", "4 0"), ("# Dimensions\n", "no line"),
        ("", "no line"),
        ("# Dimensions\n4 x\n", "whole numbers"), ("# Dimensions\n4 5\n", "160 bytes, the data are 128"),
        ("# Dimensions\n" + "9" * 30 + "\n", "1 or more"), ("# Dimensions\n4 4" + " 1" * 20 + " 2", "dimensions"),
    ],
)  # fmt: skip
def test_bart_headers_that_will_not_do(header, problem, tmp_path):
    (tmp_path / "k.cfl").write_bytes(bytes(8 * 16))
    (tmp_path / "k.hdr").write_text(header)
    with pytest.raises(UnreadableError, match=problem):
        read_raw(tmp_path / "k.cfl")


def test_bart_files_that_are_half_or_of_another_kind(full, tmp_path):
    place = write_bart(tmp_path / "k", full)
    dims = place.with_suffix(".hdr").read_text().replace("32 24 1 4 1 1", "32 24 1 1 2 2")
    place.with_suffix(".hdr").write_text(dims)
    with pytest.raises(UnsupportedDataError, match=r"maps \(dimension 4\) 2, echo \(dimension 5\) 2"):
        read_raw(place)
    with pytest.raises(UsageError, match="only one array"):
        read_raw(place, variable="k")
    place.with_suffix(".hdr").unlink()
    with pytest.raises(UnreadableError, match=r"k\.hdr is missing"):
        read_raw(place)


def test_hdf5_that_claims_more_than_it_can_hold_or_has_no_kspace(full, tmp_path):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file.create_dataset("k", (10**5, 10**5, 10**5), "c8", chunks=(1, 100, 100))
    with pytest.raises(UnreadableError, match="damaged"):
        read_raw(tmp_path / "k.h5", "slice,ky,kx")
    for name, array in {"r.h5": full.real, "s.h5": np.stack([full.real, full.imag], -1)}.items():
        with h5py.File(tmp_path / name, "w") as file:
            file["kspace"] = array
        with pytest.raises(UnsupportedDataError, match="no complex array"):
            read_raw(tmp_path / name, AXES)
        with pytest.raises(UnsupportedDataError, match=r"no phase|real and imaginary"):
            read_raw(tmp_path / name, AXES, "kspace")
    with h5py.File(write_fastmri(tmp_path / "f.h5", full), "a") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = "<a>"
    with pytest.raises(UnreadableError, match="ismrmrd_header"):
        read_raw(tmp_path / "f.h5")
    with pytest.raises(UnsupportedDataError, match="40 samples"):
        read_raw(write_fastmri(tmp_path / "f.h5", full, kx=40))


def test_matlab_files_of_several_or_no_arrays(full, tmp_path):
    place = write_v5(tmp_path / "k.mat", a=matlab(full), b=matlab(full), c="text", d={"e": 1})
    with pytest.raises(UnsupportedDataError, match="variable"):
        read_raw(place, "kx,ky,coil,slice,t")
    assert any("whole" in str(note) for note in read_raw(place, "kx,ky,coil,slice,t", "b").remarks)
    for name, problem in {"c": "c is no array|not complex|empty", "d": "no phase|not complex|no array|objects"}.items():
        with pytest.raises(UnsupportedDataError, match=problem):
            read_raw(place, "ky,kx", name)
    with pytest.raises(UsageError, match="no variable 'x'"):
        read_raw(place, None, "x")
    with pytest.raises(UnsupportedDataError, match="no complex array"):
        read_raw(write_v5(tmp_path / "r.mat", a=np.ones((4, 4))))


def test_a_frame_or_coil_that_was_not_measured(full, tmp_path):
    k = full.copy()
    k[:, 1] = 0
    scan = read_raw(write_npy(tmp_path / "k.npy", k), AXES)
    assert any("number 1 " in note for note in texts(scan.remarks))
    np.testing.assert_array_equal(scan.read(0).kspace_CTYX, k[0])
    k[2, :, 3] = 0
    scan = read_raw(write_npy(tmp_path / "k.npy", k), AXES)
    with pytest.raises(UnsupportedDataError, match=r"slice 3: 1 of 5 frames .* frame 4: .* drop_empty"):
        scan.read(2)
    k[1] = 0
    assert not read_raw(write_npy(tmp_path / "k.npy", k), AXES).read(1).mask_TYX.any()


@pytest.mark.parametrize("shift", [(-2, -1), (-2,), (-1,)])
def test_uncentred_kspace_is_refused(shift, full, tmp_path):
    for k in (full, full * lines()[:, :, None]):
        with pytest.raises(UnsupportedDataError, match="plain FFT"):
            read_raw(write_npy(tmp_path / "k.npy", np.fft.ifftshift(k, shift)), AXES)
    with pytest.raises(UnsupportedDataError, match="at index"):
        read_raw(write_npy(tmp_path / "k.npy", np.roll(full, -8, -1)), AXES)


@pytest.mark.parametrize(
    "wrong", ["slice,coil,ky,t,kx", "slice,ky,t,coil,kx", "slice,coil,kx,ky,t", "slice,kx,t,ky,coil"]
)
@pytest.mark.parametrize("snr", [np.inf, 5])
def test_axes_that_the_energy_contradicts_are_refused(wrong, snr, long, tmp_path):
    rng = np.random.default_rng(0)
    sparse = long * lines(20, 48)[:, :, None]
    noise = rng.normal(size=(2, *long.shape)) * np.sqrt((np.abs(long) ** 2).mean() / 2) / 5
    for k in (long, sparse) if snr == np.inf else (long + noise[0] + 1j * noise[1],):
        with pytest.raises(UnsupportedDataError, match=r"taken as .* axes"):
            read_raw(write_npy(tmp_path / "k.npy", k), wrong)


def test_images_and_noise_are_no_kspace(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 4, 5, 64, 64))
    with pytest.raises(UnsupportedDataError, match="kx 7 is too short"):
        read_raw(write_npy(tmp_path / "k.npy", noise[0, ..., :7] * 1j), "coil,t,ky,kx")
    with pytest.raises(UnsupportedDataError, match="the same everywhere"):
        read_raw(write_npy(tmp_path / "k.npy", noise[0] + 1j * noise[1]), "coil,t,ky,kx")


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([(1, 12, 16), (8, 15, 17), (12, 24, 32)]), st.integers(0, 5), st.sampled_from([np.inf, 20, 4]),
    st.sampled_from(["full", "random", "every fourth", "centre out"]), st.integers(0, 99),
)  # fmt: skip
def test_no_false_alarms(tmp_path_factory, size, frames, snr, pattern, seed):
    coils, n, samples = size
    k = kspace(1, coils, 6, n, samples, snr)[:, :, : frames + 1]
    at = np.arange(n)
    mask = {
        "full": np.ones((frames + 1, n), bool), "random": lines(frames + 1, n, seed, 0.2),
        "every fourth": (at + np.arange(frames + 1)[:, None]) % 4 == seed % 4,
        "centre out": np.broadcast_to(abs(at - n // 2) < max(3, n // 5), (frames + 1, n)),
    }[pattern]  # fmt: skip
    place = write_npy(tmp_path_factory.mktemp("k") / "k.npy", k * mask[:, :, None])
    np.testing.assert_array_equal(read_raw(place, AXES).read(0).mask_TYX[..., 0], mask)


def test_the_real_files():
    scan = read_raw(data_file("kspace", "cartesian_ksp.npy"), "coil,ky,kx")
    assert (scan.shape_ZCTYX, scan.format) == ((1, 8, 1, 230, 180), "NumPy")
    stored = np.load(data_file("kspace", "cartesian_ksp.npy"))
    np.testing.assert_array_equal(scan.read(0).kspace_CTYX[:, 0], stored)
    assert 8.0 < 1 / scan.read(0).mask_TYX.mean() < 8.1
    scan = read_raw(data_file("kspace", "ksp.hdr"))
    assert (scan.shape_ZCTYX, scan.format, scan.stored) == ((1, 8, 1, 230, 180), "BART", "kx 180, ky 230, coil 8")


def test_the_real_3d_scan():
    place = data_file("kspace", "hp13c_lactate_prospective.mat")
    scan = read_raw(place, "kx,ky,kz,t")
    assert (scan.shape_ZCTYX, scan.axes_ZYX, scan.geometry.shape) == ((80, 1, 13, 40, 12), (0, 1, 2), (80, 40, 12, 13))
    stored = scipy.io.loadmat(place)["kspace"]
    np.testing.assert_array_equal(scan.read(40).mask_TYX, stored.any(axis=0).transpose(2, 0, 1))
    assert 3.9 < 1 / scan.read(0).mask_TYX.mean() < 4.1
    energy = sum((np.abs(scan.read(z).kspace_CTYX) ** 2).sum() for z in range(80))
    assert energy == pytest.approx((np.abs(stored) ** 2).sum(), rel=1e-4)
    with pytest.raises(UnsupportedDataError, match="axes"):
        read_raw(place)
    for wrong in ("kx,ky,t,kz", "kx,t,kz,ky", "t,kx,ky,kz", "kz,ky,kx,t"):
        with pytest.raises(UnsupportedDataError):
            read_raw(place, wrong)


CRASHES = """
import sys
from contextlib import suppress
from pathlib import Path
import numpy as np
from crnn_cli.errors import UnreadableError
from crnn_cli.io.kspace.read import read_raw
place = Path(sys.argv[1])
whole = place.read_bytes()
for trial in (427, 989, 1591, *range(60)):
    rng = np.random.default_rng(trial)
    damaged = bytearray(whole)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(128, len(whole))) if trial % 2 else int(rng.integers(128, 400))
        n = int(rng.integers(1, 9))
        damaged[at : at + n] = rng.bytes(n)
    place.write_bytes(damaged)
    with suppress(UnreadableError):
        read_raw(place)
        assert False, trial
"""


def test_damaged_variables_of_matlab_are_no_crash(full, tmp_path):
    """The checksum of a compressed variable is compared before the parser sees it, which can end the process."""
    place = write_v5(tmp_path / "k.mat", kspace_full=matlab(full))
    ended = subprocess.run([sys.executable, "-c", CRASHES, str(place)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-500:]


def test_samples_of_bart_in_the_wrong_byte_order_are_named(full, tmp_path):
    place = write_bart(tmp_path / "k", full[:, :, :1])
    little = np.fromfile(place, "<c8")
    for factor in (1e-30, 1, 1e30):
        (factor * little).astype("<c8").tofile(place)
        assert read_raw(place).shape_ZCTYX == full[:, :, :1].shape
        (factor * little).astype(">c8").tofile(place)
        with pytest.raises(UnsupportedDataError, match="big-endian order"):
            read_raw(place)
