"""Choices of what to take of a file of raw k-space, and how."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from crnn_cli.errors import Param, UsageError

KINDS = ("kspace", "image")


@dataclass(frozen=True)
class RawChoices:
    """What a file of raw k-space leaves open, beside its axes; None where nothing was said.

    Counters are those of ISMRMRD, by their values in the file.

    Attributes
    ----------
    kind : of arrays, what the values along kx, ky and kz are: ``kspace`` or ``image``; None where the data must show
        that it is k-space.
    set_number, contrast, repetition, phase_number : the values of the counters set, contrast, repetition and phase to
        take, where there are several.
    view : number of a group of slices of one direction, from 1, in the order of the file.
    drop_empty : leave out frames of which a slice has no sample.

    Raises
    ------
    UsageError
        If ``kind`` is another word.
    """

    kind: str | None = None
    set_number: int | None = None
    contrast: int | None = None
    repetition: int | None = None
    phase_number: int | None = None
    view: int | None = None
    drop_empty: bool = False

    def __post_init__(self) -> None:
        if self.kind not in (None, *KINDS):
            raise UsageError(Param("kind", self.kind), " is not known", remedy=(f"use {' or '.join(KINDS)}",))

    def given(self) -> dict[str, Any]:
        """The choices that were made, by name.

        >>> RawChoices(set_number=0, drop_empty=True).given()
        {'set_number': 0, 'drop_empty': True}
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None and value is not False}


NOTHING_CHOSEN = RawChoices()
