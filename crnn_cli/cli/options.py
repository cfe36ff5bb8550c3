"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

SeriesChoice = Annotated[
    str | None, typer.Option("--series", help="Of a DICOM folder: its number in crnn info, or its UID.")
]
Uneven = Annotated[
    float | None,
    typer.Option("--uneven", min=0, metavar="MM", help="Take DICOM slices as even that lie this near to even places."),
]
