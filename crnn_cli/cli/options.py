"""Options that several commands share: each name has one meaning, one help text, and one way to be completed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crnn_cli.cli import values

INPUT = "Input"
SIMULATION = "Sampling simulation"
DRAWN = "Drawn slices"
METHOD = "Method"
STREAMING = "Streams"
NETWORK = "Network and device"
ADAPTATION = "Adaptation"
RELIABILITY = "Reliability"
OUTPUT = "Output"
BATCH = "Batch"
PANELS = (BATCH, INPUT, SIMULATION, DRAWN, METHOD, STREAMING, NETWORK, ADAPTATION, RELIABILITY, OUTPUT)
"""Panels of the help, in order."""

SeriesChoice = Annotated[
    str | None,
    typer.Option(
        "--series", metavar="NUMBER|UID", rich_help_panel=INPUT,
        help="Series of a DICOM folder: its number in crnn info, or its UID; 3-8,10 joins series of one slice each.",
    ),
]  # fmt: skip
SliceTolerance = Annotated[
    float | None,
    typer.Option(
        "--slice-tolerance", min=0, metavar="MM", rich_help_panel=INPUT,
        help="Tolerate slice positions up to MM off an even spacing.",
    ),
]  # fmt: skip
SliceNumber = Annotated[
    int | None,
    typer.Option("--slice", min=1, metavar="INTEGER", rich_help_panel=INPUT, help="One slice only, counted from 1."),
]
Coils = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="INTEGER", rich_help_panel=INPUT,
        help="Raw k-space: compress to this number of virtual coils.",
    ),
]  # fmt: skip
Maps = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=INPUT,
        help="Raw k-space: coil sensitivities, .npy or .cfl. Default: estimated (ESPIRiT).",
    ),
]  # fmt: skip
MapSets = Annotated[
    str | None,
    typer.Option(
        "--map-sets", metavar="1|2|auto", rich_help_panel=INPUT,
        callback=values.one_of("--map-sets", values.MAP_SETS), autocompletion=values.complete(values.MAP_SETS),
        help="Raw k-space: sets of coil sensitivities to estimate; 2 where the object is larger than the field of view "
        "(default: auto, found from the calibration lines).",
    ),
]  # fmt: skip
Phases = Annotated[
    int | None,
    typer.Option(
        min=2, metavar="INTEGER", rich_help_panel=INPUT,
        help="ISMRMRD, retrospective gating: number of cardiac phases (ECG time stamps).",
    ),
]  # fmt: skip
Variable = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", rich_help_panel=INPUT, help="HDF5 and MATLAB: the array that holds the k-space."
    ),
]  # fmt: skip
Calibration = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=INPUT,
        help="Raw k-space: a file whose fully sampled centre serves for the sensitivities.",
    ),
]  # fmt: skip
DataKind = Annotated[
    str | None,
    typer.Option(
        "--kind", metavar="kspace|image", rich_help_panel=INPUT, callback=values.one_of("--kind", values.DATA_KINDS),
        autocompletion=values.complete(values.DATA_KINDS),
        help="Arrays: what they hold, where image and k-space are in doubt.",
    ),
]  # fmt: skip
SetNumber = Annotated[
    int | None,
    typer.Option("--set", min=0, metavar="INTEGER", rich_help_panel=INPUT, help="ISMRMRD: one set, by its counter."),
]  # fmt: skip
Contrast = Annotated[
    int | None,
    typer.Option(min=0, metavar="INTEGER", rich_help_panel=INPUT, help="ISMRMRD: one contrast, by its counter."),
]  # fmt: skip
Repetition = Annotated[
    int | None,
    typer.Option(min=0, metavar="INTEGER", rich_help_panel=INPUT, help="ISMRMRD: one repetition, by its counter."),
]  # fmt: skip
PhaseNumber = Annotated[
    int | None,
    typer.Option(
        "--phase-number", min=0, metavar="INTEGER", rich_help_panel=INPUT, help="ISMRMRD: one phase, by its counter."
    ),
]  # fmt: skip
View = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="INTEGER", rich_help_panel=INPUT,
        help="ISMRMRD: one of several stacks of slices of different direction, counted from 1.",
    ),
]  # fmt: skip
DropEmpty = Annotated[
    bool,
    typer.Option(
        "--drop-empty", rich_help_panel=INPUT, help="Raw k-space: leave out frames of which a slice has no lines."
    ),
]  # fmt: skip
DeviceName = Annotated[
    str,
    typer.Option(
        metavar="DEVICE", rich_help_panel=NETWORK, callback=values.check_device,
        autocompletion=values.complete_device, help="auto, cpu, cuda or cuda:N. auto takes a GPU where there is one.",
    ),
]  # fmt: skip
ReconstructionModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME|DIR", rich_help_panel=NETWORK,
        autocompletion=values.complete_model_for("reconstruct"),
        help="A published model (crnn models list), or a bundle folder. Default: cine-crnn.",
    ),
]  # fmt: skip
SegmentationModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME|DIR", rich_help_panel=NETWORK,
        autocompletion=values.complete_model_for("segment", "segment-drawn"),
        help="A published model (crnn models list), or a bundle folder. Default: cardiac-sax-clstm.",
    ),
]  # fmt: skip
ForecastModel = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="NAME|DIR", rich_help_panel=NETWORK,
        autocompletion=values.complete_model_for("forecast"),
        help="A published model (crnn models list), or a bundle folder. Default: cine-forecast.",
    ),
]  # fmt: skip
Undersample = Annotated[
    float | None,
    typer.Option(
        min=1, metavar="FACTOR", rich_help_panel=SIMULATION,
        help="Simulate an undersampled scan of fully sampled images, FACTOR times faster.",
    ),
]  # fmt: skip
ScanSeed = Annotated[
    int | None,
    typer.Option(
        min=0, max=2**62, metavar="INTEGER", rich_help_panel=SIMULATION,
        help="Seed of the simulated sampling pattern (default: 0).",
    ),
]  # fmt: skip
LabelStatistics = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", rich_help_panel=OUTPUT, help="Table of volumes, intensities and places: .csv or .json."
    ),
]  # fmt: skip
LabelPreview = Annotated[
    Path | None,
    typer.Option(metavar="FILE", rich_help_panel=OUTPUT, help="Slices with outlines: .png, or .gif of all frames."),
]
AsJson = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print JSON to standard output in place of a table.")
]
ReportAsJson = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Print the report to standard output too.")
]
Force = Annotated[bool, typer.Option("--force", rich_help_panel=OUTPUT, help="Replace outputs that exist.")]
