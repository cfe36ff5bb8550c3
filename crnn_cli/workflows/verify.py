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
    """Two images compared.

    Attributes
    ----------
    differences : sentences about what differs by more than the tolerances; empty if nothing.
    """

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

    def words(self) -> str:
        """What two images that agree have in common."""
        if self.comparison.distance_mm is None:
            return "the same values in the same voxels; neither file says where it lies"
        return "the same values in the same places"

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

    An image that does not say where it lies is compared as stored, unless its voxels lie by its sizes alone where those
    of the other do. Of two such images nobody can tell more; beside one with a place it does not pass.

    Parameters
    ----------
    series, other_series : of a DICOM folder as the first and the second.
    tolerance : how far apart corresponding voxels may lie, in mm. value_tolerance : how far values may differ.

    Raises
    ------
    CrnnError
        If one of them cannot be read.
    """
    from crnn_cli.data.alignment import compare_as_stored, compare_images

    one, other = _read(first, series), _read(second, other_series, {"series": "other_series"})
    images = _completed(one, other.image), _completed(other, one.image)
    unknown = [name for name, image in zip((first, second), images, strict=True) if image.codes == (0, 0)]
    comparison = compare_images(*images)
    apart = comparison.distance_mm is None or comparison.distance_mm > tolerance
    if _fit_as_stored(*images) and (apart or len(unknown) == 2):
        comparison = compare_as_stored(*images)
    differences = comparison.differs(tolerance, value_tolerance)
    unplaced = comparison.difference is not None and comparison.distance_mm is None
    if unplaced and len(unknown) == 1:
        differences.append(f"{unknown[0]} does not say where it lies, so its place cannot be compared")
    return Verification(str(first), str(second), comparison, differences)


def _fit_as_stored(first: Image, second: Image) -> bool:
    """Whether only voxel can be compared with voxel, as nobody knows where one of the two lies."""
    from crnn_cli.data.alignment import is_unplaced

    return is_unplaced(first, second) and (*first.shape[:3], first.frames) == (*second.shape[:3], second.frames)


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
