"""Settings go to TOML and back unchanged, and what is not understood is refused with the nearest known name."""

import re
import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace

import pytest

from crnn_cli.errors import UnreadableError
from crnn_cli.training.job import OptimiserSettings
from crnn_cli.training.reconstruct.settings import ReconstructSettings
from crnn_cli.training.settings import former_table, from_table, read_toml, setting, to_toml

pytest.importorskip("monai", reason="training of segmentation needs the extra train")

from crnn_cli.training.segment.settings import SegmentSettings


@dataclass(frozen=True)
class Inner:
    words: tuple[str, ...] = setting(("a", 'quo"te\\', "über"), "words")
    on: bool = setting(True, "a switch")

    def __post_init__(self):
        if not self.words:
            raise ValueError("words are missing")


@dataclass(frozen=True)
class Outer:
    count: int = setting(3, "a number")
    size: float = setting(1e-7, "another")
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize("settings", [Outer(), Outer(5, 2.0, Inner(("x",), False)),
                                      SegmentSettings(), ReconstructSettings()])  # fmt: skip
def test_there_and_back(tmp_path, settings):
    file = tmp_path / "a.toml"
    file.write_text(to_toml(settings), encoding="utf-8")
    assert read_toml(type(settings), file) == settings
    assert from_table(type(settings), tomllib.loads(to_toml(settings)), "table") == settings


@pytest.mark.parametrize("kind", [SegmentSettings, ReconstructSettings])
def test_every_setting_is_written_with_what_it_means(kind):
    def missing(settings):
        for each in fields(settings):
            value = getattr(settings, each.name)
            if is_dataclass(value):
                yield from missing(value)
            elif not each.metadata.get("says"):
                yield each.name

    assert not list(missing(kind()))
    assert tomllib.loads(to_toml(kind())).keys() == asdict(kind()).keys()


@pytest.mark.parametrize("kind", [SegmentSettings, ReconstructSettings])
def test_a_table_with_one_setting_keeps_the_others_of_the_task(tmp_path, kind):
    """The optimisers of the tasks have defaults of their own, not those of the class `Optimiser`."""
    file = tmp_path / "a.toml"
    file.write_text("[optimiser]\nlearning_rate = 0.5\n")
    assert read_toml(kind, file).optimiser == replace(kind().optimiser, learning_rate=0.5)
    assert len({kind().optimiser, SegmentSettings().optimiser, ReconstructSettings().optimiser}) == 2


def test_files_and_runs_of_earlier_versions_keep_their_meaning(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("start = 'zero-filled'\n[network]\nsets = 2\nshift = 4\ncontext = 1\ntrust = 1\n")
    settings = read_toml(ReconstructSettings, file)
    assert settings.initial_image == "zero-filled"
    network = settings.network
    assert (network.weight_sets, network.tsm_channels, network.temporal_context, network.noise_aware) == (2, 4, 1, 1)
    former = former_table(settings)
    assert from_table(ReconstructSettings, former, "run.json") == settings
    assert (former["start"], former["network"]["sets"]) == ("zero-filled", 2)
    earlier = asdict(SegmentSettings())
    assert earlier["optimiser"].pop("muon") == 0
    assert former_table(SegmentSettings()) == earlier  # what came later and has its default
    later = SegmentSettings(optimiser=OptimiserSettings(muon=0.01))
    assert former_table(later) == asdict(later)
    assert "pixel_unshuffle" not in former["network"]


def test_what_is_not_mentioned_keeps_its_default(tmp_path):
    file = tmp_path / "a.toml"
    file.write_text("count = 9\n[inner]\non = false\n")
    assert read_toml(Outer, file) == replace(Outer(), count=9, inner=Inner(on=False))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuont = 1", "unknown setting 'cuont'; the nearest known is 'count'"),
        ("[inner]\nword = []", "inner has an unknown setting 'word'; the nearest known is 'words'"),
        ("count = 1.5", "count is 1.5; it must be of type int"),
        ("count = true", "count is True; it must be of type int"),
        ("size = 'big'", "size is 'big'; it must be of type float"),
        ("inner = 3", "inner must be a table"),
        ("[inner]\nwords = 'a'", "words is 'a'; it must be a list of words"),
        ("[inner]\nwords = [1]", "it must be a list of words"),
        ("[inner]\nwords = []", "inner: words are missing"),
        ("count = ", "is not readable as TOML"),
        ("\ud800", "is not readable as TOML"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path, text, message):
    file = tmp_path / "a.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UnreadableError, match=re.escape(message)):
        read_toml(Outer, file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableError, match="cannot be read: No such file"):
        read_toml(Outer, tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (SegmentSettings, "epochs = 0"),
        (SegmentSettings, "[slicing]\nplane = 'oblique'"),
        (SegmentSettings, "[slicing]\nlow = 99.0\nhigh = 1.0"),
        (SegmentSettings, "[slicing]\nhigh = 101.0"),
        (SegmentSettings, "[slicing]\nspacing = -1.0"),
        (SegmentSettings, "[network]\nkernel = 2"),
        (SegmentSettings, "[network]\ntruncate = -1"),
        (SegmentSettings, "[loss]\njaccard = 0.0\nce = 0.0"),
        (SegmentSettings, "[loss]\ndice = -1.0"),
        (SegmentSettings, "[cnn]\nshare = 0.0"),
        (SegmentSettings, "[recurrent]\nsequences = 0"),
        (SegmentSettings, "[augmentation]\nmirror = 1.5"),
        (SegmentSettings, "[augmentation]\nscale = 1.0"),
        (SegmentSettings, "[optimiser]\nlearning_rate = 0.0"),
        (SegmentSettings, "[optimiser]\naverage = 1.0"),
        (ReconstructSettings, "items = 0"),
        (ReconstructSettings, "real_share = 2.0"),
        (ReconstructSettings, "pixels = 10"),
        (ReconstructSettings, "[network]\nfeatures = 0"),
        (ReconstructSettings, "[network]\ncheckpoint = -1"),
        (ReconstructSettings, "[sampling]\nmost_lines = 8"),
        (ReconstructSettings, "[sampling]\nacceleration = 1.0"),
        (ReconstructSettings, "[sampling]\nnoise = 0.0"),
        (ReconstructSettings, "[loss]\nlog = 0.0"),
    ],
)
def test_values_that_make_no_sense_are_refused(tmp_path, kind, text):
    file = tmp_path / "a.toml"
    file.write_text(text)
    with pytest.raises(UnreadableError, match=re.escape(str(file))):
        read_toml(kind, file)
