"""The option ``--min-psnr``: what it goes with, and the model that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crnn_cli.errors import Param, UsageError
from crnn_cli.workflows.reconstruct.methods import NETWORK

if TYPE_CHECKING:
    from crnn_cli.workflows.reconstruct.methods import PreparedMethod
    from crnn_cli.workflows.reconstruct.options import ReconstructOptions

_EXPECTED = " compares with the expected PSNR, which "


def plan_expectation(options: ReconstructOptions) -> None:
    """Check that a PSNR can be expected with these options, where a least one is asked for.

    Raises
    ------
    UsageError
        If it cannot: it was fitted for networks as they are published, and needs lines held out.
    """
    if options.min_psnr is None:
        return
    asked = Param("min_psnr"), _EXPECTED
    if options.method != NETWORK:
        raise UsageError(*asked, f"is known of networks, not of {options.method}", remedy=_residual("or leave it out"))
    if options.hold_out_folds == 0:
        raise UsageError(*asked, "needs lines held out, and ", Param("hold_out_folds", 0), " holds out none")
    for name in ("adapt", "adapt_steps", "iterations"):
        if getattr(options, name) is not None:
            raise UsageError(
                *asked, "is known of the network as it was published, not with ", Param(name),
                remedy=_residual("or leave one of them out"),
            )  # fmt: skip


def require_law(options: ReconstructOptions, method: PreparedMethod) -> None:
    """Check that the model says which PSNR to expect, where a least one is asked for.

    Raises
    ------
    UsageError
        If it does not.
    """
    if options.min_psnr is not None and method.psnr_law is None:
        raise UsageError(
            Param("min_psnr"), _EXPECTED, f"{method.facts['model']['name']} does not state: it was not fitted",
            remedy=(
                "fit it on fully sampled series with benchmarks/expected_psnr.py (docs/howto/gates.md), or use ",
                Param("max_residual"),
            ),
        )  # fmt: skip


def _residual(other: str) -> tuple[str | Param, ...]:
    return "use ", Param("max_residual"), f", {other}"
