"""One image of a DICOM file, as its header describes it, before any pixel is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from crnn_cli.errors import Words
from crnn_cli.io.dicom.frames.attributes import Clock
from crnn_cli.io.dicom.frames.image_type import ImageType
from crnn_cli.io.dicom.frames.mosaic import Tile
from crnn_cli.io.dicom.frames.values import LookupTable
from crnn_cli.io.dicom.pixels import PixelLayout
from crnn_cli.io.dicom.sources import Source


class Problem(NamedTuple):
    """Why something cannot be read.

    Attributes
    ----------
    text : the reason, as part of a sentence.
    remedy : what would help; empty where nothing is known.
    damaged : whether a file is broken, in contrast to one that is whole and not supported.
    """

    text: str
    remedy: tuple[Words, ...] = ()
    damaged: bool = False


class Origin(NamedTuple):
    """What the images of one series share.

    Attributes
    ----------
    series_uid, study_uid, frame_of_reference : SeriesInstanceUID, StudyInstanceUID, FrameOfReferenceUID.
    series_number, description, modality, sop_class : SeriesNumber, SeriesDescription, Modality, SOPClassUID.
    patient : digest that tells patients apart, see `crnn_cli.io.dicom.frames.attributes.patient_digest`.
    """

    series_uid: str = ""
    study_uid: str = ""
    frame_of_reference: str = ""
    series_number: int | None = None
    description: str = ""
    modality: str = ""
    sop_class: str = ""
    patient: str = ""

    def contradicts(self, other: Origin) -> bool:
        """Whether two origins differ in something that both state; the description, a text of people, aside."""
        pairs = zip(self._replace(description=""), other, strict=True)
        return any(a != b for a, b in pairs if a not in ("", None) and b not in ("", None))


class Counts(NamedTuple):
    """How many images the header promises; None where it does not say.

    Attributes
    ----------
    acquisition, cycle, positions : ImagesInAcquisition, CardiacNumberOfImages, NumberOfTemporalPositions.
    """

    acquisition: int | None = None
    cycle: int | None = None
    positions: int | None = None


class Part(NamedTuple):
    """The part of a concatenation, one object of many frames in several files, that a file is.

    Attributes
    ----------
    uid : ConcatenationUID; "" where the file is an object of its own.
    number, of : InConcatenationNumber, from 1, and InConcatenationTotalNumber; None where the header does not say.
    """

    uid: str = ""
    number: int | None = None
    of: int | None = None


@dataclass(frozen=True)
class Frame:
    """One frame of one file; None where the header lacks the attribute.

    Attributes
    ----------
    source, index : the file, and the index of the frame in it.
    origin : patient, study and series.
    instance, instance_number : SOPInstanceUID and InstanceNumber.
    position, orientation : ImagePositionPatient (LPS, mm) and ImageOrientationPatient (direction cosines).
    spacing : PixelSpacing, mm between rows and between columns.
    size : Rows and Columns; of a mosaic those of one slice.
    thickness, gap : SliceThickness and SpacingBetweenSlices, mm.
    times : numbers that order frames, by name, the most trusted first; ms where they are times.
    clocks : acquisition, reference and content time, by name.
    resolution : TemporalResolution, ms.
    beat : length of the heart beat, ms.
    image_type, echo : image type, and echo time in ms.
    counts : how many images there should be.
    rescale, table : RescaleSlope and RescaleIntercept; the lookup table, which takes their place.
    layout : storage of the pixels.
    tile : the part of a mosaic.
    problem : why the frame cannot be read.
    sequence : words of ScanningSequence, SequenceVariant and PulseSequenceName.
    indices : dimension indices, see `crnn_cli.io.dicom.frames.dimensions.dimension_indices`.
    part : of a concatenation.
    """

    source: Source
    index: int
    origin: Origin
    size: tuple[int, int]
    layout: PixelLayout
    instance: str = ""
    instance_number: int | None = None
    position: tuple[float, float, float] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, float] | None = None
    thickness: float | None = None
    gap: float | None = None
    times: dict[str, float] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    resolution: float | None = None
    beat: float | None = None
    image_type: ImageType = ImageType()  # noqa: RUF009 - immutable
    echo: float | None = None
    counts: Counts = Counts()  # noqa: RUF009 - immutable
    rescale: tuple[float, float] = (1.0, 0.0)
    table: LookupTable | None = None
    tile: Tile | None = None
    problem: Problem | None = None
    sequence: tuple[str, ...] = ()
    indices: dict[str, int] = field(default_factory=dict)
    part: Part = Part()  # noqa: RUF009 - immutable


@dataclass(frozen=True)
class FileContents:
    """What a file turned out to be: images, another DICOM object, or nothing that is read.

    Attributes
    ----------
    source : the file.
    frames : of a file with images.
    other : name of a DICOM object that is no image to read, such as RT Dose.
    left_out : why a file was not read; "" if it was, or if it is another object.
    begins_as_dicom : whether a file that was not read is DICOM all the same.
    is_text : whether it is readable text.
    origin : patient, study and series of a file that was not read, as far as its header goes.
    """

    source: Source
    frames: tuple[Frame, ...] = ()
    other: str = ""
    left_out: str = ""
    begins_as_dicom: bool = False
    is_text: bool = False
    origin: Origin = Origin()  # noqa: RUF009 - immutable
