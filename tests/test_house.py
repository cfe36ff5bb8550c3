"""The house keeps its rooms apart, starts fast, and its public surfaces are pinned."""

import ast
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from crnn_cli import errors

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "crnn_cli"

# room -> what it may import: rooms of the house (without prefix) and packages; the standard library is free to all
ALLOWED = {
    "__init__": set(),
    "__main__": {"cli"},
    "errors": set(),
    "scratch": {"numpy", "errors"},
    "image": {"numpy", "errors", "scratch"},
    "pattern": {"numpy"},
    "kspace": {"numpy", "image", "pattern", "scratch"},
    "acquisition": {"numpy", "errors", "image", "kspace", "pattern"},
    "raw": {"numpy", "image", "acquisition", "pattern"},
    "raw_slices": {"numpy", "torch", "errors", "acquisition", "pattern", "raw", "mri", "measured"},
    "measured": {"torch", "errors", "acquisition", "mri"},
    "held_out": {"torch", "errors", "measured", "reconstruction"},
    "patches": {"torch", "errors", "held_out", "measured", "mri", "reconstruction"},
    "rehearsal": {"torch", "measured", "mri"},
    "self_supervision": {
        "torch", "ensemble", "held_out", "measured", "mri", "patches", "reconstruction", "rehearsal",
    },
    "validation": {"torch", "held_out", "measured", "self_supervision"},
    "adaptation": {
        "torch", "errors", "measured", "memory", "networks", "patches", "reconstruction", "rehearsal",
        "self_supervision", "validation",
    },
    "uncertainty": {"numpy", "torch", "errors", "acquisition", "held_out", "measured"},
    "trust": {
        "numpy", "torch", "errors", "acquisition", "held_out", "measured", "mri", "reconstruction", "uncertainty",
    },
    "geometry": {"numpy", "errors", "image"},
    "labels": {"numpy", "SimpleITK", "image", "errors", "labels"},
    "mri": {"torch", "errors", "mri"},
    "networks": {"torch", "mri", "networks"},
    "bundle_config": {"errors", "labels"},
    "bundles": {"torch", "safetensors", "networks", "errors", "bundle_config"},
    "published": {"torch", "bundles", "errors"},
    "segmentation": {"numpy", "torch", "image", "geometry", "errors"},
    "memory": {"torch"},
    "devices": {"torch", "errors"},
    "reconstruction": {"numpy", "torch", "acquisition", "devices", "measured", "memory", "mri", "errors", "scratch"},
    "ensemble": {"torch", "measured", "mri", "reconstruction"},
    "planning": {"torch", "ensemble", "memory", "networks", "reconstruction"},
    "comparison": {"numpy", "image"},
    "io": {
        "numpy", "nibabel", "pydicom", "highdicom", "PIL", "h5py", "scipy", "image", "acquisition", "raw", "pattern",
        "geometry", "comparison", "errors", "io", "labels", "scratch",
    },
    "training": {
        "numpy", "torch", "nibabel", "safetensors", "monai", "matplotlib", "errors", "bundle_config", "image",
        "acquisition", "geometry", "measured", "memory", "mri",
        "comparison", "networks", "bundles", "reconstruction", "segmentation", "io", "labels", "training",
    },
    "cli": {"typer", "rich", "errors", "cli"},
}  # fmt: skip
LATER_IN_CLI = {
    "numpy", "torch", "image", "acquisition", "geometry", "mri", "bundles", "published", "reconstruction", "io",
    "segmentation", "labels", "training", "comparison", "raw", "raw_slices", "pattern",
    "held_out", "measured", "trust", "uncertainty", "distributed", "adaptation", "devices", "planning", "scratch",
    "ensemble",
}  # fmt: skip


def rooms():
    return list(walk_rooms())


def walk_rooms():
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).parts
        yield (parts[0] if len(parts) > 1 else file.stem), file


def imports(tree, top_only):
    """Yield what a module imports: at its top (outside functions and TYPE_CHECKING), or anywhere."""

    def walk(node):
        for child in ast.iter_child_nodes(node):
            if top_only and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute"
                if child.module == "crnn_cli":
                    yield from (f"crnn_cli.{alias.name}" for alias in child.names)
                else:
                    yield child.module
            yield from walk(child)

    for name in walk(tree):
        head, _, rest = name.partition(".")
        if head == "crnn_cli":
            yield rest.split(".")[0] or "__init__"
        elif head not in sys.stdlib_module_names:
            yield head


@pytest.mark.parametrize(("room", "file"), rooms(), ids=lambda v: v.name if isinstance(v, Path) else v)
def test_rooms_import_only_what_they_may(room, file):
    tree = ast.parse(file.read_text())
    allowed = ALLOWED[room] | {"__init__", "__version__"}
    assert set(imports(tree, top_only=room == "cli")) <= allowed
    if room == "cli":
        assert set(imports(tree, top_only=False)) <= allowed | LATER_IN_CLI | {"rich"}


