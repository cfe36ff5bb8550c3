"""Headers of new objects: misspelt attributes respelt, unusable ones left out, names of any alphabet kept."""

import warnings
from datetime import date

import pydicom
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from crnn_cli.io.atomic_write import write_together
from crnn_cli.io.dicom.header_copy import PATIENT_AND_STUDY, check_headers
from crnn_cli.io.dicom.header_repair import Repairs, usable_attributes
from crnn_cli.io.dicom.headers import silence_pydicom
from crnn_cli.io.dicom.read import read_series
from crnn_cli.io.dicom.seg import SegForm, require_seg, seg_outputs
from crnn_cli.io.dicom.write import About, write_derived
from tests.io.dicom.test_seg import ALGORITHM, KEPT, labelled
from tests.support.dicom import oblique, values, write_series


def raw(data, keyword, value):
    """Put bytes into a header as they are, whatever DICOM says of them."""
    tag = Tag(tag_for_keyword(keyword))
    content = value if isinstance(value, bytes) else value.encode("latin-1")
    content += b" " * (len(content) % 2)
    data[tag] = RawDataElement(tag, dictionary_VR(tag), len(content), content, 0, False, True)


def header(**given):
    data = Dataset()
    for keyword, value in given.items():
        raw(data, keyword, value)
    return data


def repaired(**given):
    repairs = Repairs()
    with silence_pydicom():
        data = usable_attributes(header(**given), [k for k in given if k != "SpecificCharacterSet"], repairs)
    return data, list(repairs.respelt), list(repairs.left_out)


DATES = st.dates(date(1900, 1, 1), date(2100, 1, 1))


@given(day=DATES, between=st.sampled_from(["", "-", ".", "/"]), padding=st.sampled_from(["", " ", "\0"]))
def test_a_date_is_respelt(day, between, padding):
    data, respelt, left_out = repaired(StudyDate=day.strftime(f"%Y{between}%m{between}%d") + padding)
    assert (data.StudyDate, left_out) == (day.strftime("%Y%m%d"), [])
    assert respelt == (["StudyDate"] if between else [])


@pytest.mark.parametrize(
    ("keyword", "given_", "becomes"),
    [
        ("PatientSex", "Male", "M"), ("PatientSex", "f", "F"), ("PatientSex", "FEMALE ", "F"),
        ("PatientSex", "X", None),
        ("PatientSex", "M\\F", None), ("PatientSex", "M\\M", "M"), ("PatientSex", "\u00e9", None),
        ("PatientBirthDate", "00000000", None), ("PatientBirthDate", "19991345", None), ("StudyDate", "1999", None),
        ("StudyTime", "12:34:56", "123456"), ("StudyTime", "12:34:56.123456789", "123456.123456"),
        ("StudyTime", "1234", "1234"), ("StudyTime", "240000", None), ("StudyTime", "126000", None),
        ("StudyTime", "12,5", None), ("PatientAge", "45Y", "045Y"), ("PatientAge", "45 y", "045Y"),
        ("PatientAge", "old", None), ("PatientWeight", "70,5", "70.5"), ("PatientWeight", "heavy", None),
        ("PatientWeight", "nan", None), ("PatientWeight", "70.123456789012345678", "70.1234567890124"),
        ("SliceThickness", "5\\6", None), ("SliceThickness", "5\\5", "5"), ("AcquisitionNumber", "3.0", "3"),
        ("AcquisitionNumber", "3.5", None), ("AcquisitionNumber", "99999999999", None),
        ("BodyPartExamined", "heart", "HEART"), ("BodyPartExamined", "C-SPINE", None), ("Laterality", "left", None),
        ("StudyInstanceUID", "1.2.840.10008 ", "1.2.840.10008"), ("StudyInstanceUID", "1.2.\xe4", None),
        ("PixelSpacing", "1.5", None), ("PixelSpacing", "1,5\\1,5", ["1.5", "1.5"]),
    ],
)  # fmt: skip
def test_a_value_is_kept_respelt_or_left_out(keyword, given_, becomes):
    data, respelt, left_out = repaired(**{keyword: given_})
    if becomes is None:
        assert keyword not in data
        assert (respelt, left_out) == ([], [keyword])
    else:
        found = data[keyword].value
        assert [str(v) for v in found] == becomes if isinstance(becomes, list) else str(found) == becomes
        assert left_out == []
        assert respelt == ([] if given_.strip(" \0") == becomes else [keyword])


