"""The house keeps its rooms apart, starts fast, and its public surfaces are pinned."""

import ast
import json
import re
import subprocess
import sys
import tomllib
import warnings
import zipfile
from graphlib import TopologicalSorter

import pytest

from crnn_cli import errors
from tests.support.data import ROOT

PACKAGE = ROOT / "crnn_cli"


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def test_layers_are_kept():
    """The contracts of pyproject.toml hold, for imports of types too."""
    ended = subprocess.run(["lint-imports"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout


def test_io_knows_no_torch_even_indirectly():
    code = "import sys, crnn_cli.io.describe, crnn_cli.report.montage, crnn_cli.cli.app; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "False"


LIGHT = (
    "--help", "--version", "models list", "reconstruct --help", "segment --help", "forecast --help", "events --help",
    "batch reconstruct --help", "batch function --help",
)  # fmt: skip


def test_starts_without_anything_heavy():
    code = (
        "import sys\nfrom crnn_cli.cli.app import main\n"
        f"for line in {LIGHT!r}:\n"
        "    sys.argv = ['crnn', *line.split()]\n"
        "    try: main()\n    except SystemExit: pass\n"
        "    heavy = {'torch', 'nibabel', 'numpy', 'PIL', 'SimpleITK', 'pydicom'} & set(sys.modules)\n"
        "    assert not heavy, (line, heavy)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT)


def test_exit_codes_are_pinned():
    codes = {
        name: kind.exit_code
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.CrnnError)
    }
    assert codes == {
        "CrnnError": 1, "UsageError": 2, "UnreadableError": 3, "UnsupportedDataError": 4, "DeviceError": 5,
        "QualityError": 6, "BatchError": 7, "OutputError": 1, "OutputExistsError": 1,
        "OutputNameError": 1,
    }  # fmt: skip
    for name, code in codes.items():
        assert re.search(rf"{name} +{code} ", errors.__doc__ or ""), f"{name} is not in the tree on top of errors.py"
    assert errors.EXIT_INTERRUPTED == 130


CHOICES = "--kind --set --contrast --repetition --phase-number --view --drop-empty "
SCAN = (
    "--mask --phase --axes --series --slice-tolerance --slice --coils --maps --map-sets --calibration --phases "
    "--calibrate-frames "
    "--variable --undersample "
    "--pattern --centre-lines --phase-axis --seed --method --regularisation --lambda --iterations --noise-ratio "
    "--ensemble --model --precision --memory --device --adapt --adapt-steps --generalise --save-adapted "
    "--hold-out-folds --uncertainty --uncertainty-runs --save-runs --max-residual --min-psnr --format --complex "
    "--save-maps --preview --report --strict --threads " + CHOICES
)
VOLUME = (
    "--slices --series --slice-tolerance --spacing --from --empty --fixed --frames --fill --labels --threshold "
    "--keep-largest --frame-by-frame --model --precision --device --minutes --steps --seed --save-adapted "
    "--require-labels --require-quality --format --seg --seg-whole-series --probabilities "
    "--statistics --preview --strict --threads "
)
HEART = (
    "--labels --image --runs --series --slice-tolerance --ed --es --height --weight --bsa --heart-rate --model "
    "--device --csv --plot --page --sr --strict --threads "
)
OUT = "--out --output --json --force "
BATCH = "--resume --keep-going --shard --scheduler "
TRAIN = (
    "--out --output --config --print-config --epochs --minutes --fold --device --precision --seed --resume --init-from "
    "--workers --licence --skip-bad --json "
)
OPTIONS = {
    "reconstruct": SCAN + "--stream --renew-frames --pace --listen " + OUT,
    "batch reconstruct": BATCH + SCAN + OUT,
    "segment": VOLUME + OUT,
    "batch segment": BATCH + VOLUME + OUT,
    "simulate": (
        "--size --frames --slices --spacing --frame-time --oblique --undersample --pattern --centre-lines --coils "
        "--snr --breathing --seed " + OUT
    ),
    "function": HEART + OUT,
    "batch function": BATCH + "--reviewed " + HEART + OUT,
    "forecast": (
        "--frames --from-frame --reference --axes --series --slice-tolerance --model --device --preview --strict "
        "--threads " + OUT
    ),
    "events": (
        "--threshold --axes --series --slice-tolerance --model --device --csv --plot --exclude --whole-beats --strict "
        "--threads " + OUT
    ),
    "evaluate": (
        "--reference --series --reference-series --axes --reference-axes --ignore-geometry --fit-scale --per-frame "
        "--as-labels --as-images --uncertainty --require-psnr --require-ssim --require-dice --strict "
        "--json"
    ),
    "labels": "--image --model --slices --statistics --preview --strict --json --force",
    "info": "--axes --series --slice-tolerance --variable --json " + CHOICES,
    "compare": (
        "--methods --reference --slice --hold-out-share --preview --axes --variable --series --slice-tolerance "
        "--undersample --seed --coils --maps --map-sets --calibration --phases --model --device --strict --threads "
        "--json --force " + CHOICES
    ),
    "report": "--out --output --force",
    "convert": (
        "--series --slice-tolerance --axes --reference-dicom --reference-series --modality --bids --strict --force"
    ),
    "verify": "--series --other-series --tolerance --value-tolerance --strict --json",
    "doctor": "--json",
    "train segment": TRAIN + "--cache",
    "train reconstruct": TRAIN + "--simulated",
    "train forecast": TRAIN + "--simulated",
    "models list": "--json",
    "models show": "--json",
    "models import": "--out --output --iterations --input-rms --licence",
    "models export": "--out --output --slices --size --json --force",
}


@pytest.mark.parametrize("command", OPTIONS)
def test_options_are_pinned_and_help_has_an_example(crnn, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "100")
    text = crnn(*command.split(), "--help").out.decode()
    listed = re.findall(r"^│ (?:\*  )? *(--[a-z][a-z,-]+)", text, re.M)
    found = {name for names in listed for name in names.split(",")}
    assert found == {*OPTIONS[command].split(), "--quiet", "--verbose", "--help"}
    assert re.search(rf"^ Examples?: *\n +crnn {command}", text, re.M)


@pytest.mark.parametrize("command", OPTIONS)
def test_types_of_options_are_what_people_read(crnn, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "100")
    text = crnn(*command.split(), "--help").out.decode()
    assert not re.search(r"<\w+>|<=|>=|(int|float) range", text.split("─ Arguments")[-1])


@pytest.mark.parametrize("command", ["reconstruct", "segment", "batch reconstruct", "batch segment"])
def test_options_are_in_panels(crnn, command):
    panels = re.findall(r"^╭─ ([A-Z][a-z ]+) ─", crnn(*command.split(), "--help").out.decode(), re.M)
    order = ["Arguments", "Batch", "Input", "Sampling simulation", "Drawn slices", "Method", "Streams",
             "Network and device", "Adaptation", "Reliability", "Output"]  # fmt: skip
    assert panels == [name for name in order if name in panels]
    assert {"Input", "Method", "Network and device", "Reliability", "Output"} <= {*panels}


def test_main_help_has_an_example_of_each_command_and_the_exit_codes(crnn):
    text = crnn("--help").out.decode()
    for command in {name.split()[0] for name in OPTIONS}:
        assert f"  crnn {command}" in text
    from crnn_cli.cli.app import EXIT_CODES

    told = dict(re.findall(r"^ +(\d+)  (\w.*?) *$", text, re.M))
    assert {int(code): meaning for code, meaning in told.items()} == EXIT_CODES


def test_wheel_holds_the_package_and_the_bundles_only(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"crnn_cli"}
    for bundle in (ROOT / "models").iterdir():
        for part in ("README.md", "config.json", "weights.safetensors"):
            assert f"crnn_cli/models/{bundle.name}/{part}" in names
    assert not [name for name in names if "test" in name or name.endswith((".nii.gz", ".pth"))]


def test_files_and_functions_keep_their_size():
    """Concept first: 300 lines are a warning, 500 the end; functions of 50 lines, declarations of commands aside."""
    for file in modules():
        text = file.read_text()
        lines = text.count("\n")
        assert lines <= 500, f"{file.name} is too long"
        if lines > 300:
            warnings.warn(f"{file.relative_to(ROOT)} has {lines} lines: is it one concept?", stacklevel=1)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = [part for part in node.body if not isinstance(getattr(part, "value", None), ast.Constant)]
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert lines <= 50, f"{file.name}:{node.name} is {lines} lines"


def test_folders_and_the_top_keep_their_size():
    assert len(list(PACKAGE.glob("*.py"))) <= 8
    for folder in {file.parent for file in modules()}:
        assert len(list(folder.glob("*.py"))) <= 21, f"{folder.name} has more than 20 modules beside __init__"


def test_no_circle_of_imports():
    """Types count: a module that needs another for a type knows it."""
    graph = {}
    for file in modules():
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {
            module
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crnn_cli")
            for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        }
    order = TopologicalSorter({name: needs & graph.keys() - {name, "crnn_cli"} for name, needs in graph.items()})
    order.prepare()  # CycleError names the circle


def test_the_library_speaks_of_parameters_and_the_command_line_of_options():
    """An option in the text of an error means nothing to a notebook; `Param` is spelled by whoever shows it."""
    found = []
    for file in modules():
        if file.is_relative_to(PACKAGE / "cli"):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Raise):
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                found += [
                    f"{file.name}: {text}"
                    for text in texts
                    if isinstance(text, str) and re.search(r"(?<![\w-])--[a-z]", text)
                ]
    assert not found


def public_docstrings():
    for file in modules():
        for node in ast.parse(file.read_text()).body:
            for each in (node, *(node.body if isinstance(node, ast.ClassDef) else ())):
                if isinstance(each, ast.FunctionDef | ast.ClassDef) and not each.name.startswith("_"):
                    yield f"{file.relative_to(PACKAGE)}:{each.name}", ast.get_docstring(each) or ""


def test_docstrings_say_what_a_thing_is():
    texts = dict(public_docstrings())
    assert not [name for name, text in texts.items() if text.startswith("Return what")]
    assert sum("\n" not in text for text in texts.values()) < 0.4 * len(texts)


def test_sample_data_is_small_and_documented():
    folder = ROOT / "sample_data"
    assert sum(f.stat().st_size for f in folder.iterdir()) < 3e6
    listed = json.loads((folder / "sha256.json").read_text())
    import hashlib

    for file in [*folder.glob("*.nii.gz"), *folder.glob("*.zip")]:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == listed[file.name]
        assert file.name in (folder / "README.md").read_text()


def _codes_in_source(kind: str) -> set[str]:
    """Codes of ``Doubt("code", ...)`` and ``notices.warn("code", ...)`` in the package; or those of facts."""
    makers = {"doubts": ("Doubt", "warn"), "facts": ("Fact", "note")}[kind]
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in makers or file.name == "notices.py":
                continue
            assert isinstance(node.args[0], ast.Constant), f"{file}:{node.lineno}: the code must be a literal"
            found.add(node.args[0].value)
    return found


@pytest.mark.parametrize("kind", ["doubts", "facts"])
def test_every_code_is_documented_and_every_documented_code_is_used(kind: str) -> None:
    page = (ROOT / "docs/reference/doubts.md").read_text()
    part = page.split(f"## {kind.capitalize()}\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `([a-z0-9-]+)` \|", part, flags=re.M)
    assert sorted(documented) == sorted(set(documented))
    assert _codes_in_source(kind) == set(documented)


def test_the_licence_of_the_package_names_that_of_every_model() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"].split(" AND ")
    models = {json.loads(file.read_text())["licence"] for file in ROOT.glob("models/*/config.json")}
    assert models
    assert models | {"Apache-2.0"} == set(declared)
