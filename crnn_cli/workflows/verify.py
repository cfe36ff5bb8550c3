"""Whether two images show the same values in the same places of the body."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import CrnnError, QualityError

if TYPE_CHECKING:
    from crnn_cli.data.alignment import ImageComparison
    from crnn_cli.data.image import Image
    from crnn_cli.io.images import LoadedImage


@dataclass(frozen=True)
class Verification:
    """Two images compared. differences : sentences about what differs by more than the tolerances; empty if nothing."""

    first: str
    second: str
    comparison: ImageComparison
    differences: list[str]

    @property
    def passed(self) -> bool:
        """Whether the two agree."""
        return not self.differences

    def as_json(self) -> dict[str, Any]:
        """The figures as plain values; lengths in mm."""
        return {"first": self.first, "second": self.second, **asdict(self.comparison), "same": self.passed}

    def rows(self) -> list[list[str]]:
        """The figures as names and values."""
        found = self.comparison
        times = ("unknown" if t is None else f"{1000 * t:g} ms" for t in found.frame_times)
        return [
            ["shapes", " and ".join(" x ".join(map(str, shape)) for shape in found.shapes)],
            ["farthest voxels apart", "-" if found.distance_mm is None else f"{found.distance_mm:.3g} mm"],
            ["largest difference of values", "-" if found.difference is None else f"{found.difference:.6g}"],
            ["voxels that differ", "-" if found.voxels is None else str(found.voxels)],
            ["frame times", " and ".join(times)],
        ]

    def require_passed(self) -> None:
        """Raise QualityError where the two differ."""
        if not self.passed:
            raise QualityError(f"{self.first} and {self.second} are not the same: {'; '.join(self.differences)}")


def verify_images(
    first: Path,
    second: Path,
    series: str | None = None,
    other_series: str | None = None,
    tolerance: float = 1e-3,
    value_tolerance: float = 0.0,
) -> Verification:
    """Read two images, bring their axes to agree, and compare voxel by voxel.

    Parameters
    ----------
    series, other_series : of a DICOM folder as the first and the second.
    tolerance : how far apart corresponding voxels may lie, in mm. value_tolerance : how far values may differ.

    Raises
    ------
    CrnnError
        If one of them cannot be read.
    """
    from crnn_cli.data.alignment import compare_images

    one, other = _read(first, series), _read(second, other_series, {"series": "other_series"})
    images = _completed(one, other.image), _completed(other, one.image)
    comparison = compare_images(*images)
    return Verification(str(first), str(second), comparison, comparison.differs(tolerance, value_tolerance))


def _completed(part: LoadedImage, whole: Image) -> Image:
    """Image of a file; of a DICOM SEG that leaves slices out, with background on the grid of the other."""
    from crnn_cli.data.alignment import padded_to
    from crnn_cli.io.formats import DICOM_SEG

    shape = (*whole.shape[:3], whole.frames)
    completed = padded_to(part.image, whole.affine, shape) if part.format == DICOM_SEG.name else None
    return completed or part.image


def _read(file: Path, series: str | None, renamed: dict[str, str] | None = None) -> LoadedImage:
    from crnn_cli.io.images import load_image

    try:
        loaded = load_image(file, None, series, keep_type=True)
    except CrnnError as error:
        raise error.with_params(renamed or {}) from None
    notices.tell(*loaded.facts())
    return loaded
