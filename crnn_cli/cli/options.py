"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SeriesChoice = Annotated[
    str | None, typer.Option("--series", help="Of a DICOM folder: its number in crnn info, or its UID.")
]
Uneven = Annotated[
    float | None,
    typer.Option("--slice-tolerance", min=0, metavar="MM", help="Take slices as even that lie so near to even places."),
]
SliceNumber = Annotated[int | None, typer.Option("--slice", min=1, help="One slice only, counted from 1.")]
Coils = Annotated[int | None, typer.Option(min=1, help="Of raw k-space: compress to so many virtual coils.")]
Maps = Annotated[Path | None, typer.Option(help="Of raw k-space: coil sensitivities, .npy or .cfl; else ESPIRiT.")]
Phases = Annotated[int | None, typer.Option(min=2, help="Of ISMRMRD: sort lines into so many cardiac phases, by ECG.")]
Variable = Annotated[str | None, typer.Option(help="Of HDF5 and MATLAB: which array is the k-space.")]
