"""ISMRMRD files whose header and readouts contradict each other: what the readouts show counts, and is told."""

import numpy as np
import pytest

from crnn_cli.data.raw_scan import remove_oversampling
from crnn_cli.errors import UnreadableError, UnsupportedDataError, UsageError
from crnn_cli.io.kspace.ismrmrd.read import read_ismrmrd
from tests.support.ismrmrd import Options, header_of, scan, write, write_beats, write_scan
from tests.support.remarks import codes

SHARP = Options(samples=32, lines=24, oversampling=2, coils=3, frames=2, slices=1)


def written(tmp_path, change, o=SHARP, xml=None):
    """Write a scan whose readouts were changed, and return the path and its truth."""
    acquisitions, made = scan(o)
    acquisitions = change(acquisitions) or acquisitions
    return write(tmp_path / "a.h5", acquisitions, xml or header_of(o, o.planes)), made


def resized(line, samples, centre):
    line.resize(samples.shape[1], samples.shape[0])
    line.data[:] = samples
    line.center_sample = centre


@pytest.mark.parametrize("echo", [0, 6])
def test_oversampling_that_was_removed_is_not_removed_again(tmp_path, echo):
    """All readouts have the length of the images, or lack one side of it; the header still has the encoded matrix."""

    def change(acquisitions):
        for line in acquisitions:
            image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(line.data, -1), norm="ortho"), -1)[:, 16:48]
            short = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, -1), norm="ortho"), -1)
            resized(line, short[:, echo:], 16 - echo)

    place, made = written(tmp_path, change)
    found = read_ismrmrd(place)
    assert "oversampling-removed" in codes(found.remarks)
    assert (found.shape_ZCTYX[-1], found.fov_fraction_YX, found.geometry.shape[0]) == (32, (1.0, 1.0), 32)
    write_scan(tmp_path / "b.h5", SHARP)
    usual = remove_oversampling(read_ismrmrd(tmp_path / "b.h5").read(0), 0.5)
    read = found.read(0)
    np.testing.assert_allclose(read.kspace_CTYX[..., echo:], usual.kspace_CTYX[..., echo:], atol=1e-4)
    assert not np.broadcast_to(read.mask_TYX, (2, 24, 32))[..., :echo].any()
    assert read.mask_TYX[..., echo:].all()
    np.testing.assert_allclose(found.geometry.affine, made.affine, atol=1e-4)


def test_an_echo_that_lacks_one_side_is_no_removed_oversampling(tmp_path):
    write_scan(tmp_path / "a.h5", Options(samples=16, lines=12, oversampling=2, echo=10, frames=1, slices=1))
    found = read_ismrmrd(tmp_path / "a.h5")
    assert "oversampling-removed" not in codes(found.remarks)
    assert found.shape_ZCTYX[-1] == 32


@pytest.mark.parametrize("every", [2, 3])
def test_lines_of_zeros_were_not_measured(tmp_path, every):
    def change(acquisitions):
        for line in acquisitions:
            if (line.idx.kspace_encode_step_1 + line.idx.phase) % every:
                line.data[:] = 0

    place, _ = written(tmp_path, change)
    mask = read_ismrmrd(place).read(0).mask_TYX
    expected = (np.arange(24) + np.arange(2)[:, None]) % every == 0
    np.testing.assert_array_equal(mask, expected[..., None])


def test_samples_of_zeros_in_every_line_were_not_measured(tmp_path):
    def change(acquisitions):
        for line in acquisitions:
            line.data[:, :20] = 0

    place, made = written(tmp_path, change)
    read = read_ismrmrd(place).read(0)
    assert not read.mask_TYX[..., :20].any()
    assert read.mask_TYX[..., 20:].all()
    np.testing.assert_allclose(read.kspace_CTYX[..., 20:], made.kspace_ZCTYX[0][..., 20:], atol=1e-4)


def test_zeros_do_not_weigh_in_the_mean_of_averages(tmp_path):
    def change(acquisitions):
        for line in acquisitions:
            if line.idx.average == 1 and line.idx.kspace_encode_step_1 % 2:
                line.data[:] = 0

    o = Options(samples=32, lines=24, averages=2, frames=1, slices=1)
    acquisitions, _ = scan(o)
    place, _ = written(tmp_path, change, o)
    read = read_ismrmrd(place).read(0).kspace_CTYX
    for line in acquisitions:
        y = line.idx.kspace_encode_step_1
        if y % 2 and line.idx.average == 0:
            np.testing.assert_allclose(read[:, 0, y], line.data, atol=1e-5)


