"""What is read of an ISMRMRD file is what an independent writer put there: k-space, mask, geometry, noise, time."""

import tempfile
from dataclasses import replace
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from crnn_cli.data.raw_scan import crop_and_resample, place_images
from crnn_cli.errors import UnreadableError
from crnn_cli.io.kspace.ismrmrd.file import find_group, read_readout_headers, read_samples
from crnn_cli.io.kspace.ismrmrd.read import read_ismrmrd
from tests.support.data import data_file
from tests.support.ismrmrd import Options, header_of, noise_readouts, readout, scan, write, write_scan
from tests.support.remarks import texts

COVARIANCE = np.array([[2.0, 0.6 + 0.3j], [0.6 - 0.3j, 1.0]])


def assert_read(o, **changes):
    """The file of these options gives back its truth; return the scan."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "scan.h5")
        made = write_scan(place, o, **changes)
        found = read_ismrmrd(place)
        slices = [found.read(z) for z in range(found.shape_ZCTYX[0])]
    assert found.shape_ZCTYX == made.kspace_ZCTYX.shape
    scale = 3 * np.abs(made.kspace_ZCTYX).max()
    for z, one in enumerate(slices):
        assert one.kspace_CTYX.dtype == np.complex64
        np.testing.assert_allclose(one.kspace_CTYX, made.kspace_ZCTYX[z], atol=1e-6 * scale)
        np.testing.assert_array_equal(one.mask_TYX, made.mask_ZTYX[z])
        assert (one.calibration_CYX is None) == (made.calibration_ZCYX is None)
        if made.calibration_ZCYX is not None:
            np.testing.assert_allclose(one.calibration_CYX, made.calibration_ZCYX[z], atol=1e-6 * scale)
    np.testing.assert_allclose(found.geometry.affine, made.affine, atol=1e-4)
    assert found.geometry.shape == (o.samples, o.lines, max(o.slices, o.planes), o.frames)
    assert found.geometry.frame_time == (pytest.approx(made.frame_time, rel=0.01) if o.frames > 1 else None)
    assert found.axes_ZYX == (2, 1, 0)
    assert found.fov_fraction_YX == (1, pytest.approx(1 / o.oversampling))
    return found


@settings(max_examples=20, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.data())
def test_every_combination_gives_back_its_truth(data):
    draw = data.draw
    planes = draw(st.sampled_from([1, 1, 1, 4]))
    assert_read(
        Options(
            oversampling=draw(st.sampled_from([1, 2])),
            lines=draw(st.sampled_from([9, 10])),
            coils=draw(st.integers(1, 3)),
            frames=draw(st.integers(1, 4)),
            counter=draw(st.sampled_from(["phase", "repetition"])),
            slices=1 if planes > 1 else draw(st.integers(1, 3)),
            planes=planes,
            echo=draw(st.sampled_from([0, 3])),
            partial=draw(st.sampled_from([0, 2])),
            early=draw(st.sampled_from([0, 1])),
            reverse=draw(st.booleans()),
            averages=draw(st.integers(1, 3)),
            acceleration=draw(st.sampled_from([1, 3])),
            calibration=draw(st.sampled_from([None, "embedded", "separate"])),
            discard=draw(st.sampled_from([(0, 0), (1, 3)])),
            tilt=draw(st.sampled_from([None, 1, 2])),
            shuffle=draw(st.sampled_from([None, 5])),
            seed=draw(st.integers(0, 2)),
        )
    )


@pytest.mark.parametrize("bandwidth", [None, 0.8])
@pytest.mark.parametrize(("oversampling", "averages"), [(1, 1), (2, 3)])
def test_noise_is_scaled_to_the_samples_of_the_images(oversampling, averages, bandwidth):
    """Dwell times of 5 and 2.5 us; only where the readout is oversampled the filter's edges are cut off."""
    o = Options(noise=COVARIANCE, oversampling=oversampling, averages=averages)
    found = assert_read(o, bandwidth=bandwidth)
    expected = COVARIANCE * 2 / averages / (bandwidth if bandwidth and oversampling > 1 else 1)
    np.testing.assert_allclose(found.noise_CC, expected, rtol=1e-5, atol=1e-6)
    assert assert_read(replace(o, noise=None)).noise_CC is None


