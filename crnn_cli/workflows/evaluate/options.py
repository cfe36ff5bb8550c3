"""What is compared in which way, and which quality is required."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crnn_cli.errors import Param, UsageError

Kind = Literal["auto", "images", "labels"]


@dataclass(frozen=True)
class EvaluateOptions:
    """How two images, or two label maps, are compared.

    Parameters
    ----------
    kind : "images" or "labels" overrules what the data look like; "auto" goes by `pair.are_label_maps`.
    ignore_geometry : compare voxel by voxel as stored, wherever the two lie in space.
    fit_scale : images: multiply the tested image by the factor that fits best (least squares) first.
    require_psnr, require_ssim : images: the least PSNR in dB, the least SSIM.
    require_dice : label maps: the least Dice of each label of the reference, 0 to 1.
    """

    kind: Kind = "auto"
    ignore_geometry: bool = False
    fit_scale: bool = False
    require_psnr: float | None = None
    require_ssim: float | None = None
    require_dice: float | None = None

    def __post_init__(self) -> None:
        if self.require_dice is not None and not 0 <= self.require_dice <= 1:
            raise UsageError(Param("require_dice", self.require_dice), ": a Dice lies between 0 and 1")

    @property
    def requires_quality(self) -> bool:
        """Whether any threshold was given."""
        return any(value is not None for value in (self.require_psnr, self.require_ssim, self.require_dice))

    def require_fitting(self, labels: bool, uncertainty: bool) -> None:
        """Refuse options that are for the other kind of data.

        Parameters
        ----------
        labels : whether label maps are compared.
        uncertainty : whether an uncertainty map was given.

        Raises
        ------
        UsageError
            If one was given.
        """
        for_images = {
            "fit_scale": self.fit_scale, "uncertainty": uncertainty, "require_psnr": self.require_psnr is not None,
            "require_ssim": self.require_ssim is not None,
        }  # fmt: skip
        for_labels = {"require_dice": self.require_dice is not None}
        for name, given in (for_images if labels else for_labels).items():
            if given and labels:
                remedy = (Param("kind", "images"), " compares them as images")
                raise UsageError(Param(name), " is for images, these are label maps", remedy=remedy)
            if given:
                remedy = (Param("kind", "labels"), " compares them as label maps")
                raise UsageError(Param(name), " is for label maps, these are images", remedy=remedy)
