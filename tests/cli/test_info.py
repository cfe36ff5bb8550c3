"""``crnn info`` says what `crnn reconstruct` would do."""

import json

import nibabel as nib
import numpy as np
import pytest

from tests.support.cines import AFFINE, lines_mask, moving_cine, save, to_images, to_kspace
from tests.support.command_line import table_rows
from tests.support.data import data_file


def info(crnn, *arguments, **options):
    ended = crnn("info", *arguments, "--json", **options)
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


def test_an_undersampled_scan(crnn, scan):
    found = info(crnn, scan[2])
    lines = sorted({int(n) for n in scan[1][0, :, 0].sum(0)})
    assert found["sampling"]["phase_encoding_axis"] == "y"
    assert found["sampling"]["lines_per_frame"] == lines
    assert found["sampling"]["acceleration"] == pytest.approx(1 / scan[1][0].mean(), abs=1e-3)
    assert found["shape"] == [24, 20, 2, 6]
    assert found["frame_time_s"] == pytest.approx(0.03)
    assert found["doubts"] == []
    assert found["next_step"].startswith("crnn reconstruct")


def test_what_the_header_and_the_voxels_say(crnn, scan, tmp_path):
    found = info(crnn, scan[2])
    assert found["stored_type"] == "complex64"
    assert found["complex"] is True
    assert found["axes"] == "x, y, z, t"
    assert found["orientation"] == "".join(nib.aff2axcodes(AFFINE))
    assert found["spacing_mm"] == pytest.approx(np.linalg.norm(AFFINE[:3, :3], axis=0), abs=1e-3)
    assert found["minimum"] == pytest.approx(np.abs(scan[0]).min())
    assert found["maximum"] == pytest.approx(np.abs(scan[0]).max())
    assert found["sampling"]["n_undersampled_axes"] == 1
    assert found["next_step"] == f"crnn reconstruct {scan[2]}"
    integers = np.arange(-3, 21).reshape(2, 3, 4).astype(np.int16)
    found = info(crnn, save(tmp_path / "a.nii", integers, affine=np.diag([-1.5, 2, 8, 1])))
    assert found["stored_type"] == "int16"
    assert found["complex"] is False
    assert found["axes"] == "x, y, z"
    assert found["orientation"] == "LAS"
    assert (found["minimum"], found["maximum"]) == (-3, 20)


def test_sampling_is_that_of_the_middle_slice(crnn, tmp_path):
    masks = [lines_mask(24, 20, 6, seed=seed, share=share) for seed, share in enumerate((0.2, 0.5, 0.3))]
    kspace = to_kspace(moving_cine(z=3)) * np.concatenate(masks, axis=2)
    found = info(crnn, save(tmp_path / "a.nii", to_images(kspace).astype(np.complex64)))
    assert found["sampling"]["acceleration"] == pytest.approx(1 / masks[1].mean(), abs=1e-3)


def test_two_axes_undersampled_are_told(crnn, tmp_path):
    mask = np.random.default_rng(0).random((24, 20, 1, 6)) < 0.4
    file = save(tmp_path / "a.nii", to_images(to_kspace(moving_cine()) * mask).astype(np.complex64))
    sampling = info(crnn, file)["sampling"]
    assert sampling["n_undersampled_axes"] == 2
    assert sampling["lines_per_frame"] == [{"x": 24, "y": 20}[sampling["phase_encoding_axis"]]]


def test_stored_axes_can_be_named(crnn, tmp_path):
    file = save(tmp_path / "a.nii", np.abs(moving_cine(z=1))[:, :, 0])
    assert info(crnn, file, "--axes", "x,y,t")["shape"] == [24, 20, 1, 6]
    assert "24 x 20 x 1 x 6" in crnn("info", file, "--axes", "x,y,t").out.decode()


def test_standard_input(crnn, scan):
    assert info(crnn, "-", stdin=scan[2].read_bytes())["shape"] == [24, 20, 2, 6]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: np.abs(moving_cine()), "--undersample 4"),
        (lambda s: moving_cine(), "fully sampled"),
        (lambda s: s[..., 0], "--axes x,y,t"),
        (lambda s: s[..., :1], "one frame"),
    ],
)
def test_the_next_step_fits_the_file(crnn, scan, tmp_path, change, words):
    found = info(crnn, save(tmp_path / "a.nii", change(scan[0])))
    assert words in found["next_step"], found
    assert found["sampling"] is None


