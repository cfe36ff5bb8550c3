"""The person whose heart is measured: what a DICOM header tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from crnn_cli.cardiac.function import Subject
    from crnn_cli.workflows.function.options import FunctionOptions


def with_header(subject: Subject, header: Dataset | None, options: FunctionOptions) -> Subject:
    """Body surface and heart rate of a DICOM header, where they were not given."""
    from crnn_cli.cardiac.body import body_surface, is_plausible

    if header is None:
        return subject
    height, weight, rate = (_positive(header.get(key)) for key in ("PatientSize", "PatientWeight", "HeartRate"))
    if subject.body_surface is None and is_plausible(100 * height, weight):
        formula = options.bsa
        subject = replace(subject, body_surface=body_surface(100 * height, weight, formula), formula=formula)
    if subject.heart_rate is None and 20 <= rate <= 300:
        subject = replace(subject, heart_rate=rate)
    return subject


def _positive(value: object) -> float:
    """A number of a header; 0 where there is none."""
    try:
        return max(0.0, float(str(value)))
    except ValueError:
        return 0.0
