"""The jobs of ``same_bytes.py``: command lines by the newest names of options, quick ones first in each group.

In the folder of a job lie ``sample`` (the sample data), ``made`` (`same_bytes_inputs.py`), ``data`` (real data, where
given), and ``jobs``: what ``--before`` computed in the jobs named there.
"""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

COILS = "jobs/simulate-coils/raw_kspace.npy --axes slice,coil,t,ky,kx"
SCAN = "sample/cine_undersampled.nii.gz"
CINE = "sample/pig_cine.nii.gz"
STACK = "sample/pig_stack.nii.gz"
DICOM = "sample/pig_cine_dicom.zip"


@dataclasses.dataclass(frozen=True)
class Step:
    """One command of crnn."""

    arguments: tuple[str, ...]
    stdin: str | None = None  # files in the folder of the job
    stdout: str | None = None
    kill_at: str | None = None  # kill it outright when this file (a pattern) appears


@dataclasses.dataclass(frozen=True)
class Job:
    """Commands that run one after another in a folder of their own, and how they should end."""

    group: str
    name: str
    steps: tuple[Step, ...]
    exits: list[int | str]
    twins: tuple[tuple[str, str], ...] = ()  # weights that must be the same within one install
    new: tuple[str, ...] = ()  # DICOM elements that are made anew each time

    @property
    def sources(self) -> list[str]:
        """Jobs whose outputs these commands read."""
        words = [word for step in self.steps for word in step.arguments if word.startswith("jobs/")]
        return sorted({word.split("/")[1] for word in words})

    @property
    def needs_data(self) -> bool:
        """Whether real data are read."""
        return any(word.startswith("data/") for step in self.steps for word in step.arguments)

    def steps_as_json(self) -> list[dict[str, Any]]:
        """Write the steps as JSON has them."""
        return [dataclasses.asdict(step) | {"arguments": list(step.arguments)} for step in self.steps]


def step(line: str) -> Step:
    """Read a command line, perhaps with ``< FILE``, ``> FILE`` or ``kill FILE`` at its end."""
    words = shlex.split(line)
    ways: dict[str, str] = {}
    while len(words) > 2 and words[-2] in ("<", ">", "kill"):
        ways[words[-2]] = words[-1]
        words = words[:-2]
    return Step(tuple(words), ways.get("<"), ways.get(">"), ways.get("kill"))


def job(group: str, name: str, *lines: str, exits: int | list[int | str] = 0, **options: Any) -> Job:
    codes = exits if isinstance(exits, list) else [exits] * len(lines)
    return Job(group, name, tuple(map(step, lines)), codes, **options)


def reconstruct(name: str, line: str, **options: Any) -> Job:
    """Make a job of one reconstruction, by default without lines held out; runs for --uncertainty hold out others."""
    held_out = "" if "--hold-out-folds" in line or "--uncertainty" in line else " --hold-out-folds 0"
    return job("reconstruct", name, f"reconstruct {line} -o images.nii.gz{held_out}", **options)


