"""LoadedImage: an image with the facts that a report states about its source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crnn_cli.data.image import Image
from crnn_cli.notices import Fact, Remark

if TYPE_CHECKING:
    from crnn_cli.io.dicom.series import Series


@dataclass(frozen=True)
class LoadedImage:
    """An image and the facts about its source.

    Attributes
    ----------
    image : values and geometry.
    source : what a report states: ``file``, ``sha256`` (of all files of a DICOM series, in the order of its grid), and
        what was chosen.
    stored_axes : axes of a NIfTI file before any were added; 3 or 4 for other formats.
    series : the DICOM series, None for other formats.
    dtype : numpy dtype of the stored voxels; of DICOM, after the rescale.
    intent : NIfTI intent code, 1002 for label maps of any format, 0 if unknown.
    format : name of the format in `crnn_cli.io.formats`.
    scale : slope and intercept of the header, by which the values were made of the stored ones.
    notes : what its reader found doubtful about the file.
    """

    image: Image
    source: dict[str, str] = field(default_factory=dict)
    stored_axes: int = 3
    series: Series | None = None
    dtype: str = ""
    intent: int = 0
    format: str = "NIfTI"
    scale: tuple[float, float] = (1.0, 0.0)
    notes: tuple[Remark, ...] = ()

    def remarks(self) -> list[Remark]:
        """Doubts about the file and the geometry, and what is odd about the DICOM series."""
        return [*self.notes, *self.image.doubts(), *(self.series.remarks if self.series else ())]

    def facts(self) -> list[Remark]:
        """What was assumed in reading, such as which series of a folder were joined."""
        return [each for each in self.remarks() if isinstance(each, Fact)]
