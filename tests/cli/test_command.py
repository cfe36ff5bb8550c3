"""What all commands share: options that stand anywhere, usage errors in one line, completion, pipes that close."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from crnn_cli.cli import console, values
from crnn_cli.cli.app import bound_spinning
from crnn_cli.cli.remedies import HOMES
from crnn_cli.errors import UsageError
from tests.support.cines import save
from tests.support.data import ROOT
from tests.support.dicom import values as dicom_values
from tests.support.dicom import write_series


@pytest.mark.parametrize("line", ["-q info {}", "info -q {}", "info {} -q", "info {} --quiet"])
def test_quiet_stands_before_or_after_the_command(crnn, scan, line):
    ended = crnn(*line.format(scan[2]).split())
    assert (ended.code, ended.err) == (0, "")
    assert b"complex64" in ended.out
    assert console.Verbosity.level == 0
    crnn("info", scan[2])
    assert console.Verbosity.level == 1


@pytest.mark.parametrize("line", ["-v models list", "models -v list", "models list -v", "-q models list -v"])
def test_verbose_stands_anywhere_and_the_last_one_counts(crnn, line):
    assert crnn(*line.split()).code == 0
    assert console.Verbosity.level == 2


@pytest.mark.parametrize("line", ["--json models list", "models --json list", "models list --json"])
def test_json_stands_anywhere(crnn, line):
    ended = crnn(*line.split())
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)


def test_json_of_a_command_that_has_none_is_refused(crnn):
    ended = crnn("--json", "convert", "a.nii", "b.nii")
    assert (ended.code, ended.out) == (2, b"")
    assert "crnn convert prints no JSON" in ended.err


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("reconstruct a.nii --prevew b.png", "did you mean --preview?"),
        ("reconstruct a.nii --weight 1", "did you mean --regularisation?"),
        ("reconstruct a.nii --uneven 1", "did you mean --slice-tolerance?"),
        ("reconstruct a.nii --method sens", "did you mean sense?"),
        ("reconstruct a.nii --method TV", "did you mean tv?"),
        ("reconstruct a.nii --device gpu", "did you mean cuda?"),
        ("reconstruct a.nii --device cdua:1", "did you mean cuda?"),
        ("reconstruct a.nii --undersample 4 --pattern variable", "did you mean variable-density?"),
        ("reconstruct a.nii --format dcm", "use nifti, dicom or mrd"),
        ("reconstruct a.nii --precision fp16", "did you mean"),
        ("reconstruct a.nii --iterations 200", "--iterations"),
        ("reconstruct", "SCAN"),
        ("batch segment a.nii -o out --format dicm", "did you mean dicom?"),
        ("segment a.nii --slices 3-5", "did you mean auto:3-5?"),
        ("segment a.nii --slices 3", "did you mean auto:3-3?"),
        ("segment a.nii --slices sideways:3-5", "--slices sideways:3-5 is not understood: use auto, axial"),
        ("segment a.nii --slices :3-5", "--slices :3-5 is not understood"),
        ("segment --slices axail a.nii", "did you mean axial?"),
        ("train segment data -o x --precision bf15", "did you mean bf16?"),
        ("recontruct a.nii", "reconstruct"),
        ("models lst", "list"),
    ],
)
def test_wrong_usage_is_one_line_with_the_nearest_value(crnn, tmp_path, monkeypatch, line, words):
    monkeypatch.chdir(tmp_path)
    ended = crnn(*line.split())
    assert (ended.code, ended.out) == (2, b"")
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    assert words in ended.err


REFUSED_AT_ONCE = (
    "reconstruct scan.nii --method sens", "reconstruct scan.nii --nois 1", "reconstruct scan.nii --adapt 5x",
    "reconstruct absent.nii", "segment absent.nii", "segment scan.nii --slices axail",
    "convert scan.nii out.nii --modality CT", "train segment data -o x --epochs 0", "simulate --size big",
)  # fmt: skip


def test_wrong_usage_is_refused_before_torch_is_loaded(tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"no scan")
    code = (
        "import sys\nfrom crnn_cli.cli.app import main\n"
        f"for line in {REFUSED_AT_ONCE!r}:\n"
        "    sys.argv, code = ['crnn', *line.split()], 0\n"
        "    try: main()\n    except SystemExit as end: code = end.code\n"
        "    assert code in (2, 3), (line, code)\n    assert 'torch' not in sys.modules, line"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("error: ") == len(REFUSED_AT_ONCE)


def test_reconstruction_of_nifti_loads_no_other_format(tmp_path):
    code = (
        "import sys\nfrom crnn_cli.__main__ import main\n"
        f"sys.argv = ['crnn', 'reconstruct', {str(ROOT / 'sample_data/cine_undersampled.nii.gz')!r},\n"
        "            '-o', 'out.nii.gz', '--method', 'zero-filled']\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "print(*sorted({'h5py', 'scipy.io', 'crnn_cli.io.dicom', 'crnn_cli.io.kspace.bart'} & set(sys.modules)))\n"
        "import gc; print(gc.get_threshold()[0])"
    )
    command, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path, env=environment)
    assert ended.stdout.splitlines()[-2:] == ["", "10000"]


def test_a_file_named_like_a_plane_is_the_volume(crnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "axial1").write_bytes(b"no image")
    assert "axial1" in crnn("segment", "--slices", "axial1").err


def test_values_are_those_of_the_library():
    from crnn_cli.mri.sampling import PATTERNS
    from crnn_cli.workflows.reconstruct.methods import method_names

    assert [*values.METHODS] == method_names()
    assert [*values.PATTERNS] == [*PATTERNS]
    for name in ("auto", "cpu", "cuda", "cuda:1", "mps"):
        assert values.check_device(name) == name
    for name in ("auto", "axial:10-40", "coronal", None):
        assert values.check_slices(name) == name
    with pytest.raises(UsageError):
        values.check_device("cpu:1")


PROPOSED = {
    "reconstruct a.nii --method s": {"sliding-window", "sense"},
    "reconstruct a.nii --model cine": {"cine-crnn", "cine-crnn-fast", "cine-crnn-live"},
    "forecast a.nii --model c": {"cine-forecast"},
    "reconstruct a.nii --pattern s": {"sheared-grid"},
    "segment a.nii --device cu": {"cuda"},
    "segment a.nii --slices ax": {"axial"},
    "batch reconstruct a.nii --precision bf": {"bf16"},
    "models show hip": {"hippocampus-clstm"},
}


def test_values_complete_in_the_shell_without_anything_heavy():
    code = (
        "import os, sys\nfrom crnn_cli.cli.app import main\n"
        f"for words in {[*PROPOSED]!r}:\n"
        "    os.environ |= {'COMP_WORDS': f'crnn {words}', 'COMP_CWORD': str(len(words.split()))}\n"
        "    try: main()\n    except SystemExit: pass\n"
        "    assert not {'torch', 'numpy', 'nibabel', 'pydicom'} & set(sys.modules), words\n"
        "    print('--')"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "_CRNN_COMPLETE": "complete_bash"}
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    said = [{*part.split()} for part in ended.stdout.split("--\n")[:-1]]
    assert dict(zip(PROPOSED, said, strict=True)) == PROPOSED


@pytest.mark.parametrize("line", ["--help", "--version", "models list", "models list --json", "reconstruct --help"])
def test_a_reader_that_closes_early_ends_the_program_without_a_word(line):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "crnn_cli", *line.split()]
    with os.fdopen(writing, "w") as closed:
        ended = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("line", ["--help", "models list --json", "convert - -"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_result_that_was_written_in_part_is_no_success(line, unbuffered, tmp_path):
    """A write to a file at its limit takes what has room, and says nothing."""
    import resource

    image = save(tmp_path / "image.nii", np.ones((16, 16, 4), np.float32)).read_bytes()
    command = [sys.executable, "-B", "-m", "crnn_cli", *line.split()]  # no bytecode that the limit cuts off
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with (tmp_path / "result").open("wb") as result:
        ended = subprocess.run(
            command, input=image, stdout=result, stderr=subprocess.PIPE, check=False, cwd=ROOT, env=environment,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)),
        )  # fmt: skip
    assert (ended.returncode, ended.stderr.count(b"\n")) == (1, 1), ended.stderr


@pytest.mark.parametrize(
    ("line", "start", "words"),
    [
        ("info -", b"\x89HDF\r\n\x1a\n" + bytes(400), "it looks like an HDF5 file: name the file instead of -"),
        ("info -", b"\x03\0\x90\1\0\0<ismrmrdHeader>" + bytes(400), "MRD messages: give it to crnn reconstruct - with"),
        ("convert - -", b"no image" * 50, "it begins with b'no image"),
        ("reconstruct - --stream", None, "standard input is closed; pipe MRD messages or a NIfTI file in"),
        ("reconstruct -", None, "standard input is closed; pipe a NIfTI file in"),
    ],
)
def test_standard_input_that_is_nothing_to_read_is_named(tmp_path, line, start, words):
    code = "import sys; sys.stdin = None" if start is None else ""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"{code}\nfrom crnn_cli.cli.app import main\nmain()", *line.split()]
    ended = subprocess.run(command, input=start, capture_output=True, check=False, cwd=tmp_path, env=environment)
    assert (ended.returncode, ended.stderr.count(b"\n")) == (3, 1), ended.stderr
    assert words in ended.stderr.decode()


@pytest.mark.parametrize("line", ["reconstruct -", "reconstruct - --stream", "segment -"])
def test_closed_standard_input_is_told_before_torch_is_loaded(tmp_path, line):
    code = (
        "import sys; sys.stdin = None\nfrom crnn_cli.cli.app import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *line.split()]
    ended = subprocess.run(command, capture_output=True, check=False, cwd=tmp_path, env=environment)
    assert (ended.returncode, ended.stdout) == (3, b"False\n"), ended.stderr


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)]
)
def test_idle_threads_spin_for_a_bounded_time_unless_the_user_said_otherwise(monkeypatch, given, spins):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    environment = dict(os.environ)
    bound_spinning(environment)
    assert environment.get("GOMP_SPINCOUNT") == spins


@pytest.mark.parametrize("width", [60, 80])
def test_result_tables_fit_the_terminal_and_nothing_is_cut(crnn, scan, tmp_path, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    folder = tmp_path / "d"
    write_series(
        folder, dicom_values(3, 4, 10, 12), SeriesDescription="CINE_segmented_SAX_b1_localised_with_a_long_name"
    )
    expected = {
        ("info", scan[2]): ["24 x 20 x 2 x 6", "complex64"],
        ("info", folder): ["3 x 4", "30 ms", "12 x 10"],
        ("verify", folder, folder): ["12 x 10 x 3 x 4", "voxels that differ"],
        ("models", "list"): ["cardiac-lv-clstm", "cardiac-sax-clstm", "hippocampus-clstm", "CC-BY-NC-SA-4.0"],
    }
    for line, cells in expected.items():
        ended = crnn(*line)
        text = ended.out.decode()
        assert ended.code == 0, ended.err
        assert max(len(each) for each in text.splitlines() if not each.startswith("next: ")) <= width  # to be copied
        assert "…" not in text
        for cell in cells:
            assert cell in text, text
    assert "CINE_segmented_SAX_b1_localised_with_a_long_name" in "".join(crnn("info", folder).out.decode().split())


def test_a_remedy_that_another_command_has_names_that_command(crnn, tmp_path):
    write_series(tmp_path / "cine", dicom_values(3, 4, 10, 12), skip={(0, 1)})
    words = "take a whole slice alone with --slice 2"
    for command, added in (("convert", " of crnn reconstruct"), ("info", " of crnn reconstruct"), ("reconstruct", "")):
        ended = crnn(command, tmp_path / "cine", *((tmp_path / "out.nii",) if command == "convert" else ()))
        text = " ".join((ended.err + str(ended.out)).split())
        assert f"{words}{added} (slices" in text, (command, text)


@pytest.mark.parametrize(("option", "home"), HOMES.items())
def test_the_command_that_is_named_for_a_remedy_has_it(crnn, option, home):
    assert f"{option} " in crnn(home, "--help").out.decode()


@pytest.mark.parametrize("columns", ["20", "60"])
def test_help_is_whole_on_a_narrow_terminal(columns):
    """Rich cuts names of options to fit; a terminal breaks the lines."""
    command = [sys.executable, "-m", "crnn_cli", "reconstruct", "--help"]
    environment = {key: value for key, value in os.environ.items() if key != "TERMINAL_WIDTH"} | {"COLUMNS": columns}
    shown = subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode()
    assert "--regularisation,--lambda" in shown
    assert "--undersample" in shown
