"""Readers of raw k-space: known truth written in each format comes back, lazily, with its axes in place."""

import shutil
import subprocess

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.data.raw_scan import place_images
from crnn_cli.errors import UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.formats import is_kspace
from crnn_cli.io.kspace.read import read_raw
from tests.support.data import data_file
from tests.support.kspace import (
    compound,
    kspace,
    lines,
    matlab,
    write_bart,
    write_fastmri,
    write_ismrmrd,
    write_npy,
    write_v5,
    write_v73,
)  # fmt: skip
from tests.support.remarks import texts

AXES = "slice,coil,t,ky,kx"
BY_MATLAB = "kx,ky,coil,slice,t"


@pytest.fixture(scope="module")
def full():
    return kspace()


@pytest.fixture(scope="module")
def sparse(full):
    return full * lines()[:, :, None]


FORMATS = {
    "npy": (lambda p, k: write_npy(p / "k.npy", k), AXES, "NumPy"),
    "npy in Fortran order": (lambda p, k: write_npy(p / "k.npy", np.asfortranarray(k)), AXES, "NumPy"),
    "npy, double": (lambda p, k: write_npy(p / "k.npy", k.astype(complex)), AXES, "NumPy"),
    "npy, permuted": (lambda p, k: write_npy(p / "k.npy", k.transpose(4, 1, 0, 3, 2)), "kx,coil,slice,ky,t", "NumPy"),
    "bart": (lambda p, k: write_bart(p / "k", k), None, "BART"),
    "cmrxrecon": (lambda p, k: write_v73(p / "k.mat", kspace_sub04=matlab(k)), None, "CMRxRecon"),
    "cmrxrecon, kus": (lambda p, k: write_v73(p / "k.mat", kus=matlab(k)), None, "CMRxRecon"),
    "cmrxrecon in version 5": (lambda p, k: write_v5(p / "k.mat", kspace_full=matlab(k)), None, "MATLAB"),
    "matlab 7.3": (lambda p, k: write_v73(p / "k.mat", data=matlab(k)), BY_MATLAB, "MATLAB"),
    "matlab 5": (lambda p, k: write_v5(p / "k.mat", data=matlab(k), n=np.ones((3, 4))), BY_MATLAB, "MATLAB"),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_gives_back_the_truth(kind, sparse, tmp_path):
    write, axes, name = FORMATS[kind]
    place = write(tmp_path, sparse)
    assert is_kspace(place)
    scan = read_raw(place, axes)
    assert (scan.format, scan.shape_ZCTYX, scan.axes_ZYX) == (name, sparse.shape, (2, 1, 0))
    assert scan.geometry.shape == (32, 24, 3, 5)
    assert any("1 mm" in note for note in texts(scan.remarks))
    for part in ("slice 3", "coil 4", "t 5", "ky 24", "kx 32"):
        assert part in scan.stored
    for z in range(3):
        read = scan.read(z)
        assert read.kspace_CTYX.dtype == np.complex64
        np.testing.assert_array_equal(read.kspace_CTYX, sparse[z])
        np.testing.assert_array_equal(read.mask_TYX, lines()[:, :, None])
        assert read.calibration_CYX is None


@settings(max_examples=25, deadline=None)
@given(st.permutations(["slice", "coil", "t", "ky", "kx"]), st.sets(st.sampled_from(["slice", "coil", "t"])))
def test_any_order_of_axes_and_any_left_out(tmp_path_factory, sparse, order, alone):
    k = sparse[tuple(slice(0, 1) if n in alone else slice(None) for n in AXES.split(","))]
    stored = k.transpose([AXES.split(",").index(n) for n in order])
    place = write_npy(tmp_path_factory.mktemp("k") / "k.npy", stored)
    short = ",".join(n for n in order if n not in alone)
    for axes in (",".join(order), short):
        scan = read_raw(place, axes)
        assert scan.shape_ZCTYX == k.shape
        np.testing.assert_array_equal(scan.read(len(k) - 1).kspace_CTYX, k[-1])


def test_an_array_of_simulate_needs_its_axes_or_its_neighbour(crnn, tmp_path):
    ended = crnn("simulate", "-o", tmp_path / "p", "--size", "48x40", "--frames", 3, "--coils", 3, "--slices", 2)
    assert ended.code == 0, ended.err
    place = tmp_path / "p_kspace.npy"
    alone, named = read_raw(place), read_raw(place, AXES)
    assert alone.shape_ZCTYX == named.shape_ZCTYX == (2, 3, 3, 40, 48)
    np.testing.assert_array_equal(alone.read(1).kspace_CTYX, np.load(place)[1])
    place.rename(tmp_path / "other.npy")
    with pytest.raises(UnsupportedDataError, match=r"axes='slice,coil,t,ky,kx'"):
        read_raw(tmp_path / "other.npy")


def test_averages_are_the_mean_of_what_was_measured(full, tmp_path):
    first, second = lines(seed=1)[:, :, None], lines(seed=2)[:, :, None]
    place = write_npy(tmp_path / "k.npy", np.stack([full * first, full * second]))
    scan = read_raw(place, "average," + AXES)
    assert any("mean" in note for note in texts(scan.remarks))
    np.testing.assert_allclose(scan.read(1).kspace_CTYX, full[1] * (first | second), rtol=1e-6)


def test_masks_are_lines_where_lines_explain_the_zeros_else_samples(full, tmp_path):
    samples = np.random.default_rng(3).random((5, 24, 32)) < 0.4
    samples[:, 10:14, 14:18] = True
    scan = read_raw(write_npy(tmp_path / "a.npy", full * samples), AXES)
    np.testing.assert_array_equal(scan.read(0).mask_TYX, samples)
    echo = np.arange(32) >= 9
    scan = read_raw(write_npy(tmp_path / "b.npy", full * lines()[:, :, None] * echo), AXES)
    np.testing.assert_array_equal(scan.read(0).mask_TYX, lines()[:, :, None] & echo)
    assert scan.axes_ZYX == (2, 1, 0)
    assert read_raw(write_npy(tmp_path / "c.npy", full), AXES).read(2).mask_TYX.shape == (5, 24, 1)


def test_lines_missing_along_kx_make_it_the_phase_encoding(sparse, tmp_path):
    scan = read_raw(write_npy(tmp_path / "k.npy", sparse), "slice,coil,t,kx,ky")
    assert scan.axes_ZYX == (2, 0, 1)
    assert any("along kx" in note for note in texts(scan.remarks))
    assert scan.shape_ZCTYX == sparse.shape
    np.testing.assert_array_equal(scan.read(1).kspace_CTYX, sparse[1])
    images = place_images(sparse[:, 0], scan)
    assert images.shape == scan.geometry.shape == (24, 32, 3, 5)
    assert images.array[3, 7, 2, 4] == sparse[2, 0, 4, 3, 7]


def test_a_3d_scan_is_one_2d_problem_per_position_along_its_readout(tmp_path):
    k_CTZYX = np.fft.fftshift(np.fft.fft(kspace(slices=10, frames=2), axis=0, norm="ortho"), 0).transpose(1, 2, 0, 3, 4)
    mask = np.random.default_rng(0).random((2, 10, 24)) < 0.4
    mask[:, 4:7, 10:14] = True
    k_CTZYX = (k_CTZYX * mask[..., None]).astype(np.complex64)
    scan = read_raw(write_npy(tmp_path / "k.npy", k_CTZYX), "coil,t,kz,ky,kx")
    assert (scan.shape_ZCTYX, scan.axes_ZYX, scan.geometry.shape) == ((32, 4, 2, 24, 10), (0, 1, 2), (32, 24, 10, 2))
    shifted = np.fft.ifftshift(k_CTZYX.astype(np.complex128), -1)
    along_x = np.fft.fftshift(np.fft.ifft(shifted, axis=-1, norm="ortho"), -1)
    for x in (0, 15, 31):
        read = scan.read(x)
        np.testing.assert_array_equal(read.mask_TYX, mask.swapaxes(1, 2))
        np.testing.assert_allclose(read.kspace_CTYX, along_x[..., x].swapaxes(2, 3), atol=1e-5 * np.abs(along_x).max())


def test_reading_a_slice_touches_that_slice_alone(full, tmp_path):
    bad = full.copy()
    bad[0] = np.nan
    files = [
        (write_npy(tmp_path / "k.npy", bad), AXES), (write_bart(tmp_path / "b", bad), None),
        (write_v73(tmp_path / "k.mat", kspace_full=matlab(bad)), None), (write_fastmri(tmp_path / "f.h5", bad), None),
    ]  # fmt: skip
    for place, axes in files:
        scan = read_raw(place, axes)
        assert np.isfinite(scan.read(1).kspace_CTYX).all()
        with pytest.raises(UnsupportedDataError, match="NaN"):
            scan.read(0)


def test_fastmri_sizes_and_mask(full, tmp_path):
    mask = lines()[0]
    k = full * mask[:, None]
    scan = read_raw(write_fastmri(tmp_path / "f.h5", k, mask.astype(np.float32), wx=32.0, rx=16, wy=36.0, ry=12))
    assert (scan.format, scan.shape_ZCTYX) == ("fastMRI", (3, 4, 1, 24, 32))
    assert scan.fov_fraction_YX == (0.5, 0.5)
    assert scan.geometry.shape == (16, 12, 3, 1)
    assert scan.geometry.spacing == (2.0, 3.0, 5.0)
    np.testing.assert_array_equal(scan.read(2).kspace_CTYX, k[2][:, :1])
    np.testing.assert_array_equal(scan.read(2).mask_TYX, mask[None, :, None])
    with pytest.raises(UnsupportedDataError, match="disagrees"):
        read_raw(write_fastmri(tmp_path / "g.h5", full, mask)).read(0)


def test_single_coils(full, tmp_path):
    with h5py.File(write_fastmri(tmp_path / "f.h5", full), "a") as file:
        del file["kspace"]
        file["kspace"] = full[:, 0, 0].swapaxes(-1, -2)
    np.testing.assert_array_equal(read_raw(tmp_path / "f.h5").read(1).kspace_CTYX, full[1][:1, :1])
    single = matlab(full)[:, :, 0]
    scan = read_raw(write_v73(tmp_path / "k.mat", kspace_single_full=single))
    np.testing.assert_array_equal(scan.read(1).kspace_CTYX, full[1][:1])
    with pytest.raises(UnsupportedDataError, match=r"axes='kx,ky,slice,t'"):
        read_raw(write_v73(tmp_path / "m.mat", kspace_full=single))


def test_the_mask_of_a_cmrxrecon_file(sparse, tmp_path):
    mask = lines().T[None].repeat(32, 0).astype(np.uint8)  # (kx, ky, t)
    read = read_raw(write_v73(tmp_path / "k.mat", kspace_sub04=matlab(sparse), mask=mask)).read(0)
    np.testing.assert_array_equal(np.broadcast_to(lines()[:, :, None], read.mask_TYX.shape), read.mask_TYX)
    with pytest.raises(UnsupportedDataError, match="disagrees"):
        read_raw(write_v73(tmp_path / "k.mat", kspace_sub04=matlab(sparse), mask=mask[:, ::-1])).read(0)


def test_hdf5_of_no_format(full, tmp_path):
    with h5py.File(tmp_path / "k.h5", "w") as file:
        file["scan/raw"], file["maps"], file["weights"] = full, full[0, :, 0], np.ones((3, 4))
    with pytest.raises(UnsupportedDataError, match=r"scan/raw \(3, 4, 5, 24, 32\) complex"):
        read_raw(tmp_path / "k.h5", AXES)
    scan = read_raw(tmp_path / "k.h5", AXES, "scan/raw")
    assert scan.format == "HDF5"
    np.testing.assert_array_equal(scan.read(1).kspace_CTYX, full[1])
    with pytest.raises(UnsupportedDataError, match="axes"):
        read_raw(tmp_path / "k.h5", variable="scan/raw")
    with pytest.raises(UsageError, match="no array 'other'"):
        read_raw(tmp_path / "k.h5", AXES, "other")


@pytest.mark.parametrize("names", [("real", "imag"), ("imag", "real"), ("i", "r"), ("Re", "Im")])
@pytest.mark.parametrize("suffix", [".h5", ".npy", ".npz"])
def test_compounds_of_real_and_imaginary_part_in_any_order(full, tmp_path, suffix, names):
    place, parts = tmp_path / f"k{suffix}", compound(full)
    stored = np.empty(full.shape, [(name, np.float32) for name in names])
    for name in names:
        stored[name] = parts["real" if name[0].lower() == "r" else "imag"]
    if suffix == ".h5":
        with h5py.File(place, "w") as file:
            file["k"] = stored
    else:
        (np.save if suffix == ".npy" else np.savez)(place, stored)
    np.testing.assert_array_equal(read_raw(place, AXES).read(1).kspace_CTYX, full[1])


def test_formats_are_told_by_content(full, tmp_path, monkeypatch):
    place = write_npy(tmp_path / "k.npy", full).rename(tmp_path / "k.mat")
    assert read_raw(place, AXES).format == "NumPy"
    place = write_fastmri(tmp_path / "f.h5", full).rename(tmp_path / "f.npy")
    assert read_raw(place).format == "fastMRI"
    nifti = tmp_path / "scan.hdr"
    nifti.write_bytes((348).to_bytes(4, "little") + bytes(344))
    assert not is_kspace(nifti)
    assert not is_kspace(tmp_path)
    assert not is_kspace(tmp_path / "absent")
    with pytest.raises(UnreadableError, match="does not exist"):
        read_raw(tmp_path / "absent")
    with pytest.raises(UnreadableError, match="no raw k-space"):
        read_raw(nifti)


def test_ismrmrd_and_fastmri_are_never_taken_for_each_other(full, tmp_path):
    from crnn_cli.io.kspace.hdf5 import convention_of

    assert convention_of(write_ismrmrd(tmp_path / "i.h5")) == "ISMRMRD"
    assert convention_of(write_fastmri(tmp_path / "f.h5", full)) == "fastMRI"
    assert convention_of(data_file("kspace", "meas_MID00349_FID09273_SNR_R3.h5")) == "ISMRMRD"
    with pytest.raises(UsageError, match="ISMRMRD"):
        read_raw(tmp_path / "i.h5", AXES)


@pytest.mark.skipif(shutil.which("bart") is None, reason="bart is not on the PATH")
def test_bart_agrees(tmp_path):
    for command in ("phantom -k -s 4 -x 32 k", "resize -c 1 25 k r", "fft -i -u 3 r images"):
        subprocess.run(["bart", *command.split()], cwd=tmp_path, check=True)
    mine = read_raw(tmp_path / "r").read(0).kspace_CTYX[:, 0]
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(mine, (1, 2)), norm="ortho"), (1, 2))
    theirs = np.fromfile(tmp_path / "images.cfl", "<c8").reshape(4, 25, 32)
    np.testing.assert_allclose(images, theirs, atol=1e-5 * np.abs(theirs).max())
