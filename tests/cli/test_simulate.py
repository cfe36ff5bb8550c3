"""Laws of ``crnn simulate``: what it writes is one scan, the same every time, and it refuses before it works."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from crnn_cli.cli import console
from crnn_cli.cli.simulate import simulate
from crnn_cli.data.acquisition import from_zero_filled
from crnn_cli.errors import OutputError, UsageError
from crnn_cli.io.nifti.image import read_image
from crnn_cli.mri.phantom.anatomy import BODY
from crnn_cli.mri.sampling import PATTERNS
from crnn_cli.workflows.simulate import fitting_spacing, parse_size, phantom_affine

app = typer.Typer()
app.command()(simulate)
SMALL = ["--size", "33x38", "--frames", "3", "--undersample", "4"]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    console.listen()
    console.Verbosity.level = 1
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def made(folder, *arguments):
    """Simulate into a folder; return the report and the arrays by kind, axes (x, y, z, t) or as stored."""
    result = run("-o", folder / "scan", *SMALL, "--json", *arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    arrays = {}
    for kind, name in report["files"].items():
        arrays[kind] = np.load(name) if name.endswith(".npy") else np.asanyarray(nib.load(name).dataobj)
    return report, arrays


def kspace(images_xyzt):
    moved = np.fft.ifftshift(images_xyzt.astype(np.complex128), (0, 1))
    return np.fft.fftshift(np.fft.fft2(moved, axes=(0, 1), norm="ortho"), (0, 1))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_zero_filled_images_are_the_truth_at_the_mask_plus_noise_and_nothing_else(tmp_path, pattern):
    report, found = made(tmp_path, "--snr", "50", "--pattern", pattern, "--slices", "2")
    mask = found["mask"].astype(bool)
    assert mask.shape == (33, 38, 1, 3)
    assert found["truth"].shape == found["zerofilled"].shape == (33, 38, 2, 3)
    assert found["truth"].dtype == found["zerofilled"].dtype == np.complex64
    measured, truth = kspace(found["zerofilled"]), kspace(found["truth"])
    off = np.broadcast_to(~mask, measured.shape)
    assert np.abs(measured[off]).max() < 1e-6 * np.abs(measured).max()
    noise = (measured - truth)[~off]
    assert noise.real.std() == pytest.approx(1 / 50, rel=0.05)
    assert noise.imag.std() == pytest.approx(1 / 50, rel=0.05)
    assert (mask == mask[:1]).all()
    assert report["acceleration"] == pytest.approx(mask.size / mask.sum(), rel=1e-4)
    assert set(report["lines_per_frame"]) == set(mask[0].sum(axis=(0, 1)).tolist())


def test_the_reader_finds_the_pattern_in_the_images(tmp_path):
    report, found = made(tmp_path)
    acquisition = from_zero_filled(read_image(tmp_path / "scan_zerofilled.nii.gz"))
    assert acquisition.phase_axis == 1
    assert np.array_equal(acquisition.mask_ZTYX[0, :, :, 0], found["mask"][0, :, 0].T.astype(bool))
    assert acquisition.acceleration == pytest.approx(report["acceleration"], rel=1e-4)


def test_several_coils_leave_their_kspace_and_sensitivities(tmp_path):
    report, found = made(tmp_path, "--coils", "3", "--slices", "2", "--snr", "1e6")
    assert set(report["files"]) == {"truth", "zerofilled", "mask", "kspace", "coils"}
    assert found["kspace"].shape == (2, 3, 3, 38, 33)
    assert found["kspace"].dtype == found["coils"].dtype == np.complex64
    lines = found["mask"][0, :, 0].T.astype(bool)
    assert not found["kspace"].transpose(2, 3, 0, 1, 4)[~lines].any()
    assert found["kspace"].transpose(2, 3, 0, 1, 4)[lines].all()
    images = np.fft.ifft2(np.fft.ifftshift(found["kspace"], (-2, -1)), norm="ortho")
    images, maps = np.fft.fftshift(images, (-2, -1)), found["coils"]
    weight = np.sqrt((np.abs(maps) ** 2).sum(axis=0)).T[..., None, None]
    combined = np.einsum("cyx,zctyx->xyzt", maps.conj(), images) / weight
    assert np.allclose(combined, found["zerofilled"], atol=1e-5)


def test_fully_sampled_combination_of_coils_is_the_truth_but_for_edges(tmp_path):
    _, found = made(tmp_path, "--coils", "4", "--snr", "inf", "--undersample", "1", "--size", "96")
    error = np.linalg.norm(found["zerofilled"] - found["truth"]) / np.linalg.norm(found["truth"])
    assert error < 0.03


@pytest.mark.parametrize("method", ["zero-filled", "sense"])
def test_a_fully_sampled_scan_of_several_coils_scores_as_such(crnn, tmp_path, method):
    """Images are as bright as the truth, whatever the coils shade."""
    _, found = made(tmp_path, "--coils", "6", "--snr", "500", "--undersample", "1", "--size", "96")
    asked = ("--axes", "slice,coil,t,ky,kx", "--method", method, "--hold-out-folds", 0, "-o", tmp_path / "o.nii")
    ended = crnn("reconstruct", tmp_path / "scan_kspace.npy", *asked)
    assert ended.code == 0, ended.err
    images, truth = np.asanyarray(nib.load(tmp_path / "o.nii").dataobj), np.abs(found["truth"])
    assert 20 * np.log10(truth.max() / np.sqrt(((images - truth) ** 2).mean())) > 38


def test_one_coil_without_noise_and_undersampling_is_the_truth(tmp_path):
    report, found = made(tmp_path, "--snr", "inf", "--undersample", "1")
    assert report["snr"] is None
    assert np.allclose(found["zerofilled"], found["truth"], atol=1e-6)


def test_same_seed_same_bytes_other_seed_another_scan(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        (tmp_path / name).mkdir()
        made(tmp_path / name, "--seed", seed, "--coils", "2")
    for file in sorted(path.name for path in (tmp_path / "a").iterdir()):
        first, again, other = ((tmp_path / name / file).read_bytes() for name in "abc")
        assert first == again
        if file.endswith(".nii.gz"):  # the voxels: the seed is also in the header
            first, other = (gzip.decompress(content)[352:] for content in (first, other))
        assert (first != other) or "coils" in file


def test_heart_beats_in_the_files(tmp_path):
    """The images change most where the heart is: left of the middle (x to the right)."""
    _, found = made(tmp_path, "--size", "64", "--frames", "6")
    change = np.abs(found["truth"]).std(axis=3)[..., 0]
    x, y = np.unravel_index(change.argmax(), change.shape)
    assert 18 < x < 36
    assert 24 < y < 44


def test_an_independent_reader_sees_the_geometry(tmp_path):
    report, _ = made(tmp_path, "--slices", "3", "--frame-time", "35", "--spacing", "9.5")
    for kind in ("truth", "zerofilled", "mask"):
        header = nib.load(report["files"][kind]).header
        assert header.get_zooms() == pytest.approx((9.5, 9.5, 10.0, 0.035))
        assert header.get_xyzt_units() == ("mm", "sec")
        assert b"SIMULATED" in bytes(header["descrip"])
    affine = nib.load(report["files"]["truth"]).affine
    assert affine @ [16, 19, 1, 1] == pytest.approx([0, 0, 0, 1])
    assert np.allclose(affine[:3, :3], np.diag([9.5, 9.5, 10]))
    assert report["spacing_mm"] == [9.5, 9.5, 10.0]
    assert report["shape"] == [33, 38, 3, 3]


def test_more_slices_than_fit_at_10_mm_lie_closer(tmp_path):
    report, _ = made(tmp_path, "--size", "16", "--slices", "10", "--frames", "2")
    assert report["spacing_mm"][2] == 8
    assert nib.load(report["files"]["truth"]).header.get_zooms()[2] == pytest.approx(8)


def test_oblique_slices_are_turned_but_not_skewed_or_mirrored():
    affine = phantom_affine((40, 31, 4), 1.5, 8.0, oblique=True)
    directions = affine[:3, :3] / [1.5, 1.5, 8.0]
    assert np.allclose(directions.T @ directions, np.eye(3), atol=1e-12)
    assert np.linalg.det(directions) == pytest.approx(1)
    assert np.count_nonzero(np.abs(directions) > 0.1) > 3
    assert np.allclose(affine @ [20, 15, 2, 1], [0, 0, 0, 1])


def test_default_field_of_view_holds_the_body(tmp_path):
    for samples, lines in ((192, 192), (192, 100), (64, 192), (17, 16)):
        spacing = fitting_spacing(samples, lines)
        assert samples * spacing > BODY[0]
        assert lines * spacing > BODY[1]
    assert "folds" not in run("-o", tmp_path / "a", *SMALL).stderr
    assert "folds" in run("-o", tmp_path / "b", *SMALL, "--spacing", "2").stderr


def test_several_coils_come_with_a_warning(tmp_path):
    assert "kspace.npy" in run("-o", tmp_path / "two", *SMALL, "--coils", "2", "--spacing", "11").stderr
    assert "warning" not in run("-o", tmp_path / "one", *SMALL).stderr


def test_a_folder_is_filled_and_nothing_is_replaced_unasked(tmp_path):
    assert run("-o", tmp_path, *SMALL).exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {f"phantom_{kind}.nii.gz" for kind in ("truth", "zerofilled", "mask")}
    (tmp_path / "phantom_truth.nii.gz").unlink()
    refused = run("-o", tmp_path, *SMALL, "--seed", "9")
    assert isinstance(refused.exception, OutputError)
    assert "force" in str(refused.exception)
    assert not (tmp_path / "phantom_truth.nii.gz").exists()
    assert run("-o", tmp_path, *SMALL, "--seed", "9", "--force").exit_code == 0
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(after) == set(before)
    assert all(after[name] != before[name] for name in after)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--size", "15"],
        ["--size", "192x8"],
        ["--size", "big"],
        ["--size", "64x64x64"],
        ["--size", "²²"],
        ["--size", "99999999"],
        ["--frames", "1"],
        ["--slices", "0"],
        ["--coils", "0"],
        ["--coils", "1000000"],
        ["--undersample", "39"],
        ["--undersample", "0.5"],
        ["--undersample", "nan"],
        ["--pattern", "spiral"],
        ["--centre-lines", "38"],
        ["--centre-lines", "-1"],
        ["--snr", "0"],
        ["--snr", "nan"],
        ["--breathing", "11"],
        ["--breathing", "-1"],
        ["--spacing", "0"],
        ["--spacing", "inf"],
        ["--frame-time", "0"],
        ["--frame-time", "nan"],
        ["--seed", "-1"],
        ["--seed", str(2**63)],
    ],
)
def test_wrong_usage_is_one_clear_line_and_leaves_nothing(tmp_path, wrong):
    result = run("-o", tmp_path / "scan", *SMALL, *wrong)
    assert isinstance(result.exception, UsageError), result.output
    assert len(str(result.exception).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_one_file_name_is_refused_because_several_are_written(tmp_path):
    result = run("-o", tmp_path / "scan.nii.gz", *SMALL)
    assert isinstance(result.exception, UsageError)
    assert "several" in str(result.exception)


def test_missing_folder_is_refused(tmp_path):
    assert isinstance(run("-o", tmp_path / "nowhere" / "scan", *SMALL).exception, OutputError)


@pytest.mark.parametrize(("text", "size"), [("192", (192, 192)), ("192x160", (192, 160)), ("17X16", (17, 16))])
def test_sizes_are_understood(text, size):
    assert parse_size(text) == size


def test_help_shows_an_example_every_pattern_and_where_the_coils_go():
    shown = " ".join(run("--help").stdout.replace("│", " ").split())
    assert "Example: crnn simulate" in shown
    assert all(pattern in shown for pattern in PATTERNS)
    assert "OUT_kspace.npy (slice, coil, t, ky, kx)" in shown


def test_the_command_line_loads_nothing_heavy():
    code = "import sys, crnn_cli.cli.simulate; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'nibabel')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
