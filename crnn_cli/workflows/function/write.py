"""Outputs of `crnn function`: report, table, picture; all or nothing."""

from __future__ import annotations

import json
from pathlib import Path

from crnn_cli.workflows.function.measure import MeasuredFunction
from crnn_cli.workflows.function.options import FunctionOptions


def write_outputs(measured: MeasuredFunction, name: str, options: FunctionOptions) -> None:
    """Write what was asked for.

    Parameters
    ----------
    name : of the source, for the case in the table and the title of the picture.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from crnn_cli.io.atomic_write import Output, write_together
    from crnn_cli.report.function_picture import function_picture
    from crnn_cli.report.function_table import function_csv
    from crnn_cli.workflows.function.page import page_of

    outputs = []
    if options.out is not None:
        outputs.append(Output(options.out, (json.dumps(measured.report, indent=2, allow_nan=False) + "\n").encode()))
    if options.csv is not None:
        outputs.append(function_csv(name, measured.function, options.csv))
    if options.plot is not None:
        outputs.append(function_picture(measured.function, options.plot, f"crnn function, {Path(name).name}"))
    if options.page is not None:
        outputs.append(page_of(measured, name, options))
    if outputs:
        write_together(outputs, options.force)
