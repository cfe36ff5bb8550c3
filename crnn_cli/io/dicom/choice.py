"""Choice of a series of a folder: the one that is asked for, the only one, or the only stack."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crnn_cli.errors import Param, UnreadableError, UnsupportedDataError
from crnn_cli.io.dicom.listing import Listing
from crnn_cli.io.dicom.series import Series, ranges
from crnn_cli.io.dicom.stacks.join import join
from crnn_cli.io.dicom.stacks.slices import StackSlice, by_place, kin
from crnn_cli.notices import Doubt, Fact

_SEVERAL = re.compile(r"\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*")


def choose_series(
    contents: Listing, choice: str | None, path: Path, slice_number: int | None = None,
    slice_tolerance: float | None = None,
) -> Series:  # fmt: skip
    """Choose the series of a number or UID, or the only stack, or the only one that would be readable, were it whole.

    Parameters
    ----------
    contents : the series, as `list_series` gives them.
    choice : SeriesInstanceUID, or number in the listing, from 1; several numbers, such as ``3-8,10``, are joined to a
        stack.
    path : where they are, for messages.
    slice_number : of a slice, from 1, that is taken alone where the grid has holes elsewhere.
    slice_tolerance : in mm, of a stack that is joined here.

    Raises
    ------
    UnsupportedDataError
        If there are several and none was chosen (the message lists them), the choice fits none, or it has problems.
    UnreadableError
        If files of it are damaged, or files that may belong to it: a part is never read as if it were the whole.
    """
    if choice is None:
        chosen = _only_series(contents, path, slice_number)
    elif not choice.isdigit() and _SEVERAL.fullmatch(choice):
        chosen = _joined(contents, choice, path, slice_tolerance)
    else:
        fitting = [s for s in contents.every if choice and choice in (str(s.number), s.uid)]
        if len(fitting) != 1:
            raise UnsupportedDataError(
                Param("series", choice), f" fits {len(fitting)} of the series in {path}\n" + table(contents)
            )
        chosen = fitting[0]
    if not chosen.grid and slice_number in chosen.whole_slices:
        return chosen.one_slice(slice_number - 1)
    if chosen.problems:
        refusal = UnreadableError if chosen.damaged else UnsupportedDataError
        raise refusal(
            f"series {chosen.number} of {path} cannot be read: {'; '.join(chosen.problems)}", remedy=chosen.remedy
        )
    return chosen


def _only_series(contents: Listing, path: Path, slice_number: int | None) -> Series:
    """The only series that can be read; one whose files are damaged counts, as another is no replacement for it."""
    every, stack = contents.series, contents.only_stack
    if stack is not None:
        if not contents.not_in_stack:
            return stack
        text = f"series {stack.number} was taken, the only stack; left out were {contents.not_in_stack}"
        return replace(stack, remarks=(*stack.remarks, Fact("stack-taken", text)))
    possible = [each for each in every if each.grid or each.damaged or slice_number in each.whole_slices]
    if len(possible) > 1 or (not possible and len(every) > 1):
        reasons = "".join(f"; {each.told}" for each in contents.unjoined)
        others = tuple(word for each in contents.unjoined if each.remedy for word in (", or ", *each.remedy))
        remedy = ("choose one with ", Param("series"), *others, "\n" + table(contents))
        raise UnsupportedDataError(f"{path} holds {len(every)} series{reasons}", remedy=remedy)
    if not possible or len(every) == 1:
        return every[0]
    text = f"series {possible[0].number} was taken, the only one of {len(every)} that can be read"
    return replace(possible[0], remarks=(*possible[0].remarks, Fact("dicom-only-series", text)))


def _joined(contents: Listing, choice: str, path: Path, slice_tolerance: float | None) -> Series:
    """The stack of several series that the user names; a series without a grid where they are none.

    Raises
    ------
    UnsupportedDataError
        If a number is none of a series with one slice and several frames, or they do not fit each other.
    """
    slices = _named(contents, choice, path)
    numbers = ranges(each.series.number for each in slices)
    groups = kin(slices)
    if len(groups) > 1:
        parts = " and ".join(ranges(each.series.number for each in group) for group in groups)
        told = "differ in study, frame of reference, matrix, pixels, direction, place in the plane or kind of image"
        raise UnsupportedDataError(f"series {numbers} of {path} are no stack: {parts} {told}\n" + table(contents))
    double = next((place for place in by_place(slices) if len(place) > 1), None)
    if double is not None:
        raise UnsupportedDataError(
            f"series {' and '.join(str(each.series.number) for each in double)} of {path} lie in one place",
            remedy=("leave one of them out of ", Param("series")),
        )
    stack = join(slices, len(contents.every) + 1, slice_tolerance)
    if all(each.gated for each in slices):
        return stack
    text = f"series {numbers} are joined by the order of their frames: nothing says that these are cardiac phases"
    return replace(stack, remarks=(*stack.remarks, Doubt("stack-not-gated", text)))


def _named(contents: Listing, choice: str, path: Path) -> Sequence[StackSlice]:
    """The slices of a text such as ``3-8,10``, each once."""
    numbers: set[int] = set()
    for part in choice.split(","):
        low, _, high = part.partition("-")
        first, last = (min(int(number), len(contents.every) + 1) for number in (low, high or low))
        numbers.update(range(first, last + 1))
    slices = {each.series.number: each for each in contents.slices}
    unfit = sorted(numbers - slices.keys())
    if unfit or not numbers:
        told = f": {ranges(unfit)} are not" if unfit else ""
        raise UnsupportedDataError(
            Param("series", choice), f" is to name series of {path} with one slice and several frames{told}\n",
            table(contents),
        )  # fmt: skip
    return [slices[number] for number in sorted(numbers)]


def table(contents: Listing) -> str:
    """One line of text for each series, for messages."""
    return "\n".join(
        f"  {s.number}  {s.title or '-'}  {s.kind}, {s.slices} x {s.frames} of "
        f"{s.size[1]} x {s.size[0]}" + (f": {s.problems[0]}" if s.problems else "")
        for s in contents.series
    )
