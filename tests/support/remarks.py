"""Remarks of readers and results, as tests look at them."""

from collections.abc import Iterable

from crnn_cli.notices import Remark


def texts(remarks: Iterable[Remark]) -> list[str]:
    return [each.text for each in remarks]


def codes(remarks: Iterable[Remark]) -> list[str]:
    return [each.code for each in remarks]