@pytest.mark.parametrize("convention", ["stored", "half", "mirrored"])
def test_the_centre_of_reversed_lines_is_where_they_agree_with_their_neighbours(tmp_path, convention):
    """The header says sample N / 2 of both kinds of lines: to the letter in one, counted from the other end in two."""
    o = Options(samples=24, lines=32, oversampling=2, coils=3, frames=1, slices=1)
    n = o.encoded

    def change(acquisitions):
        for line in acquisitions:
            if line.idx.kspace_encode_step_1 % 2:
                data = line.data.copy()
                line.setFlag(22)
                line.data[:] = data[:, (n - np.arange(n)) % n] if convention == "half" else data[:, ::-1]
                line.center_sample = n // 2 - 1 if convention == "stored" else n // 2

    place, made = written(tmp_path, change, o)
    found = read_ismrmrd(place)
    read = found.read(0)
    mask = np.ones((1, 32, n), bool)
    mask[:, 1::2, 0] = convention != "half"
    np.testing.assert_array_equal(np.broadcast_to(read.mask_TYX, mask.shape), mask)
    np.testing.assert_allclose(read.kspace_CTYX, made.kspace_ZCTYX[0] * mask, atol=1e-4)
    assert "reversed-lines" in codes(found.remarks)


@pytest.mark.parametrize("shown", [1, 2])
def test_planes_that_never_vary_make_no_3d_scan(tmp_path, shown):
    xml = header_of(SHARP).replace("<z>1</z>", "<z>2</z>", 1)
    xml = xml.replace("<z>1</z>", "<z>2</z>") if shown == 2 else xml
    place, made = written(tmp_path, lambda _: None, xml=xml)
    found = read_ismrmrd(place)
    assert "planes-never-vary" in codes(found.remarks)
    np.testing.assert_allclose(found.read(0).kspace_CTYX, made.kspace_ZCTYX[0], atol=1e-4)
    np.testing.assert_allclose(found.geometry.affine, made.affine, atol=1e-4)


def test_fields_of_view_in_metres(tmp_path):
    text = header_of(SHARP)
    for millimetres in ("256.0", "128.0", "96.0", "8.0"):
        text = text.replace(f">{millimetres}<", f">{float(millimetres) / 1000}<")

    def in_metres(acquisitions):
        for line in acquisitions:
            line.position[:] = [p / 1000 for p in line.position]

    for change in (lambda _: None, in_metres):
        place, made = written(tmp_path, change, xml=text)
        found = read_ismrmrd(place)
        place.unlink()
        assert "field-of-view-in-metres" in codes(found.remarks)
        np.testing.assert_allclose(found.geometry.affine, made.affine, atol=1e-3)
    tiny = text.replace(">0.256<", ">1.0<").replace(">0.128<", ">0.0000128<")
    place, _ = written(tmp_path, lambda _: None, xml=tiny)
    with pytest.raises(UnreadableError, match="which cannot be: its fields of view must be in mm"):
        read_ismrmrd(place)


def test_whole_numbers_that_are_almost_whole(tmp_path):
    place, made = written(tmp_path, lambda _: None, xml=header_of(SHARP).replace("<y>24</y>", "<y>23.9999</y>"))
    np.testing.assert_allclose(read_ismrmrd(place).read(0).kspace_CTYX, made.kspace_ZCTYX[0], atol=1e-4)


def test_fewer_repetitions_than_the_header_states_are_told(tmp_path):
    limits = "<repetition><minimum>0</minimum><maximum>7</maximum><center>0</center></repetition></encodingLimits>"
    o = Options(counter="repetition", frames=5, slices=1)
    xml = header_of(o).replace("</encodingLimits>", limits)
    place, _ = written(tmp_path, lambda _: None, o, xml)
    doubt = next(each for each in read_ismrmrd(place).remarks if each.code == "fewer-than-stated")
    assert "8 repetitions, 5 are there" in doubt.text


def test_a_coil_without_signal_is_told(tmp_path):
    def change(acquisitions):
        for line in acquisitions:
            line.data[1] = 0

    place, _ = written(tmp_path, change)
    doubt = next(each for each in read_ismrmrd(place).remarks if each.code == "dead-coil")
    assert "of 3 coils, number 1 (from 0)" in doubt.text


def test_one_frame_of_many_beats_says_that_phases_can_be_sorted(tmp_path):
    o = Options(lines=6, oversampling=1, slices=1, coils=1)
    write_beats(tmp_path / "a.h5", o, 4, [400] * 12)
    assert "ecg-not-used" in codes(read_ismrmrd(tmp_path / "a.h5").remarks)
    assert "ecg-not-used" not in codes(read_ismrmrd(tmp_path / "a.h5", phases=4).remarks)


@pytest.mark.parametrize(
    ("counter", "param"), [("set", "set_number"), ("contrast", "contrast"), ("repetition", "repetition")]
)
def test_one_of_several_images_of_a_frame_is_chosen_by_its_counter(tmp_path, counter, param):
    def change(acquisitions):
        others, _ = scan(SHARP)
        for line in others:
            setattr(line.idx, counter, 3)
            line.data[:] = 2 * line.data
        return acquisitions + others

    place, made = written(tmp_path, change)
    with pytest.raises(UnsupportedDataError, match=f"{param}=0"):
        read_ismrmrd(place)
    for value, factor in ((0, 1), (3, 2)):
        found = read_ismrmrd(place, **{param: value})
        np.testing.assert_allclose(found.read(0).kspace_CTYX, factor * made.kspace_ZCTYX[0], atol=2e-4)
    with pytest.raises(UsageError, match=rf"2 values of {counter} \(0, 3\)"):
        read_ismrmrd(place, **{param: 1})