SIMULATE = [
    job("simulate", "simulate", "simulate -o phantom --size 64x48 --frames 8 --undersample 4 --seed 3 --oblique "
        "--slices 2 --breathing 3"),
    job("simulate", "simulate-coils", "simulate -o raw --size 64 --frames 8 --undersample 4 --coils 8 --snr 200"),
    job("simulate", "simulate-grid", "simulate -o grid --size 64 --frames 6 --undersample 5 --pattern sheared-grid "
        "--snr inf --centre-lines 4 --spacing 5 --frame-time 30"),
]  # fmt: skip
RECONSTRUCT = [
    *(reconstruct(f"method-{name}", f"{SCAN} --method {name}")
      for name in ("zero-filled", "sliding-window", "sense", "tv", "llr", "l+s")),
    reconstruct("method-tv-regularisation", f"{SCAN} --method tv --regularisation 0.003 --complex"),
    reconstruct("crnn", f"{SCAN} --hold-out-folds 1 --preview heart.png --report page.html"),
    reconstruct("crnn-complex", f"{SCAN} --complex --preview heart.gif"),
    reconstruct("crnn-fp32", f"{SCAN} --precision fp32"),
    reconstruct("crnn-bf16", f"{SCAN} --precision bf16"),
    reconstruct("crnn-iterations", f"{SCAN} --iterations 2 --noise-ratio 0.5"),
    reconstruct("crnn-fast", f"{SCAN} --model cine-crnn-fast"),
    reconstruct("crnn-memory", f"{CINE} --undersample 8 --precision fp32 --iterations 1 --memory 520M"),
    reconstruct("ensemble", f"{SCAN} --ensemble 2"),
    reconstruct("undersample-4", "made/small.nii.gz --undersample 4 --hold-out-folds 1"),
    reconstruct("undersample-8", f"{CINE} --undersample 8 --seed 5"),
    reconstruct("undersample-grid", "made/small.nii.gz --undersample 6 --pattern sheared-grid --phase-axis x"),
    reconstruct("slice", f"{STACK} --slice 4 --undersample 4"),
    reconstruct("slices-fp32", "jobs/simulate/phantom_zerofilled.nii.gz --precision fp32 --hold-out-folds 2"),
    reconstruct("mask", "jobs/simulate-grid/grid_zerofilled.nii.gz --mask jobs/simulate-grid/grid_mask.nii.gz"),
    reconstruct("axes", "made/xyt.nii.gz --axes x,y,t --undersample 4 --method sliding-window"),
    reconstruct("phase", "made/small.nii.gz --phase made/phase.nii.gz --undersample 4"),
    reconstruct("max-residual", f"{SCAN} --method zero-filled --max-residual 0.1 --hold-out-folds 1", exits=6),
    job("reconstruct", "pipe", "reconstruct made/small.nii.gz --undersample 4 -o - > piped.nii",
        "segment - --slices axial -o labels.nii.gz < piped.nii"),
    reconstruct("adapt", f"{SCAN} --adapt-steps 6"),
    job("reconstruct", "adapt-save", f"reconstruct {COILS} --adapt-steps 6 --save-adapted tuned --generalise -o "
        "images.nii.gz --precision bf16",
        "reconstruct made/small.nii.gz --undersample 4 --model tuned -o others.nii.gz"),
    reconstruct("adapt-raw", f"{COILS} --adapt-steps 6 --precision fp32"),
    reconstruct("uncertainty", "made/small.nii.gz --undersample 4 --uncertainty sd.nii.gz"),
    reconstruct("uncertainty-classical", f"{SCAN} --method sliding-window --uncertainty sd.nii.gz "
                "--uncertainty-runs 3 --report page.html"),
    job("reconstruct", "compare", f"compare {SCAN} --methods zero-filled,sliding-window,tv --hold-out-share 0.2 "
        "--preview methods.png --json > compare.figures"),
]  # fmt: skip
RAW = [
    reconstruct("raw-maps", f"{COILS} --save-maps maps.npy --hold-out-folds 1 --preview raw.png"),
    reconstruct("raw-maps-picture", f"{COILS} --method zero-filled --save-maps maps.png"),
    reconstruct("raw-maps-given", f"{COILS} --maps jobs/simulate-coils/raw_coils.npy --method sense"),
    reconstruct("raw-coils", f"{COILS} --coils 4 --precision fp32 --noise-ratio 0.1 --complex"),
    *(reconstruct(f"raw-{name}", f"{COILS} --method {name}")
      for name in ("zero-filled", "sliding-window", "sense", "tv", "llr", "l+s")),
    reconstruct("raw-ensemble", f"{COILS} --ensemble 2"),
    reconstruct("raw-uncertainty", f"{COILS} --method sense --uncertainty sd.nii.gz --uncertainty-runs 2"),
    job("raw", "raw-compare", f"compare {COILS} --methods zero-filled,sense,llr,crnn "
        "--reference jobs/simulate-coils/raw_truth.nii.gz --json > compare.figures"),
]  # fmt: skip
RAW = [dataclasses.replace(each, group="raw") for each in RAW]
NEW_STUDY = ("StudyInstanceUID", "FrameOfReferenceUID")
DICOM_JOBS = [
    job("dicom", "dicom-to-nifti", f"convert {DICOM} cine.nii.gz", f"verify {DICOM} cine.nii.gz"),
    job("dicom", "nifti-to-dicom", "convert jobs/dicom-to-nifti/cine.nii.gz series --modality MR",
        "verify jobs/dicom-to-nifti/cine.nii.gz series", new=NEW_STUDY),
    job("dicom", "nifti-to-dicom-ct", "convert made/xyt.nii.gz series --axes x,y,t --modality CT", new=NEW_STUDY),
    job("dicom", "nifti-to-dicom-reference",
        f"convert jobs/dicom-to-nifti/cine.nii.gz series --reference-dicom {DICOM}", f"verify series {DICOM}"),
    job("dicom", "dicom-reconstruct", f"reconstruct {DICOM} --undersample 4 --hold-out-folds 0 -o images.nii.gz"),
    job("dicom", "dicom-derived", f"reconstruct {DICOM} --undersample 4 --method tv --hold-out-folds 0 -o series "
        "--format dicom", f"evaluate series --reference {DICOM} --json > quality.figures"),
    job("dicom", "dicom-seg", f"segment {DICOM} --slices -o seg.dcm --preview seg.gif --statistics volumes.csv"),
    job("dicom", "dicom-seg-tolerance", f"segment {DICOM} --slices auto:1-2 --slice-tolerance 0.5 -o labels.nii.gz"),
]  # fmt: skip
SEGMENT = [
    job("segment", "segment-3d", "segment made/volume.nii.gz --slices -o labels.nii.gz --preview labels.png"),
    job("segment", "segment-4d", f"segment {STACK} --slices -o labels.nii.gz --statistics volumes.csv "
        "--probabilities p.nii.gz --preview labels.gif"),
    job("segment", "segment-keep-largest", f"segment {STACK} --slices --keep-largest -o labels.nii.gz"),
    job("segment", "segment-bf16", f"segment {STACK} --slices --precision bf16 -o labels.nii.gz"),
    job("segment", "segment-threshold", "segment made/volume.nii.gz --slices axial:3-8 --threshold 0.3 --labels "
        "'left ventricle,2' -o labels.nii.gz --probabilities p.nii.gz --statistics volumes.csv"),
    job("segment", "segment-complex", "segment made/complex.nii.gz --slices -o labels.nii.gz"),
    job("segment", "segment-hippocampus", "segment made/fine.nii.gz --slices sagittal:5-35 --model "
        "hippocampus-clstm -o labels.nii.gz"),
    job("segment", "evaluate-labels", "evaluate jobs/segment-bf16/labels.nii.gz --reference "
        "jobs/segment-keep-largest/labels.nii.gz --as-labels --json > dice.figures"),
    job("segment", "evaluate-images", f"evaluate jobs/undersample-8/images.nii.gz --reference {CINE} --fit-scale "
        "--json > quality.figures",
        "evaluate jobs/uncertainty/images.nii.gz --reference made/small.nii.gz --uncertainty jobs/uncertainty/sd.nii.gz"
        " --as-images --json > uncertainty.figures"),
]  # fmt: skip
BATCH = [
    job("batch", "batch-reconstruct", "batch reconstruct made/studies -o results --undersample 4 --hold-out-folds 0 "
        "--preview {name}.png", "batch reconstruct made/studies -o results --undersample 4 --hold-out-folds 0 "
        "--preview {name}.png --resume"),
    job("batch", "batch-segment", "batch segment made/studies -o results --slices axial --statistics {name}.csv"),
    job("batch", "batch-failure", "batch reconstruct made/small.nii.gz made/nan.nii.gz -o results --undersample 4 "
        "--method zero-filled --keep-going", exits=7),
]  # fmt: skip
TRAIN_R = "train reconstruct made/cines --config made/reconstruct.toml --seed 3 --workers 0 --fold 2/3"
TRAIN_S = "train segment made/Task99 --config made/segment.toml --seed 7 --workers 0"
WHOLE_AND_KILLED = (("whole/weights.safetensors", "killed/weights.safetensors"),)
TRAIN = [
    job("train", "train-reconstruct", f"{TRAIN_R} --epochs 2 -o mine",
        f"reconstruct {SCAN} --model mine --hold-out-folds 0 -o images.nii.gz"),
    job("train", "train-simulated", "train reconstruct --simulated --config made/full.toml --epochs 2 --workers 0 "
        "-o mine", f"reconstruct {COILS} --model mine --hold-out-folds 0 -o images.nii.gz"),
    job("train", "train-segment", f"{TRAIN_S} --epochs 4 -o mine",
        "segment made/Task99/imagesTr/v0.nii.gz --slices --model mine -o labels.nii.gz --probabilities p.nii.gz"),
    job("train", "train-init-from", f"{TRAIN_S} --epochs 2 -o mine --init-from jobs/train-segment/mine"),
    job("train", "train-reconstruct-resumed", f"{TRAIN_R} --epochs 8 -o whole",
        f"{TRAIN_R} --epochs 8 -o killed kill killed.run/checkpoint*", f"{TRAIN_R} --epochs 8 -o killed --resume",
        exits=[0, "killed", 0], twins=WHOLE_AND_KILLED),
    job("train", "train-segment-resumed", f"{TRAIN_S} --epochs 30 -o whole",
        f"{TRAIN_S} --epochs 30 -o killed kill killed.run/checkpoint*", f"{TRAIN_S} --epochs 30 -o killed --resume",
        exits=[0, "killed", 0], twins=WHOLE_AND_KILLED),
]  # fmt: skip
PIG, EPI = "data/pig_cine_sax", "data/dicom/epi_philips"
ISMRMRD = "data/kspace/meas_MID00349_FID09273_SNR_R3.h5"
BRAIN = "data/kspace/cartesian_ksp.npy --axes coil,ky,kx"
HP13C = "data/kspace/hp13c_lactate_prospective.mat --axes kx,ky,kz,t"
DATA = [
    job("models", "models-import", "models import data/weights/crnn_mri_d5_c5.pth -o mine --licence Apache-2.0",
        f"reconstruct {SCAN} --model mine --hold-out-folds 0 -o images.nii.gz"),
    job("data", "data-epi", f"convert {EPI} epi.nii.gz", f"verify {EPI} epi.nii.gz"),
    job("data", "data-ct", "convert data/dicom/ct_3slice ct.nii.gz"),
    job("data", "data-ct-refused", "convert data/dicom/ct_head_ge ct.nii.gz",
        "segment data/dicom/ct_head_ge --slices -o labels.nii.gz", exits=4),
    job("data", "data-pig-convert", f"convert {PIG} pig.nii.gz"),
    job("data", "data-pig-reconstruct", f"reconstruct {PIG} --slice 5 --undersample 12 --hold-out-folds 0 --method "
        "sliding-window -o images.nii.gz"),
    job("data", "data-acdc", "reconstruct data/acdc_cine/patient028_4d.nii.gz --slice 3 --undersample 6 "
        "--hold-out-folds 0 -o images.nii.gz"),
    job("data", "data-ismrmrd", f"reconstruct {ISMRMRD} --method sense --save-maps maps.npy -o images.nii.gz"),
    job("data", "data-ismrmrd-refused", f"reconstruct {ISMRMRD} -o images.nii.gz", exits=4),
    job("data", "data-cfl", "reconstruct data/kspace/ksp.cfl --method sense --save-maps maps.npy -o images.nii.gz "
        "--hold-out-folds 0"),
    job("data", "data-npy", f"reconstruct {BRAIN} --method tv --coils 6 -o images.nii.gz --hold-out-folds 0"),
    job("data", "data-mat", f"reconstruct {HP13C} --iterations 1 -o images.nii.gz --hold-out-folds 0 --complex"),
    job("data", "data-mat-classical", f"reconstruct {HP13C} --method l+s -o images.nii.gz --hold-out-folds 0"),
    job("data", "data-hippocampus", "segment data/hippocampus/images/hippocampus_001.nii.gz --slices axial --model "
        "hippocampus-clstm -o labels.nii.gz --probabilities p.nii.gz --statistics volumes.csv",
        "evaluate labels.nii.gz --reference data/hippocampus/labels/hippocampus_001.nii.gz --json > dice.figures"),
]  # fmt: skip
BAD: list[tuple[str, int | list[int | str], list[str]]] = [
    ("missing", 3, ["reconstruct made/absent.nii.gz -o x.nii.gz"]),
    ("text", 3, ["reconstruct made/text.nii.gz -o x.nii.gz", "segment made/text.nii.gz --slices -o x.nii.gz"]),
    ("truncated", 3, ["convert made/truncated.nii.gz x.nii.gz"]),
    ("nan", 4, ["reconstruct made/nan.nii.gz --undersample 4 -o x.nii.gz"]),
    ("three-axes", 4, ["reconstruct made/xyt.nii.gz --undersample 4 -o x.nii.gz"]),
    ("magnitude", 4, ["reconstruct made/magnitude.nii.gz -o x.nii.gz"]),
    ("mask-shape", 4, [f"reconstruct {SCAN} --mask made/mask_7x9.nii.gz -o x.nii.gz"]),
    ("no-option", 2, [f"reconstruct {SCAN} --nonsense -o x.nii.gz"]),
    ("no-method", 2, [f"reconstruct {SCAN} --method magic -o x.nii.gz"]),
    ("no-model", 3, [f"reconstruct {SCAN} --model absent -o x.nii.gz", f"segment {STACK} --model absent -o x.nii.gz"]),
    ("wrong-model", 4, [f"reconstruct {SCAN} --model hippocampus-clstm -o x.nii.gz"]),
    ("no-gpu", 5, [f"reconstruct {SCAN} --device cuda -o x.nii.gz"]),
    ("little-memory", 5, [f"reconstruct {SCAN} --memory 10M -o x.nii.gz"]),
    ("exists", [0, 1], [f"convert {DICOM} x.nii.gz", f"convert {DICOM} x.nii.gz"]),
    ("no-folder", 1, [f"convert {DICOM} absent/x.nii.gz"]),
    ("no-suffix", 2, [f"convert {DICOM} x.mnc", f"segment {STACK} --slices -o x.txt"]),
    ("no-axes", 4, ["reconstruct made/kspace.npy -o x.nii.gz"]),
    ("axes", 2, ["reconstruct made/kspace.npy --axes coil,ky,kx -o x.nii.gz"]),
    ("real-kspace", 4, ["reconstruct made/real.npy --axes coil,t,ky,kx -o x.nii.gz"]),
    ("empty-folder", 3, ["convert made/nothing x.nii.gz", "train segment made/nothing -o x"]),
    ("no-dicom", 3, ["convert made/words.zip x.nii.gz"]),
    ("no-series", 4, [f"convert {DICOM} x.nii.gz --series 7"]),
    ("no-slice", 2, [f"reconstruct {STACK} --slice 99 --undersample 4 -o x.nii.gz"]),
    ("slices", 2, [f"segment {STACK} --slices oblique -o x.nii.gz", f"segment {STACK} --slices auto:5-99 -o x.nii.gz"]),
    ("no-labels", 6, ["segment made/empty.nii.gz --slices axial --require-labels -o x.nii.gz"]),
    ("other-grid", [4, 6], [f"evaluate {CINE} --reference {STACK}", f"verify {CINE} {STACK}"]),
    ("quality", 6, [f"evaluate jobs/undersample-8/images.nii.gz --reference {CINE} --require-psnr 90"]),
    ("no-source-dicom", 4, [f"reconstruct {SCAN} --format dicom -o x"]),
    ("no-report", 3, [f"report {CINE} -o x.html"]),
    ("simulate", 2, ["simulate -o x --undersample 0.5", "simulate -o x --size 3"]),
    ("no-checkpoint", 3, ["models import made/text.pth -o x"]),
    ("no-resume", 2, [f"{TRAIN_S} -o x --resume"]),
]
REFUSED = [job("refused", f"refused-{name}", *lines, exits=exits) for name, exits, lines in BAD]
JOBS = [*SIMULATE, *REFUSED, *DICOM_JOBS, *SEGMENT, *RECONSTRUCT, *RAW, *BATCH, *TRAIN, *DATA]