def test_noise_of_images_matches_that_of_noise_readouts(tmp_path):
    """What is told as covariance is E[n n^H] of the coils, not its conjugate."""
    place = tmp_path / "a.h5"
    write_scan(place, Options(noise=COVARIANCE, noise_dwell=2.5))
    assert read_ismrmrd(place).noise_CC[0, 1].imag > 0.29


def test_noise_that_does_not_fit_the_images_is_left_out(tmp_path):
    place = tmp_path / "a.h5"
    write_scan(place, Options(noise=COVARIANCE, noise_readouts=1, coils=2))
    assert read_ismrmrd(place).noise_CC is not None
    acquisitions = scan(Options())[0] + noise_readouts(
        Options(noise=np.eye(3), coils=3), np.random.default_rng(0), np.eye(3)
    )
    write(tmp_path / "b.h5", acquisitions, header_of(Options()))
    found = read_ismrmrd(tmp_path / "b.h5")
    assert found.noise_CC is None
    assert "another number of coils" in " ".join(texts(found.remarks))


@pytest.mark.filterwarnings("error")
def test_noise_whose_power_overflows_is_left_out(tmp_path):
    o = Options(noise=COVARIANCE)
    acquisitions, _ = scan(o)
    acquisitions[0].data[:] = 1e25
    found = read_ismrmrd(write(tmp_path / "a.h5", acquisitions, header_of(o)))
    assert found.noise_CC is None
    assert "the noise readouts have values too large: they were left out" in texts(found.remarks)


def test_a_scan_as_ocmr_stores_it():
    """Real time, twofold oversampled, an asymmetric echo, threefold acceleration that moves from frame to frame."""
    o = Options(counter="repetition", frames=6, echo=4, acceleration=3, averages=2, slices=1)
    found = assert_read(o)
    assert any("measured 2 to 2 times, averaged" in note for note in texts(found.remarks))
    assert "acceleration 3 x 1" in found.stored


def test_readouts_for_other_things_are_left_out_and_counted(tmp_path):
    acquisitions, made = scan(Options())
    for flag in (23, 23, 24, 26, 27, 28, 29):
        acquisitions.insert(3, readout(np.full((2, 24), 1e6), np.eye(3), (5, 5, 5), (flag,)))
    acquisitions.append(readout(np.full((2, 24), 1e6), np.eye(3), (5, 5, 5), encoding_space_ref=1))
    write(tmp_path / "a.h5", acquisitions, header_of(Options()))
    found = read_ismrmrd(tmp_path / "a.h5")
    for z in (0, 1):
        np.testing.assert_allclose(found.read(z).kspace_CTYX, made.kspace_ZCTYX[z], atol=1e-4)
    notes = " ".join(texts(found.remarks))
    assert "2 navigator readouts left out" in notes
    assert "1 dummy readouts left out" in notes
    assert "1 readouts of other encodings than the first left out" in notes


def test_an_image_lies_where_the_phantom_does(tmp_path):
    """A point at voxel (8, 3) of the images shows there, also with the readout oversampled twofold."""
    o = Options(slices=1, frames=1, coils=1)
    encoded = np.zeros((o.lines, o.encoded), complex)
    encoded[3, 8 - o.samples // 2 + o.encoded // 2] = 1
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(encoded), norm="ortho"))
    lines = [readout(row[None], np.eye(3), (0, 0, 0), kspace_encode_step_1=y) for y, row in enumerate(kspace)]
    write(tmp_path / "a.h5", lines, header_of(o))
    found = read_ismrmrd(tmp_path / "a.h5")
    measured = found.read(0).kspace_CTYX[0]
    image = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(measured, (1, 2)), norm="ortho"), (1, 2))
    image = place_images(crop_and_resample(image, found.fov_fraction_YX, found.geometry.shape[1::-1])[None], found)
    assert np.unravel_index(np.abs(image.array).argmax(), image.shape) == (8, 3, 0, 0)
    np.testing.assert_allclose(image.affine @ [6, 5, 0, 1], [0, 0, 0, 1], atol=1e-5)


