"""``--slice K``: what comes out is slice K of the whole run, where it lies, and no other slice is reconstructed."""

import json
import re

import nibabel as nib
import numpy as np
import pytest
import torch

from crnn_cli.data.image import Image
from crnn_cli.io.dicom.read import read_series
from crnn_cli.reconstruction.reconstruct import ClassicalReconstructor, reconstruct
from crnn_cli.report.rows import reliability_rows
from crnn_cli.workflows.reconstruct.scan import ScanRequest, Simulation, load_scan, select_slice
from tests.cli.test_raw_reconstruct import sensitivities
from tests.support.cines import AFFINE, moving_cine, save, to_kspace
from tests.support.dicom import values, write_series
from tests.support.ismrmrd import Options, write_scan


def both(crnn, folder, scan, *asked, number=2):
    """Return the images of the whole run, those of the run of one slice, and its report."""
    whole = crnn("reconstruct", scan, *asked, "-o", folder / "whole.nii")
    assert whole.code == 0, whole.err
    one = crnn("reconstruct", scan, *asked, "--slice", number, "-o", folder / "one.nii", "--json")
    assert one.code == 0, one.err
    return nib.load(folder / "whole.nii"), nib.load(folder / "one.nii"), json.loads(one.out)


def require_same(whole, one, number=2):
    """The slice has the values of the whole, and lies where it lay there, if that is known."""
    z = number - 1
    assert one.shape == (*whole.shape[:2], 1, whole.shape[3])
    np.testing.assert_array_equal(np.asanyarray(one.dataobj)[:, :, 0], np.asanyarray(whole.dataobj)[:, :, z])
    np.testing.assert_allclose(one.header.get_zooms(), whole.header.get_zooms())
    codes = [int(image.header[name]) for image in (whole, one) for name in ("qform_code", "sform_code")]
    assert codes[:2] == codes[2:]
    for voxel in ([0, 0, 0, 1], [3, 5, 0, 1], [3, 5, 1, 1]) if any(codes) else ():
        there = whole.affine @ np.add(voxel, [0, 0, z, 0])
        np.testing.assert_allclose(one.affine @ voxel, there, atol=1e-4)


@pytest.mark.parametrize("more", [(), ("--undersample", 3, "--seed", 4, "--hold-out-folds", 1)])
def test_of_images(crnn, bundle, scan, tmp_path, more):
    source = save(tmp_path / "truth.nii", moving_cine(z=3)) if more else scan[2]
    whole, one, report = both(crnn, tmp_path, source, "--model", bundle, *more)
    require_same(whole, one)
    assert (report["input"]["slice"], report["input"]["slices"]) == (2, whole.shape[2])
    if more:
        truth = np.abs(moving_cine(z=3)[:, :, 1])
        error = np.asanyarray(one.dataobj)[:, :, 0] - truth
        expected = 20 * np.log10(truth.max()) - 10 * np.log10(np.mean(error**2))
        assert report["quality_against_truth"]["reconstructed"]["psnr_db"] == pytest.approx(expected, abs=1e-3)


def test_the_pattern_is_that_of_the_slice(tmp_path):
    source = save(tmp_path / "truth.nii", moving_cine(z=3))
    whole = load_scan(ScanRequest(source, simulation=Simulation(4, "variable-density", None, "y", 1)))
    method, cpu = ClassicalReconstructor("zero-filled", None, 0), torch.device("cpu")
    mask_ZTYX = reconstruct(whole.slices, method, cpu).mask_ZTYX
    assert (mask_ZTYX[1] != mask_ZTYX[0]).any()
    np.testing.assert_array_equal(reconstruct(select_slice(whole, 2).slices, method, cpu).mask_ZTYX, mask_ZTYX[1:2])


def test_of_raw_data_reads_no_other(crnn, tmp_path, monkeypatch):
    from crnn_cli.io.kspace.ismrmrd.grid import Lines

    write_scan(tmp_path / "raw.h5", Options(samples=16, lines=16, frames=3, slices=3, tilt=2, acceleration=2))
    asked = (tmp_path / "raw.h5", "--method", "tv", "--save-maps", tmp_path / "maps.npy", "--force")
    read, seen = Lines.read, []
    whole, one, report = both(crnn, tmp_path, *asked, number=3)
    require_same(whole, one, 3)
    assert len(report["coils"]) == 1
    assert np.load(tmp_path / "maps.npy").shape[0] == 1
    monkeypatch.setattr(Lines, "read", lambda self, number, plane: seen.append(number) or read(self, number, plane))
    ended = crnn("reconstruct", *asked, "--slice", 3, "-o", tmp_path / "again.nii")
    assert ended.code == 0, ended.err
    assert len(set(seen)) == 1


