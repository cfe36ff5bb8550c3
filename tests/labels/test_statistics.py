"""Label statistics: independent of how the array is stored; files keep every digit."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crnn_cli.data.image import Image
from crnn_cli.errors import UnsupportedDataError, UsageError
from crnn_cli.labels.names import Label
from crnn_cli.labels.statistics import label_statistics
from crnn_cli.report.label_table import require_statistics_name, statistics_output, statistics_record
from tests.support.cines import AFFINE

NAMES = [Label(1, "cavity", (255, 0, 0)), Label(2, "wall, outer", (0, 255, 0)), Label(200, "absent", (0, 0, 255))]
COLUMNS = [
    "label", "name", "frame", "time_s", "voxels", "volume_ml", "mean_intensity", "sd_intensity",
    "centroid_x_mm", "centroid_y_mm", "centroid_z_mm", "extent_x_mm", "extent_y_mm", "extent_z_mm",
]  # fmt: skip


def scene(shape=(7, 6, 5), seed=0, affine=AFFINE, frame_time=None):
    """Return a random label map and its image."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 0, 1, 2], shape).astype(np.uint8)
    return Image(labels, affine, frame_time), Image(rng.normal(5, 2, shape).astype(np.float32), affine, frame_time)


def turned(image, order, flipped):
    """Return the same body stored another way: axes in another order, some of them running the other way."""
    affine = image.affine.copy()
    for axis in flipped:
        affine[:3, 3] += affine[:3, axis] * (image.shape[axis] - 1)
        affine[:3, axis] *= -1
    affine[:, :3] = affine[:, list(order)]
    return Image(np.flip(image.array, sorted(flipped)).transpose(order), affine)


def test_statistics_of_a_box_by_hand():
    labels, image = np.zeros((8, 9, 10), np.uint8), np.zeros((8, 9, 10))
    labels[2:5, 3:5, 7] = 2
    image[2:5, 3:5, 7] = [[1, 2], [3, 4], [5, 6]]
    image[0, 0, 0] = 1000
    affine = np.array([[-2.0, 0, 0, 100], [0, 3.0, 0, -50], [0, 0, 5.0, 10], [0, 0, 0, 1]])
    absent, box = label_statistics(Image(labels, affine), Image(image, affine), NAMES[:2])
    assert (box.value, box.name, box.frame, box.time, box.voxels) == (2, "wall, outer", 0, None, 6)
    assert box.volume == pytest.approx(6 * 30 / 1000)
    assert box.mean == pytest.approx(3.5)
    assert box.deviation == pytest.approx(np.sqrt(35 / 12))
    assert box.centroid == pytest.approx((100 - 2 * 3, -50 + 3 * 3.5, 10 + 5 * 7))
    assert box.extent == pytest.approx((3 * 2, 2 * 3, 1 * 5))
    assert (absent.voxels, absent.volume) == (0, 0)
    assert absent.mean is absent.deviation is absent.centroid is absent.extent is None


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(3)), st.sets(st.integers(0, 2)), st.integers(0, 9))
def test_statistics_do_not_depend_on_storage_order(order, flipped, seed):
    labels, image = scene(seed=seed)
    stored = label_statistics(turned(labels, order, flipped), turned(image, order, flipped), NAMES[:2])
    for one, other in zip(label_statistics(labels, image, NAMES[:2]), stored, strict=True):
        assert other.voxels == one.voxels > 0
        assert other.volume == pytest.approx(one.volume)
        assert (other.mean, other.deviation) == pytest.approx((one.mean, one.deviation))
        assert other.centroid == pytest.approx(one.centroid)
        assert other.extent == pytest.approx([one.extent[axis] for axis in order])


def test_volume_of_a_sheared_grid_is_that_of_its_cells():
    affine = np.eye(4)
    affine[:3, :3] = [[2, 1, 0], [0, 2, 1.5], [0, 0, 2]]
    ones = np.ones((10, 10, 10), np.uint8)
    (row,) = label_statistics(Image(ones, affine), Image(ones, affine), NAMES[:1])
    assert row.volume == pytest.approx(8)
    assert row.extent == pytest.approx(10 * np.array([2, np.sqrt(5), 2.5]))


def test_an_affine_that_lost_its_spacing_gives_sizes_by_the_stated_one_and_no_position():
    labels, _ = scene()
    good, lost = np.diag([1.5, 2, 8, 1]), np.eye(4)
    (known,) = label_statistics(*[Image(labels.array, good)] * 2, NAMES[:1])
    (row,) = label_statistics(*[Image(labels.array, lost, pixdim=(1.5, 2, 8))] * 2, NAMES[:1])
    assert row.volume == pytest.approx(known.volume)
    assert row.extent == pytest.approx(known.extent)
    assert row.centroid is None
    assert known.centroid is not None