def test_of_phases_and_repetitions_either_can_be_time(tmp_path):
    def change(acquisitions):
        later, _ = scan(SHARP)
        for line in later:
            line.idx.repetition = 1
            line.data[:] = 2 * line.data
        return acquisitions + later

    place, made = written(tmp_path, change)
    truth = made.kspace_ZCTYX[0]
    by_phase, by_repetition = read_ismrmrd(place, repetition=1), read_ismrmrd(place, phase_number=1)
    np.testing.assert_allclose(by_phase.read(0).kspace_CTYX, 2 * truth, atol=2e-4)
    expected = np.stack([truth[:, 1], 2 * truth[:, 1]], 1)
    np.testing.assert_allclose(by_repetition.read(0).kspace_CTYX, expected, atol=2e-4)


def test_views_of_different_direction_are_chosen_by_number(tmp_path):
    """Two short-axis slices, and one of another direction in between."""
    o = Options(samples=16, lines=12, coils=2, frames=2, slices=3, tilt=None)

    def change(acquisitions):
        for line in acquisitions:
            if line.idx.slice == 1:
                line.read_dir[:], line.slice_dir[:] = list(line.slice_dir), [-v for v in line.read_dir]

    place, _ = written(tmp_path, change, o)
    with pytest.raises(UnsupportedDataError, match=r"2 views.*view 1: 2 slices.*view 2: 1 slices.*view=1"):
        read_ismrmrd(place)
    shapes = [read_ismrmrd(place, view=view).shape_ZCTYX[0] for view in (1, 2)]
    assert sorted(shapes) == [1, 2]
    with pytest.raises(UsageError, match="this scan has 2 views"):
        read_ismrmrd(place, view=3)


@pytest.mark.parametrize("shown", [12, 8])
def test_a_3d_scan_with_lines_missing_along_both_encodings(tmp_path, shown):
    """Slices are positions along the readout; of the slab the middle planes are shown."""
    o = Options(samples=16, lines=14, coils=2, frames=2, slices=1, planes=12, tilt=None, calibration="separate")
    rng = np.random.default_rng(0)
    lacks = {(t, y, k) for t in range(2) for y in range(14) for k in range(12)
             if rng.random() < 0.4 and not (5 < y < 10 and 3 < k < 8)}  # fmt: skip

    def change(acquisitions):
        return [
            line for line in acquisitions
            if line.isFlagSet(20)
            or (line.idx.phase, line.idx.kspace_encode_step_1, line.idx.kspace_encode_step_2) not in lacks
        ]  # fmt: skip

    acquisitions, _ = scan(o)
    xml = header_of(o, 12)
    recon = xml.split("<reconSpace>")
    recon[1] = recon[1].replace("<z>12</z>", f"<z>{shown}</z>", 1)
    recon[1] = recon[1].replace("<z>96.0</z>", f"<z>{8.0 * shown}</z>", 1)
    place, made = written(tmp_path, change, o, "<reconSpace>".join(recon))
    found = read_ismrmrd(place)
    assert (found.shape_ZCTYX, found.axes_ZYX, found.readout_X) == ((16, 2, 2, 14, 12), (0, 1, 2), False)
    assert found.geometry.shape == (16, 14, shown, 2)
    assert (found.readout_fraction, found.crop_fraction) == (1.0, (1.0, shown / 12))
    mask = np.array([[[(t, y, k) not in lacks for k in range(12)] for y in range(14)] for t in range(2)])
    encoded = np.zeros((2, 2, 14, 12, 32), complex)  # (C, T, Y, K, X)
    for line in acquisitions:
        if not line.isFlagSet(20):
            encoded[:, line.idx.phase, line.idx.kspace_encode_step_1, line.idx.kspace_encode_step_2] = line.data
    hybrid = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(encoded, -1), norm="ortho"), -1)[..., 8:24]
    for x in (0, 7, 15):
        read = found.read(x)
        np.testing.assert_array_equal(read.mask_TYX, mask)
        np.testing.assert_allclose(read.kspace_CTYX, hybrid[..., x] * mask, atol=1e-4)
        assert read.calibration_CYX.shape == (2, 14, 12)
    middle = [8, 7, shown // 2, 1]  # the middle of the matrix lies at the position of the slab, in both ways to read it
    np.testing.assert_allclose(found.geometry.affine @ middle, made.affine @ [8, 7, 6, 1], atol=1e-4)