def test_maps_of_all_slices_go_with_one(crnn, tmp_path):
    maps = np.stack([sensitivities(), sensitivities()[::-1]]).astype(np.complex64)
    truth = moving_cine(z=2, noise=0)
    seen = truth[:, :, None] * maps.transpose(3, 2, 1, 0)[..., None]
    np.save(tmp_path / "k.npy", to_kspace(seen).transpose(3, 2, 4, 1, 0).astype(np.complex64))
    np.save(tmp_path / "m.npy", maps)
    asked = ("--axes", "slice,coil,t,ky,kx", "--method", "sense", "--maps", tmp_path / "m.npy")
    whole, one, _ = both(crnn, tmp_path, tmp_path / "k.npy", *asked)
    require_same(whole, one)
    np.testing.assert_allclose(np.asanyarray(one.dataobj)[:, :, 0], np.abs(truth[:, :, 1]), atol=0.01)


def test_a_derived_series_of_one_slice_lies_on_the_source(crnn, bundle, tmp_path):
    write_series(tmp_path / "scan", values(3, 4, 16, 16, high=900))
    asked = ("--undersample", 2, "--model", bundle, "--slice", 3, "--format", "dicom", "-o", tmp_path / "out")
    ended = crnn("reconstruct", tmp_path / "scan", *asked)
    assert ended.code == 0, ended.err
    source, made = read_series(tmp_path / "scan")[2], read_series(tmp_path / "out")[2]
    assert (made.slices, made.frames) == (1, 4)
    np.testing.assert_allclose(source.one_slice(2).affine[:3, 3], (source.affine @ [0, 0, 2, 1])[:3])
    assert made.grid[0][0].position == source.grid[2][0].position
    np.testing.assert_allclose(made.affine[:3, 3], (source.affine @ [0, 0, 2, 1])[:3], atol=1e-3)


def test_pictures_and_pages_name_the_slice_of_the_scan(crnn, bundle, tmp_path, monkeypatch):
    from crnn_cli.report import comparison_montage
    from crnn_cli.report import montage as preview

    said, draw, still = [], preview.preview_output, preview.still_picture
    compared = comparison_montage.comparison_output
    monkeypatch.setattr(preview, "preview_output", lambda *given: said.append(given[-1]) or draw(*given))
    monkeypatch.setattr(
        comparison_montage, "comparison_output", lambda *given: said.append(given[-1]) or compared(*given)
    )
    monkeypatch.setattr(preview, "still_picture", lambda *given: said.append(given[-1]) or still(*given))
    source = save(tmp_path / "truth.nii", moving_cine(z=4))
    asked = ("--undersample", 2, "--model", bundle, "--slice", 4, "--preview", tmp_path / "p.png")
    ended = crnn("reconstruct", source, *asked, "-o", tmp_path / "o.nii")
    assert ended.code == 0, ended.err
    ended = crnn("compare", source, "--undersample", 2, "--methods", "zero-filled", *asked[4:], "--force")
    assert ended.code == 0, ended.err
    assert crnn("report", tmp_path / "o.nii").code == 0
    assert [re.search("slice . of .", caption).group() for caption in said] == ["slice 4 of 4"] * 3
    text = (tmp_path / "o.html").read_text()
    viewed = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text, re.S)[1])
    assert (viewed["numbers"], viewed["total"], len(viewed["images"])) == ([4], 4, 1)


@pytest.mark.parametrize(("source", "named"), [({"slice": 4, "slices": 7}, 4), ({}, 1), (None, 1)])
def test_frames_that_stand_out_are_of_the_slice_of_the_scan(source, named):
    odd = {"frame": 3, "slice": 1, "ratio_to_expected": 2.0, "measure": "residual"}
    held = {"overall": None, "reason": "not asked for"}
    reliability = {"held_out": held, "null_space_energy_fraction": {"overall": None}, "outlier_frames": [odd]}
    assert f"frame 4 of slice {named} (2.0 x" in reliability_rows({"input": source, "reliability": reliability})[-1][1]


@pytest.mark.parametrize("command", ["reconstruct", "compare"])
def test_a_slice_that_is_not_there_and_3d_scans_are_refused(crnn, scan, tmp_path, command):
    ended = crnn(command, scan[2], "--slice", 9)
    assert (ended.code, "there is no slice 9: the scan has 2" in ended.err) == (2, True), ended.err
    assert crnn(command, scan[2], "--slice", 0).code == 2
    together = np.fft.fftshift(np.fft.fft(to_kspace(moving_cine(z=12)), axis=2), 2)
    np.save(tmp_path / "k.npy", together.transpose(3, 2, 1, 0)[None].astype(np.complex64))
    ended = crnn(command, tmp_path / "k.npy", "--axes", "coil,t,kz,ky,kx", "--slice", 1)
    assert (ended.code, "encoded in three dimensions" in ended.err) == (2, True), ended.err


def test_a_slice_of_an_image_keeps_a_second_place_too():
    array = np.arange(24.0).reshape(2, 3, 4, 1)
    other = AFFINE.copy()
    other[:3, 3] += 7
    one = Image(array, AFFINE, qform=other).select_slice(2)
    np.testing.assert_array_equal(one.array, array[:, :, 2:3])
    for found, before in ((one.affine, AFFINE), (one.qform, other)):
        np.testing.assert_allclose(found @ [1, 2, 0, 1], before @ [1, 2, 2, 1])
