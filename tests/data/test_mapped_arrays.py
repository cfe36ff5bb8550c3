"""Arrays too large for memory: the same images and the same bytes as in memory, and no file left behind."""

import errno
import gc
import gzip
import json
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from crnn_cli.data import mapped_arrays
from crnn_cli.data.acquisition import from_fully_sampled, from_zero_filled
from crnn_cli.data.image import Image
from crnn_cli.errors import OutputError, UnreadableError
from crnn_cli.io.images import load_image
from crnn_cli.io.nifti.image import encode_image, image_output, read_image, write_image
from crnn_cli.io.phase import join_phase
from tests.support.cines import AFFINE, lines_mask, moving_cine, save, to_images, to_kspace


@pytest.fixture
def spilled(monkeypatch):
    """Return a function that makes everything large."""

    def spill():
        monkeypatch.setattr(mapped_arrays, "LARGE", 1)
        monkeypatch.setattr(mapped_arrays, "_CHUNK_BYTES", 5000)

    return spill


def mapped():
    """Return the files without a name that this process has mapped."""
    gc.collect()
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if "(deleted)" in line]


def test_values_stay_when_their_pages_are_dropped(spilled):
    spilled()
    array = mapped_arrays.zeros((6, 5, 4), np.complex64, "F")
    assert mapped_arrays.is_file_backed(array)
    assert not array.any()
    array[:] = np.arange(120).reshape(6, 5, 4)
    mapped_arrays.drop_pages(array, array[2:].T)
    np.testing.assert_array_equal(array, np.arange(120).reshape(6, 5, 4))
    assert mapped_arrays.is_file_backed(array[1:3].transpose(2, 0, 1))
    assert len(mapped()) == 1
    del array
    assert not mapped()
    assert not mapped_arrays.is_file_backed(np.zeros(3))


