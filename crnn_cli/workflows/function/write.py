"""Outputs of `crnn function`: report, table, picture, structured report; all or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli.workflows.function.measure import MeasuredFunction
from crnn_cli.workflows.function.options import FunctionOptions

if TYPE_CHECKING:
    from crnn_cli.io.atomic_write import Output
    from crnn_cli.io.dicom.evidence import Evidence


def save(measured: MeasuredFunction, name: str, options: FunctionOptions) -> dict[str, Any]:
    """Write what was asked for; the report as written.

    Parameters
    ----------
    name : of the source, for the case in the table and the title of the picture.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    from crnn_cli.io.atomic_write import write_together
    from crnn_cli.report.function.picture import function_picture
    from crnn_cli.report.function.table import function_csv
    from crnn_cli.report.sidecar import report_output
    from crnn_cli.workflows.function.page import page_of

    report = measured.report
    outputs = []
    if options.csv is not None:
        outputs.append(function_csv(name, measured.function, options.csv))
    if options.plot is not None:
        outputs.append(function_picture(measured.function, options.plot, f"crnn function, {Path(name).name}"))
    if options.page is not None:
        outputs.append(page_of(measured, name, options))
    if options.sr is not None and measured.evidence is not None:
        outputs.append(_structured_report(measured, measured.evidence, options.sr))
    if options.out is not None:
        report = report | {"output": str(options.out)}
        outputs.append(report_output(options.out, report, outputs))
    if outputs:
        write_together(outputs, options.force)
    return report


def _structured_report(measured: MeasuredFunction, evidence: Evidence, target: Path) -> Output:
    from crnn_cli.workflows.function.structured_report import algorithm_of, structured_report

    algorithm = algorithm_of(measured.report)
    return structured_report(measured.function, measured.chambers, evidence, algorithm, target)
