"""``crnn info`` on raw k-space: what is in the file, from its headers and one slice."""

import json

import numpy as np
import pytest

from tests.cli.test_raw_reconstruct import AXES, measured
from tests.support.command_line import table_rows
from tests.support.data import data_file
from tests.support.ismrmrd import Options, write_scan


def described(crnn, *arguments):
    ended = crnn("info", *arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_an_array_is_described_by_the_axes_that_are_named(crnn, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    np.save(tmp_path / "k.npy", measured()[1])
    found = described(crnn, tmp_path / "k.npy", "--axes", AXES)
    assert (found["format"], found["slices"], found["coils"], found["frames"]) == ("NumPy", 2, 3, 6)
    assert found["grid"] == [20, 24]
    assert found["image_shape"] == [24, 20, 2, 6]
    assert found["lines_per_frame"] == [14]
    assert found["acceleration"] == pytest.approx(20 / 14, abs=1e-3)
    assert (found["calibration_lines"], found["n_undersampled_axes"], found["noise_scan"]) == (20, 1, False)
    assert f"--axes {AXES}" in found["next_step"]
    table = table_rows(crnn("info", tmp_path / "k.npy", "--axes", AXES).out)
    assert table["slices, coils, frames"] == ["2, 3, 6"]
    assert table["sampling"][0].startswith("1.43x along one axis, 14 lines")


def test_ismrmrd_is_described_with_geometry_noise_and_calibration(crnn, tmp_path):
    options = Options(
        samples=16, lines=16, coils=2, acceleration=2, calibration="separate", noise=np.eye(2), oversampling=2
    )
    made = write_scan(tmp_path / "raw.h5", options)
    found = described(crnn, tmp_path / "raw.h5")
    assert (found["format"], found["coils"], found["frames"]) == ("ISMRMRD", 2, 3)
    assert found["grid"] == [16, 32]
    assert found["field_shown"] == [1.0, 0.5]
    assert found["image_shape"] == [16, 16, 2, 3]
    assert found["acceleration"] == pytest.approx(2, abs=0.3)
    assert (found["noise_scan"], found["separate_calibration"]) == (True, True)
    assert found["frame_time_s"] == pytest.approx(made.frame_time, rel=0.01)
    np.testing.assert_allclose(found["spacing_mm"], np.linalg.norm(made.affine[:3, :3], axis=0), rtol=1e-3)


@pytest.mark.parametrize(("more", "said"), [(["--series", "1"], "DICOM"), (["--slice-tolerance", "1"], "ISMRMRD")])
def test_options_of_dicom_do_not_fit(crnn, tmp_path, more, said):
    np.save(tmp_path / "k.npy", measured()[1])
    ended = crnn("info", tmp_path / "k.npy", "--axes", AXES, *more)
    assert (ended.code, said in ended.err) == (2, True)


def test_a_variable_belongs_to_raw_data(crnn, scan):
    ended = crnn("info", scan[2], "--variable", "kspace")
    assert (ended.code, "--variable" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("name", "axes", "wanted"),
    [
        ("ksp.cfl", None, {"format": "BART", "coils": 8, "frames": 1, "grid": [230, 180], "n_undersampled_axes": 2}),
        ("cartesian_ksp.npy", "coil,ky,kx", {"format": "NumPy", "coils": 8, "frames": 1, "grid": [230, 180]}),
        (
            "hp13c_lactate_prospective.mat", "kx,ky,kz,t",
            {"format": "MATLAB", "coils": 1, "frames": 13, "image_shape": [80, 40, 12, 13], "acceleration": 3.982},
        ),
        (
            "meas_MID00349_FID09273_SNR_R3.h5", None,
            {
                "format": "ISMRMRD", "coils": 14, "grid": [144, 384], "field_shown": [1.0, 0.5], "noise_scan": True,
                "image_shape": [192, 144, 1, 1], "spacing_mm": [1.4583, 1.4583, 8.0], "lines_per_frame": [36],
                "calibration_lines": 48, "separate_calibration": True, "acceleration": 4.0,
            },
        ),
    ],
)  # fmt: skip
def test_every_real_file_is_described_rightly(crnn, name, axes, wanted):
    found = described(crnn, data_file("kspace", name), *(["--axes", axes] if axes else []))
    assert {key: found[key] for key in wanted} == wanted