def test_simpleitk_agrees():
    sitk = pytest.importorskip("SimpleITK")
    q = np.linalg.qr(AFFINE[:3, :3])[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = q * [1.3, 1.4, 8], [-70, 20, 5]
    labels, image = scene((9, 8, 6), affine=affine)
    lps = np.diag([-1, -1, 1.0])
    itk_labels, itk_image = (sitk.GetImageFromArray(i.array.transpose(2, 1, 0)) for i in (labels, image))
    for itk in (itk_labels, itk_image):
        itk.SetSpacing([1.3, 1.4, 8])
        itk.SetDirection((lps @ q).ravel().tolist())
        itk.SetOrigin((lps @ affine[:3, 3]).tolist())
    shape, intensity = sitk.LabelShapeStatisticsImageFilter(), sitk.LabelIntensityStatisticsImageFilter()
    shape.Execute(itk_labels)
    intensity.Execute(itk_labels, itk_image)
    for row in label_statistics(labels, image, NAMES[:2]):
        assert row.voxels == shape.GetNumberOfPixels(row.value)
        assert row.volume == pytest.approx(shape.GetPhysicalSize(row.value) / 1000)
        assert row.centroid == pytest.approx(lps @ shape.GetCentroid(row.value), abs=1e-6)
        assert row.extent == pytest.approx(np.array(shape.GetBoundingBox(row.value)[3:]) * [1.3, 1.4, 8])
        assert row.mean == pytest.approx(intensity.GetMean(row.value))
        assert row.deviation**2 == pytest.approx(
            intensity.GetVariance(row.value) * (row.voxels - 1) / row.voxels, rel=1e-5
        )


def test_each_frame_is_on_its_own_and_has_its_time():
    labels, image = scene((7, 6, 5, 3), frame_time=0.04)
    rows = label_statistics(labels, image, NAMES)
    assert [(row.value, row.frame) for row in rows] == [(label.value, t) for label in NAMES for t in range(3)]
    assert [row.time for row in rows[:3]] == pytest.approx([0, 0.04, 0.08])
    for frame in range(3):
        alone = [Image(i.array[..., frame], AFFINE) for i in (labels, image)]
        for row, (single,) in zip(rows[frame::3], ([r] for r in label_statistics(*alone, NAMES)), strict=True):
            assert statistics_record(single) | {"frame": frame, "time_s": row.time} == statistics_record(row)


def test_of_a_complex_image_the_magnitude_is_measured():
    labels, image = scene()
    phase = np.exp(1j * np.arange(image.array.size)).reshape(image.shape)
    rows = label_statistics(labels, Image(np.abs(image.array) * phase, AFFINE), NAMES[:1])
    (expected,) = label_statistics(labels, Image(np.abs(image.array), AFFINE), NAMES[:1])
    assert (rows[0].mean, rows[0].deviation) == pytest.approx((expected.mean, expected.deviation))


def test_integers_do_not_overflow():
    ones = np.ones((40, 40, 40), np.uint8)
    (row,) = label_statistics(Image(ones, AFFINE), Image(np.full(ones.shape, 30_000, np.int16), AFFINE), NAMES[:1])
    assert (row.mean, row.deviation) == (30_000, 0)


def test_another_grid_and_missing_intensities_are_refused():
    labels, image = scene()
    moved = AFFINE.copy()
    moved[0, 3] += 1
    broken = image.array.copy()
    broken[1, 2, 3] = np.nan
    for other in (Image(image.array[1:], AFFINE), Image(image.array, moved), Image(broken, AFFINE)):
        with pytest.raises(UnsupportedDataError):
            label_statistics(labels, other, NAMES)


def read(rows, name):
    """Return the rows of a file as text or JSON values."""
    output = statistics_output(rows, Path(name))
    assert output.target == Path(name)
    text = output.content.decode()
    return list(csv.DictReader(io.StringIO(text))) if name.lower().endswith("csv") else json.loads(text)


@pytest.mark.parametrize("frame_time", [None, 0.03])
def test_files_keep_every_digit_and_leave_open_what_is_not_known(frame_time):
    rows = label_statistics(*scene((5, 4, 3, 2), frame_time=frame_time), NAMES)
    expected = [statistics_record(row) for row in rows]
    assert list(expected[0]) == COLUMNS
    first = rows[0]
    numbers = (first.voxels, first.volume, first.mean, first.deviation, *first.centroid, *first.extent)
    assert list(expected[0].values()) == [1, "cavity", 0, first.time, *numbers]
    assert read(rows, "a.JSON") == expected
    table = read(rows, "a.csv")
    for found, record in zip(table, expected, strict=True):
        for column, value in record.items():
            kind = str if column == "name" else float
            assert (kind(found[column]) if found[column] else None) == value
    assert table[-1]["volume_ml"] == "0.0"
    assert table[-1]["centroid_x_mm"] == ""
    assert expected[-1]["centroid_x_mm"] is None


def test_names_keep_their_letters():
    label = Label(1, 'Vorhof "links", Spülung', (1, 2, 3))
    rows = label_statistics(*scene(), [label])
    for name in ("a.csv", "a.json"):
        assert read(rows, name)[0]["name"] == label.name


def test_json_has_no_nan():
    labels, image = scene()
    (row,) = label_statistics(labels, image, NAMES[:1])
    with pytest.raises(ValueError, match="JSON"):
        statistics_output([type(row)(1, "x", 0, float("nan"), 0, 0.0)], Path("a.json"))


@pytest.mark.parametrize("name", ["a.tsv", "a", "csv", "a.csv.gz"])
def test_other_names_are_refused(name):
    for refuse in (require_statistics_name, lambda target: statistics_output([], target)):
        with pytest.raises(UsageError, match=r"\.csv"):
            refuse(Path(name))