def test_io_knows_no_torch_even_indirectly():
    code = "import sys, crnn_cli.io.describe, crnn_cli.io.preview, crnn_cli.cli.app; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["models", "list"],
        ["reconstruct", "--help"],
        ["segment", "--help"],
        ["batch", "reconstruct", "--help"],
    ],
)
def test_starts_without_anything_heavy(arguments):
    code = (
        "import sys\nfrom crnn_cli.cli.app import main\n"
        f"sys.argv = ['crnn', *{arguments!r}]\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'nibabel', 'numpy', 'PIL', 'SimpleITK', 'pydicom'} & set(sys.modules)\n"
        "assert not heavy, heavy"
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
        "QualityError": 6, "BatchError": 7, "OutputError": 1,
    }  # fmt: skip
    for name, code in codes.items():
        assert re.search(rf"{name} +{code} ", errors.__doc__ or ""), f"{name} is not in the tree on top of errors.py"
    assert errors.EXIT_INTERRUPTED == 130


BATCH = "--out --resume --keep-going --shard --scheduler --json --force "
OPTIONS = {
    "reconstruct": (
        "--out --mask --phase --axes --series --uneven --slice --undersample --pattern --centre-lines --phase-axis "
        "--seed --method --weight --coils --maps --save-maps --phases --variable --model --iterations --noise "
        "--precision --memory --ensemble --adapt --adapt-steps --save-adapted --device --preview "
        "--held-out --uncertainty --uncertainty-runs --report --max-residual --complex --format --json --force"
    ),
    "batch reconstruct": BATCH + (
        "--mask --phase --axes --series --uneven --slice --undersample --pattern --centre-lines --phase-axis "
        "--seed --method --weight --coils --maps --save-maps --phases --variable --model --iterations --noise "
        "--precision --memory --ensemble --adapt --adapt-steps --save-adapted --device --preview "
        "--held-out --uncertainty --uncertainty-runs --report --max-residual --complex --format"
    ),
    "batch segment": BATCH + (
        "--slices --series --uneven --model --device --labels --threshold --keep-largest --precision --probabilities "
        "--statistics --preview --format --require-labels"
    ),
    "evaluate": (
        "--reference --series --reference-series --axes --reference-axes --ignore-geometry --fit-scale --per-frame "
        "--labels --images --uncertainty --require-psnr --require-ssim --require-dice --json"
    ),
    "info": "--axes --series --uneven --variable --json",
    "compare": (
        "--methods --reference --slice --held-out --preview --axes --variable --series --uneven --undersample --seed "
        "--coils --maps --phases --model --device --json --force"
    ),
    "report": "--out --force",
    "convert": "--series --uneven --axes --like --like-series --modality --force",
    "verify": "--series --other-series --tolerance --value-tolerance --json",
    "segment": (
        "--slices --out --series --uneven --model --device --labels --threshold --keep-largest --precision "
        "--probabilities --statistics --preview --format --require-labels --json --force"
    ),
    "train segment": (
        "--out --config --print-config --epochs --minutes --fold --device --precision --seed --resume --init-from "
        "--workers --cache --licence --skip-bad --json"
    ),
    "train reconstruct": (
        "--out --config --print-config --simulated --epochs --minutes --fold --device --precision --seed --resume "
        "--init-from --workers --licence --skip-bad --json"
    ),
    "models list": "--json",
    "models show": "--json",
    "models import": "--out --iterations --amplitude --licence",
}  # fmt: skip


@pytest.mark.parametrize("command", OPTIONS)
def test_options_are_pinned_and_help_has_an_example(crnn, command):
    ended = crnn(*command.split(), "--help")
    text = ended.out.decode()
    found = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", re.sub(r"crnn [^\n]*", "", text.split("Options")[1])))
    assert found - {"--help"} - {o for o in found if o.startswith("--no-")} == set(OPTIONS[command].split())
    assert "Example" in text


def test_main_help_has_an_example_of_each_command(crnn):
    text = crnn("--help").out.decode()
    for command in (
        "reconstruct",
        "segment",
        "simulate",
        "evaluate",
        "info",
        "models",
        "train",
        "convert",
        "verify",
        "compare",
        "batch",
        "report",
    ):
        assert f"crnn {command} " in text
    assert "130" in text


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
    for _, file in rooms():
        text = file.read_text()
        assert text.count("\n") <= 300, f"{file.name} is too long"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                body = [part for part in node.body if not isinstance(getattr(part, "value", None), ast.Constant)]
                lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
                assert lines <= 50, f"{file.name}:{node.name} is {lines} lines"


def test_sample_data_is_small_and_documented():
    folder = ROOT / "sample_data"
    assert sum(f.stat().st_size for f in folder.iterdir()) < 3e6
    listed = json.loads((folder / "sha256.json").read_text())
    import hashlib

    for file in [*folder.glob("*.nii.gz"), *folder.glob("*.zip")]:
        assert hashlib.sha256(file.read_bytes()).hexdigest() == listed[file.name]
        assert file.name in (folder / "README.md").read_text()
