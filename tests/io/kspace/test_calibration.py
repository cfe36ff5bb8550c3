"""Calibration lines from a second file: on the grid of the scan, whatever matrix, oversampling or format they have."""

import json

import numpy as np
import pytest

from crnn_cli.data.raw_scan import remove_oversampling
from crnn_cli.errors import UnsupportedDataError
from crnn_cli.io.kspace.calibration import read_calibration, with_calibration
from crnn_cli.io.kspace.read import read_raw
from tests.support.ismrmrd import Options, header_of, scan, write, write_scan
from tests.support.kspace import kspace, lines, write_npy

SCAN = Options(samples=16, lines=24, coils=3, frames=2, slices=2, acceleration=2, tilt=2)


def calibration_file(place, o=SCAN, first=8, last=16, flag=20):
    """Write the central lines of the first frame alone, flagged as for calibration."""
    acquisitions, made = scan(Options(**(vars(o) | {"acceleration": 1, "frames": 1})))
    kept = [line for line in acquisitions if first <= line.idx.kspace_encode_step_1 < last]
    for line in kept:
        line.setFlag(flag)
    return write(place, kept, header_of(o)), made


def test_lines_of_a_prescan_lie_in_their_places(tmp_path):
    write_scan(tmp_path / "scan.h5", SCAN)
    place, made = calibration_file(tmp_path / "cal.h5")
    raw = read_raw(tmp_path / "scan.h5")
    found = with_calibration(raw, read_calibration(place))
    assert (found.shape_ZCTYX[-1], found.fov_fraction_YX) == (16, (1.0, 1.0))
    for z in (0, 1):
        read = found.read(z)
        usual = remove_oversampling(raw.read(z), 0.5)
        np.testing.assert_array_equal(read.kspace_CTYX, usual.kspace_CTYX)
        np.testing.assert_array_equal(read.mask_TYX, usual.mask_TYX)
        lines_there = np.abs(read.calibration_CYX).sum((0, 2)) > 0
        np.testing.assert_array_equal(np.flatnonzero(lines_there), np.arange(8, 16))
        whole = np.fft.ifftshift(made.kspace_ZCTYX[z][:, 0], -1)
        images = np.fft.fftshift(np.fft.ifft(whole, axis=-1, norm="ortho"), -1)[..., 8:24]
        expected = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(images, -1), axis=-1, norm="ortho"), -1)
        np.testing.assert_allclose(read.calibration_CYX[:, 8:16], expected[:, 8:16], atol=1e-3)


@pytest.mark.parametrize(
    ("size", "ordered"), [((24, 32), False), ((12, 16), False), ((31, 40), True), ((25, 32), True)]
)
def test_arrays_of_another_matrix_are_centred_on_the_grid(tmp_path, size, ordered):
    """Smaller and larger matrices, even and odd; three axes are coil, ky, kx where nothing names them."""
    k = kspace(1, 4, 5, 24, 32)
    place = write_npy(tmp_path / "k.npy", k * lines()[:, :, None])
    other = np.zeros((4, *size), np.complex64)
    other[:, size[0] // 2, size[1] // 2], other[:, size[0] // 2 + 1, size[1] // 2 - 2] = 5, 1j
    spread = 0.01 * np.random.default_rng(0).normal(size=other.shape)
    cal = write_npy(
        tmp_path / "c.npy", (other + spread).astype(np.complex64)[None, :, None] if ordered else other + spread
    )
    axes = "slice,coil,t,ky,kx"
    found = with_calibration(read_raw(place, axes), read_calibration(cal, axes)).read(0).calibration_CYX
    assert found.shape == (4, 24, 32)
    np.testing.assert_allclose(found[:, 12, 16], 5, atol=0.05)
    np.testing.assert_allclose(found[:, 13, 14], 1j, atol=0.05)


def test_files_that_do_not_fit_are_refused(tmp_path):
    write_scan(tmp_path / "scan.h5", SCAN)
    raw = read_raw(tmp_path / "scan.h5")
    changes = {
        "has 2 coils, the scan 3": {"coils": 2}, r"has 3 slices, the scan 2|lines, samples": {"slices": 3},
        "field of view of the calibration file": {"samples": 24}, "one is a 3-D scan": {"planes": 4, "slices": 1},
    }  # fmt: skip
    for number, (problem, change) in enumerate(changes.items()):
        o = Options(**(vars(SCAN) | {"acceleration": 1} | change))
        write_scan(tmp_path / f"{number}.h5", o) if "planes" not in change else _without_a_plane(tmp_path, number, o)
        if change == {"slices": 3}:  # the position tells which slice is meant
            assert with_calibration(raw, read_calibration(tmp_path / f"{number}.h5")).read(1).calibration_CYX.any()
            continue
        with pytest.raises(UnsupportedDataError, match=problem):
            with_calibration(raw, read_calibration(tmp_path / f"{number}.h5"))


def _without_a_plane(tmp_path, number, o):
    acquisitions, _ = scan(o)
    write(tmp_path / f"{number}.h5", acquisitions[:-1], header_of(o, o.planes))


def test_sense_works_with_the_second_file_alone(crnn, tmp_path):
    """A scan without centre lines cannot be reconstructed without it, and is with it."""
    k = kspace(1, 4, 3, 32, 32)
    mask = np.zeros((3, 32, 1), bool)
    mask[:, ::3] = True
    write_npy(tmp_path / "k.npy", k * mask)
    write_npy(tmp_path / "c.npy", k[0, :, 0])
    asked = ("reconstruct", tmp_path / "k.npy", "--axes", "slice,coil,t,ky,kx", "--method", "sense", "--json")
    ended = crnn(*asked, "-o", tmp_path / "o.nii", "--hold-out-folds", "0")
    assert (ended.code, "consecutive lines around the centre" in ended.err) == (4, True), ended.err
    ended = crnn(*asked, "-o", tmp_path / "o.nii", "--hold-out-folds", "0", "--calibration", tmp_path / "c.npy")
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["coils"][0]["maps"] == "ESPIRiT"
    assert report["input"]["calibration"] == str(tmp_path / "c.npy")
    assert len(report["input"]["calibration_sha256"]) == 64