def test_a_3d_scan_undersampled_along_the_slices_is_told(crnn, tmp_path):
    rng = np.random.default_rng(0)
    kspace = rng.normal(size=(16, 12, 8, 4)) * (rng.random((1, 12, 8, 4)) < 0.4)
    file = save(tmp_path / "a.nii", to_images(np.fft.ifft(kspace, axis=2)).astype(np.complex64))
    assert "slice axis" in info(crnn, file)["next_step"]


def test_doubts_about_the_header_are_told(crnn, scan, tmp_path):
    file = save(tmp_path / "a.nii", scan[0], frame_time=0)
    assert info(crnn, file)["doubts"] == [{"code": "no-frame-time", "text": "the header gives no frame time"}]
    table = table_rows(crnn("info", file).out)
    assert table["doubt"] == ["the header gives no frame time (no-frame-time)"]
    assert table["frame time"] == ["unknown"]


def test_no_directions_are_told_where_no_header_says_them(crnn, tmp_path):
    """Neither in the description, nor in a caption, whatever shows slices."""
    from crnn_cli.data.geometry import NO_DIRECTIONS, displayed_directions, slice_order
    from crnn_cli.data.image import Image
    from crnn_cli.report.label_montage import labelled_slices

    array = np.abs(moving_cine(z=3)).astype(np.float32)
    file = save(tmp_path / "a.nii", array, affine=np.diag([1.4, 1.4, 8, 1]))
    header = nib.load(file)
    header.set_sform(header.affine, 0)
    header.set_qform(header.affine, 0)
    nib.save(header, tmp_path / "lost.nii")
    assert info(crnn, file)["orientation"] == "RAS"
    assert info(crnn, tmp_path / "lost.nii")["orientation"] is None
    assert table_rows(crnn("info", tmp_path / "lost.nii").out)["axes run to"] == ["not known"]
    labels = np.zeros(array.shape, np.uint8)
    for codes, wanted in (((1, 1), "left R, top A"), ((0, 0), NO_DIRECTIONS)):
        image = Image(array, np.diag([1.4, 1.4, 8, 1]), 0.03, codes)
        assert displayed_directions(image) == wanted
        assert labelled_slices(image, labels, slice_order(image, "axial")).directions == wanted


def test_nothing_finite_is_told_too(crnn, tmp_path):
    found = info(crnn, save(tmp_path / "a.nii", np.full((4, 4, 1, 3), np.nan, np.float32)))
    assert found["doubts"][-1]["text"] == "48 voxels are NaN or infinite"


def test_nan_is_counted(crnn, scan, tmp_path):
    array = scan[0].copy()
    array[0, 0, 0, :2] = np.nan
    assert any("2 voxels" in doubt["text"] for doubt in info(crnn, save(tmp_path / "a.nii", array))["doubts"])


def test_table_for_people(crnn, scan, tmp_path):
    ended = crnn("info", scan[2])
    assert ended.err == ""
    found, table = info(crnn, scan[2]), table_rows(ended.out)
    lines = found["sampling"]["lines_per_frame"]
    sampling = f"{found['sampling']['acceleration']:.2f}x along y, {lines[0]}-{lines[-1]} lines a frame"
    assert table["format"] == ["NIfTI, complex64"]
    assert table["shape (x, y, z, t)"] == ["24 x 20 x 2 x 6"]
    assert table["spacing"] == [" x ".join(f"{v:g}" for v in found["spacing_mm"]) + " mm"]
    assert table["axes run to"] == ["".join(nib.aff2axcodes(AFFINE))]
    assert table["frame time"] == ["30 ms"]
    assert table["magnitude"] == [f"{found['minimum']:g} to {found['maximum']:g}"]
    assert table["sampling"] == [sampling]
    assert f"next: crnn reconstruct {scan[2]}\n".encode() in ended.out
    assert "values" in table_rows(crnn("info", save(tmp_path / "a.nii", np.abs(scan[0]))).out)


def test_lost_spacing_of_real_files_is_noticed(crnn):
    assert any("1 x 1 x 1" in d["text"] for d in info(crnn, data_file("acdc_cine", "patient041_4d.nii.gz"))["doubts"])


def test_unreadable(crnn, tmp_path):
    (tmp_path / "a.nii").write_text("no")
    assert crnn("info", tmp_path / "a.nii").code == 3
    assert crnn("info", tmp_path / "b.nii").code == 3
