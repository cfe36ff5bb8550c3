"""Names in a folder of saved runs: reconstructions of one scan, each without some of the measured lines."""

from __future__ import annotations

FACTS = "runs.json"
"""File that says which images the runs belong to, and the share of the lines that each left out."""


def run_name(number: int | None) -> str:
    """Name of a run, counted from 1; None for a pattern of all.

    >>> run_name(3), run_name(None)
    ('run_03.nii.gz', 'run_*.nii.gz')
    """
    return f"run_{'*' if number is None else f'{number:02d}'}.nii.gz"