def test_samples_are_read_when_a_slice_is_asked_for(tmp_path):
    acquisitions, _ = scan(Options(slices=2, tilt=None))
    acquisitions[-1].data[:] = np.nan  # belongs to the second slice
    write(tmp_path / "a.h5", acquisitions, header_of(Options()))
    found = read_ismrmrd(tmp_path / "a.h5")
    found.read(0)
    with pytest.raises(UnreadableError, match=r"readout 60 \(scan counter 59\) has NaN or infinite samples"):
        found.read(1)


def test_a_file_is_not_held_open_between_readouts(tmp_path):
    """A generator that is left unfinished would close it while another file is read, which ends the process."""
    write_scan(tmp_path / "scan.h5", Options(frames=2))
    group = find_group(tmp_path / "scan.h5", None)
    heads = read_readout_headers(tmp_path / "scan.h5", group)
    before = h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)
    samples = read_samples(tmp_path / "scan.h5", group, heads)
    next(samples)
    assert h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE) == before


def test_a_real_scan_is_described_as_its_header_says():
    """Three times accelerated, 48 embedded calibration lines, one noise readout with an eighth of the bandwidth."""
    found = read_ismrmrd(data_file("kspace", "meas_MID00349_FID09273_SNR_R3.h5"))
    assert found.shape_ZCTYX == (1, 14, 1, 144, 384)
    assert found.fov_fraction_YX == (1, 0.5)
    assert found.geometry.shape == (192, 144, 1, 1)
    np.testing.assert_allclose(found.geometry.spacing, (280 / 192, 210 / 144, 8))
    np.testing.assert_allclose(found.geometry.affine @ [96, 72, 0, 1], [-20.0483, -66.57, 0, 1], atol=1e-3)
    assert "36 readouts for images, 14 coils" in found.stored
    assert "48 calibration lines embedded; acceleration 3 x 1" in found.stored
    one = found.read(0)
    np.testing.assert_array_equal(np.flatnonzero(one.mask_TYX[0, :, 0]), np.arange(18, 124, 3))
    np.testing.assert_array_equal(np.flatnonzero(np.abs(one.calibration_CYX).sum((0, 2))), np.arange(48, 96))
    # whitened, the noise in the middle of the field of view has unit variance: outer lines, where the object is not
    profile = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(one.kspace_CTYX[:, 0], -1), axis=-1, norm="ortho"), -1)
    beside = profile[:, one.mask_TYX[0, :, 0]][:, [0, 1, -2, -1]][..., 70:105].reshape(14, -1)
    white = np.linalg.solve(np.linalg.cholesky(found.noise_CC), beside)
    assert np.mean(np.abs(white) ** 2) == pytest.approx(1, abs=0.1)


def test_an_independent_reader_agrees_on_a_real_scan():
    """The `ismrmrd` package reads the same lines."""
    file = data_file("kspace", "meas_MID00349_FID09273_SNR_R3.h5")
    one = read_ismrmrd(file).read(0)
    with ismrmrd.File(str(file), "r") as opened:
        for line in opened["dataset"].acquisitions[:]:
            place = one.kspace_CTYX[:, 0] if line.flags & 3 << 18 == 0 else one.calibration_CYX
            if not line.isFlagSet(19):
                np.testing.assert_array_equal(place[:, line.idx.kspace_encode_step_1 + 18], line.data)