NAMES = {
    # PS3.5 annexes H (Japanese), I (Korean), J and K (Chinese): the bytes of the standard's own examples
    b"\\ISO 2022 IR 87": (
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    b"ISO_IR 13\\ISO 2022 IR 87": (
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    b"\\ISO 2022 IR 149": (
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    b"\\ISO 2022 IR 58": (b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东="),
    b"GB18030": (b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
    b"ISO_IR 192": ("Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
    b"ISO_IR 100": ("Buc^Jérôme".encode("latin-1"), "Buc^Jérôme"),
    b"ISO_IR 203": ("Œuvre^€".encode("iso8859-15"), "Œuvre^€"),
    # misspelt
    b"ISO IR 100": ("Äneas^Rüdiger".encode("latin-1"), "Äneas^Rüdiger"),
    b"iso-ir-144": ("Люкceмбypг".encode("iso8859-5"), "Люкceмбypг"),  # noqa: RUF001
    b"utf-8": ("Διονυσιος".encode(), "Διονυσιος"),
    b"ISO_IR 149": ("홍^길동".encode("euc_kr"), "홍^길동"),
    b"\\ISO_2022_IR_87": (b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
    b"ISO8859-7": ("Διονυσιος".encode("iso8859-7"), "Διονυσιος"),
    b"KLINGON": ("山田^太郎".encode(), "山田^太郎"),  # no such set, but the bytes are UTF-8 beyond doubt
}


@pytest.mark.parametrize("characters", NAMES, ids=lambda value: value.decode())
def test_names_of_every_alphabet_come_back_from_series_and_seg(tmp_path, characters):
    stored, name = NAMES[characters]
    write_series(tmp_path / "d", values(2, 1, 4, 5), oblique(1))
    rewrite(tmp_path / "d", PatientName=stored, SpecificCharacterSet=characters)
    for file in outputs(tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data = pydicom.dcmread(file)
            assert str(data.PatientName).rstrip("=") == name.rstrip("=")


def test_bytes_that_are_no_text_are_left_out(tmp_path):
    for characters, stored in (
        (b"KLINGON", b"\xff\xfe"),
        (b"ISO_IR 192", b"\xb0\xa1"),
        (b"\\ISO 2022 IR 149", b"\xff^\xff"),
    ):
        data, _, left_out = repaired(PatientName=stored, SpecificCharacterSet=characters)
        assert ("PatientName" in data) == ("PatientName" not in left_out)
    assert repaired(PatientName=b"\xff\xfe", SpecificCharacterSet=b"KLINGON")[2] == [
        "PatientName",
        "SpecificCharacterSet",
    ]
    assert repaired(PatientName=b"\xb0\xa1", SpecificCharacterSet=b"ISO_IR 192")[2] == ["PatientName"]


def rewrite(folder, **given):
    for file in folder.iterdir():
        data, content = pydicom.dcmread(file), {}
        for number, (keyword, value) in enumerate(given.items()):  # a mark in ASCII first: pydicom would encode again
            even = value + b" " * (len(value) % 2)
            mark = f"{number:04d}".encode() + b"_" * (len(even) - 4)
            fits = len(even) >= 8
            content |= {mark: even} if fits else {}
            raw(data, keyword, mark if fits else even)
        with silence_pydicom():
            data.save_as(file)
        stored = file.read_bytes()
        for mark, value in content.items():
            assert stored.count(mark) == 1
            stored = stored.replace(mark, value)
        file.write_bytes(stored)


def outputs(place):
    """Write the derived series and the SEG of the series in ``d``, and return their files."""
    image, _, series = read_series(place / "d")
    write_derived(image, series, About("made", "made"), place / "out", force=True)
    labels, _ = labelled(place / "d")
    require_seg(series, KEPT, ALGORITHM, SegForm())
    write_together(seg_outputs(labels, series, KEPT, ALGORITHM, place / "seg.dcm"))
    return [*(place / "out").iterdir(), *place.glob("seg*.dcm")]


ANYTHING = st.one_of(
    st.sampled_from([
        b"", b"0", b"00000000", b"2026-01-02", b"12:34:56", b"Male", b"\\", b"a\\b\\c", b"1,5", b"-1", b"ISO IR 100",
        b"\\ISO 2022 IR 87", b"nan", b"1e400", b"mr", b"\x1b$B", b"\xe9\xff", b"\0\0", b"Zz^Mark^=\xc3\xa9", b"x" * 200,
    ]),
    st.binary(max_size=12),
)  # fmt: skip
HARMLESS = {"StudyInstanceUID", "FrameOfReferenceUID"}
MANGLED = [
    *(keyword for keyword in PATIENT_AND_STUDY if keyword not in HARMLESS),
    "SliceThickness", "SpacingBetweenSlices", "SeriesDescription", "BodyPartExamined", "Laterality",
    "PatientPosition", "RepetitionTime", "EchoTime", "FlipAngle", "ScanOptions", "ScanningSequence", "AcquisitionDate",
    "HeartRate", "Modality",
]  # fmt: skip


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.generate])  # shrinking takes minutes
@example({"PatientName": b"x" * 200, "PatientID": b"\x1b$B", "AccessionNumber": b"x" * 200})
@example({"PatientSex": b"Male", "PatientBirthDate": b"00000000", "StudyTime": b"24:00:00", "SliceThickness": b"5\\6"})
@given(mangled=st.dictionaries(st.sampled_from(MANGLED), ANYTHING, min_size=1, max_size=len(MANGLED)))
def test_whatever_the_headers_say_what_is_made_is_valid(tmp_path_factory, mangled):
    """The law: any bytes in any attribute of patient, study and scan; every attribute that is written is valid."""
    place = tmp_path_factory.mktemp("mangled")
    write_series(place / "d", values(2, 1, 4, 5), oblique(1))
    rewrite(place / "d", **mangled)
    with silence_pydicom():
        repairs = check_headers(read_series(place / "d")[2])
        made = outputs(place)
    for each in repairs.doubts():
        assert set(each.text.partition(": ")[2].split(", ")) <= {*MANGLED}
    for file in made:
        require_valid(pydicom.dcmread(file))


@pytest.mark.parametrize("implicit", [True, False])
def test_files_without_preamble_and_meta_header_are_copied_from(tmp_path, implicit):
    """They are read as images; what is made of these takes their headers over."""
    write_series(tmp_path / "d", values(3, 1, 4, 5), oblique(1))
    for file in (tmp_path / "d").iterdir():
        bare = Dataset()
        bare.update(pydicom.dcmread(file))
        bare.save_as(file, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    made = outputs(tmp_path)
    assert made
    for file in made:
        assert pydicom.dcmread(file).PatientID == "4711"


def require_valid(data):
    """Read every attribute strictly; of free text that it is text: a name that is too long is a name all the same."""
    for tag in data.keys():  # noqa: SIM118
        free = data.get_item(tag).VR in ("PN", "LO", "SH", "SQ")
        config.settings.reading_validation_mode = config.WARN if free else config.RAISE
        try:
            assert "\ufffd" not in str(data[tag].value)
        finally:
            config.settings.reading_validation_mode = config.WARN
