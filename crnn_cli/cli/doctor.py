"""``crnn doctor``: whether an installation is complete, and what it runs on."""

from __future__ import annotations

from crnn_cli.cli import console
from crnn_cli.cli.options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Check the installation: devices, memory, threads, versions, DICOM codecs, and the models with their licence.

    The exit code is 0 whatever is found. Send the output of --json along with a report of a fault.

    Example: crnn doctor --json
    """
    from crnn_cli.workflows.doctor import DEVICE_COLUMNS, MODEL_COLUMNS, device_rows, diagnose, model_rows, rows

    diagnosis = diagnose()
    if as_json:
        console.print_json(diagnosis)
        return
    console.table("installation", ["", ""], rows(diagnosis), result=True)
    console.table("devices", DEVICE_COLUMNS, device_rows(diagnosis), prose=["name"], result=True)
    console.table("models", MODEL_COLUMNS, model_rows(diagnosis), prose=["weights"], result=True)