def test_small_arrays_stay_in_memory():
    assert not mapped_arrays.is_file_backed(mapped_arrays.zeros((mapped_arrays.LARGE // 8 - 1,), np.complex64))
    assert mapped_arrays.is_file_backed(mapped_arrays.zeros((mapped_arrays.LARGE // 8,), np.complex64))


def test_functions_of_planes_are_those_of_the_whole(spilled):
    array = moving_cine(7, 6, 3, 5)
    for view in (array, array.transpose(3, 2, 0, 1), np.asfortranarray(array)):
        expected = np.abs(view)
        spilled()
        found = mapped_arrays.apply_by_planes(np.abs, np.float32, view)
        assert mapped_arrays.is_file_backed(found)
        np.testing.assert_array_equal(found, expected)


def test_bytes_come_back_in_order(spilled):
    spilled()
    kept = mapped_arrays.SpooledBytes()
    for part in (b"one", b"", b"two" * 3_000_000):
        kept.write(part)
    for _ in range(2):
        assert b"".join(kept.chunks()) == b"one" + b"two" * 3_000_000


def test_a_folder_that_cannot_be_written_raises(spilled, monkeypatch, tmp_path):
    spilled()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(OutputError, match=r"gone.*TMPDIR"):
        mapped_arrays.zeros((3, 3), np.float32)
    with pytest.raises(OutputError, match="TMPDIR"):
        mapped_arrays.SpooledBytes().write(b"more than one")


def test_a_full_disk_raises_at_once(spilled, monkeypatch):
    spilled()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OutputError, match=r"cannot be put into .*no space"):
        mapped_arrays.zeros((5, 5), np.float32)
    assert not mapped()


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["complex64", "float32", "uint8"])
def test_large_files_have_the_bytes_of_small_ones(spilled, suffix, kind, tmp_path):
    array = (40 * np.abs(moving_cine(9, 8, 3, 4))).astype(kind)
    image = Image(array, AFFINE, 0.03, (1, 2))
    expected = encode_image(image, tmp_path / f"a{suffix}", "said")
    spilled()
    for same in (image, Image(np.ascontiguousarray(array.T).T, AFFINE, 0.03, (1, 2))):
        output = image_output(same, tmp_path / f"a{suffix}", "said")
        assert isinstance(output.content, mapped_arrays.SpooledBytes)
        assert b"".join(output.chunks()) == expected
    write_image(image, tmp_path / f"a{suffix}", "said")
    assert (tmp_path / f"a{suffix}").read_bytes() == expected


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_large_files_are_read_as_small_ones(spilled, suffix, tmp_path):
    cine = moving_cine(9, 8, 3, 4)
    places = {"complex": save(tmp_path / f"c{suffix}", cine), "float": save(tmp_path / f"f{suffix}", np.abs(cine))}
    scaled = nib.Nifti1Image((1000 * np.abs(cine)).astype(np.int16), AFFINE)
    scaled.header.set_slope_inter(0.37, -3)
    nib.save(scaled, tmp_path / f"s{suffix}")
    sloped = nib.Nifti1Image(np.abs(cine), AFFINE)
    sloped.header.set_slope_inter(2, 1)
    nib.save(sloped, tmp_path / f"r{suffix}")
    places |= {"scaled": tmp_path / f"s{suffix}", "sloped": tmp_path / f"r{suffix}"}
    places |= {"double": save(tmp_path / f"d{suffix}", np.abs(cine).astype("f8"))}
    places |= {"flat": save(tmp_path / f"x{suffix}", np.abs(cine[:, :, 0]))}
    axes = dict.fromkeys(places) | {"flat": "x,y,t"}
    small = {name: load_image(place, axes[name]) for name, place in places.items()}
    np.testing.assert_allclose(small["sloped"].image.array, 2 * np.abs(cine) + 1, rtol=1e-6)
    spilled()
    for name, place in places.items():
        large = load_image(place, axes[name])
        assert mapped_arrays.is_file_backed(large.image.array)
        assert large.image.array.dtype == small[name].image.array.dtype
        np.testing.assert_array_equal(large.image.array, small[name].image.array)
        np.testing.assert_array_equal(large.image.affine, small[name].image.affine)
        assert (large.source, large.dtype, large.intent) == (small[name].source, small[name].dtype, small[name].intent)
        assert large.image.frame_time == small[name].image.frame_time


def test_damaged_large_files_raise_as_small_ones(spilled, tmp_path):
    spilled()
    for name in ("a.nii", "a.nii.gz"):
        whole = save(tmp_path / name, np.random.default_rng(0).normal(size=(9, 8, 3, 4)).astype("f4")).read_bytes()
        flipped = bytearray(whole)
        flipped[-6] ^= 1
        damaged = [whole[: len(whole) // 2], whole[:300], b"nothing", *([bytes(flipped)] if name[-1] == "z" else [])]
        for content in damaged:
            (tmp_path / name).write_bytes(content)
            with pytest.raises(UnreadableError):
                load_image(tmp_path / name)


def test_kspace_is_that_of_the_whole_series_at_once(spilled):
    truth = moving_cine(13, 10, 3, 4)
    mask = lines_mask(13, 10, 4)
    zero_filled = Image(to_images(to_kspace(truth) * mask).astype(np.complex64), AFFINE)
    small = from_zero_filled(zero_filled)
    spilled()
    file = mapped_arrays.zeros(truth.shape, np.complex64, "F")
    file[:] = zero_filled.array
    large = from_zero_filled(Image(file, AFFINE))
    np.testing.assert_array_equal(large.mask_ZTYX, small.mask_ZTYX)
    np.testing.assert_array_equal(large.kspace_ZCTYX, small.kspace_ZCTYX)
    simulated = from_fully_sampled(Image(truth, AFFINE), small.mask_ZTYX[..., 0], 1, "")
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(truth, (0, 1)), axes=(0, 1), norm="ortho"), (0, 1))
    expected = (spectrum.astype(np.complex64) * mask).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(simulated.kspace_ZCTYX[:, 0], expected, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("unit", [1.0, 4096 / np.pi])
def test_phase_is_joined_as_at_once(spilled, unit):
    cine = moving_cine(9, 8, 3, 4)
    angle = np.angle(cine)
    angle[0, 0, 0, :2] = 3.1, -3.1
    magnitude, phase = Image(np.abs(cine), AFFINE), Image((angle * unit).astype("f4"), AFFINE)
    expected = join_phase(magnitude, phase, "phase").array
    np.testing.assert_allclose(expected, np.abs(cine) * np.exp(1j * angle), atol=1e-5)
    spilled()
    found = join_phase(magnitude, phase, "phase").array
    assert mapped_arrays.is_file_backed(found)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("extra", [(), ("--complex",), ("--undersample", 4, "--report", "page.html")])
def test_a_run_leaves_the_same_files_and_nothing_else(spilled, crnn, scan, bundle, tmp_path, monkeypatch, extra):
    monkeypatch.chdir(tmp_path)
    source = save(tmp_path / "truth.nii", moving_cine()) if "--undersample" in extra else scan[2]
    made = {}
    for name in ("small", "large"):
        if name == "large":
            spilled()
        asked = (*extra, "--preview", f"{name}.png", "--force", "-o", f"{name}.nii.gz")
        ended = crnn("reconstruct", source, "--model", bundle, *asked)
        assert ended.code == 0, ended.err
        report = json.loads((tmp_path / f"{name}.json").read_text())
        made[name] = [(tmp_path / f"{name}{suffix}").read_bytes() for suffix in (".nii.gz", ".png")]
        made[name] += [
            report["output_sha256"],
            report.get("quality_against_truth"),
            report["reliability"],
        ]
    assert made["small"] == made["large"]
    assert gzip.decompress(made["small"][0])[344:347] == b"n+1"
    assert not mapped()
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".crnn-")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nothing_is_left_after_an_error_in_the_middle(spilled, crnn, scan, bundle, tmp_path, monkeypatch, error):
    from crnn_cli.reconstruction.measurement import SingleCoilSource

    spilled()
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    measured, held = SingleCoilSource.measure, []

    def breaking(self, z, device):
        if z:
            held.extend(mapped())
            raise error
        return measured(self, z, device)

    monkeypatch.setattr(SingleCoilSource, "measure", breaking)
    ended = crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "o.nii")
    assert ended.code == {KeyboardInterrupt: 130, MemoryError: 5}[error]
    assert len(held) >= 3  # the scan, and both kinds of images
    assert not mapped()
    assert not list((tmp_path / "scratch").iterdir())
    assert not (tmp_path / "o.nii").exists()


def test_a_temporary_folder_that_is_not_there_ends_a_run(spilled, crnn, scan, bundle, tmp_path, monkeypatch):
    spilled()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    ended = crnn("reconstruct", scan[2], "--model", bundle, "-o", tmp_path / "o.nii")
    assert (ended.code, "TMPDIR" in ended.err, (tmp_path / "o.nii").exists()) == (1, True, False), ended.err


def test_images_in_files_are_read_by_others(spilled, tmp_path):
    image = Image(np.abs(moving_cine(9, 8, 3, 4)), AFFINE, 0.03)
    spilled()
    write_image(image, tmp_path / "a.nii.gz", "said")
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "a.nii.gz").dataobj), image.array)
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz").array, image.array)
