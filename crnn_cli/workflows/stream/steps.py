"""The steps of ``crnn reconstruct --stream``: plan, prepare, open, run, save."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from crnn_cli import notices
from crnn_cli.data.input_files import standard_input
from crnn_cli.errors import CrnnError, Param, UnsupportedDataError, UsageError
from crnn_cli.notices import STREAM, Doubt
from crnn_cli.workflows.reconstruct import steps as of_files
from crnn_cli.workflows.reconstruct.options import ReconstructOptions
from crnn_cli.workflows.stream.options import RENEW_FRAMES, StreamOptions, check_mrd, check_stream
from crnn_cli.workflows.stream.run import FrameSink, StreamRecord, run_stream
from crnn_cli.workflows.stream.sinks import Both, Collected, MrdSink, NiftiStream
from crnn_cli.workflows.stream.sources import FrameSource, MrdFrames, ScanFrames, require_pace

if TYPE_CHECKING:
    from crnn_cli.io.mrd.images import ImageWriter, Kind
    from crnn_cli.io.mrd.read import FrameStream
    from crnn_cli.reconstruction.stream import StreamMethod
    from crnn_cli.workflows.reconstruct.run import ReconstructEngine

MODEL = "cine-crnn-live"
_STREAM_HOLDS = "MRD messages or a NIfTI file"
_NIFTI_STARTS = (b"\x1f\x8b", b"\x5c\x01", b"\x00\x00", b"\x1c\x02")  # gzip; 348 and 540 in either order of bytes
_NOT_MRD = " is for a stream of MRD messages, or an ISMRMRD file"


@dataclass(frozen=True)
class StreamPlan:
    """A stream that was checked before anything is read.

    Attributes
    ----------
    scan : a file, or `STREAM`; None where a client is waited for.
    target : file of the images; `STREAM` for standard output, None where they go to the client alone.
    options, stream : of the command.
    """

    scan: Path | None
    target: Path | None
    options: ReconstructOptions
    stream: StreamOptions


@dataclass(frozen=True)
class StreamInput:
    """An open stream.

    Attributes
    ----------
    source : of the frames.
    reply : where MRD images go; None where none are wanted.
    """

    source: FrameSource
    reply: ImageWriter | None = None


def plan(scan: Path | None, options: ReconstructOptions, stream: StreamOptions, as_json: bool = False) -> StreamPlan:
    """Check that the options agree, and that all outputs can be written.

    Raises
    ------
    UsageError
        If options contradict each other.
    OutputError
        If an output cannot be written.
    """
    from crnn_cli.io.atomic_write import require_pipe, require_writable
    from crnn_cli.io.formats import NIFTI, require_output_name, stem
    from crnn_cli.io.images import require_readable
    from crnn_cli.report.sidecar import require_apart, require_report_writable, sidecar_path

    check_stream(scan, options, stream)
    target = options.out
    if scan is not None:
        require_readable(scan, _STREAM_HOLDS)
        target = target or (STREAM if scan == STREAM else stem(scan).with_name(f"{stem(scan).name}_crnn.nii.gz"))
    if options.format_name == "mrd" and target not in (None, STREAM):
        raise UsageError(Param("format_name", "mrd"), " goes to standard output", remedy=("give ", Param("out", "-")))
    if target == STREAM:
        if scan is None:
            raise UsageError(Param("out", "-"), " has no meaning with ", Param("listen"), ": images go to the client")
        if as_json:
            raise UsageError(Param("as_json"), " and images cannot both go to standard output",
                             remedy=("give ", Param("out", "FILE")))  # fmt: skip
        require_pipe()
    elif target is not None:
        require_output_name(target, NIFTI)
        require_writable(target, options.force)
        require_report_writable(target, options.force)
        require_apart([scan, options.phase, options.mask, options.maps], [target, sidecar_path(target)])
    return StreamPlan(scan, target, options, stream)


def prepare(options: ReconstructOptions) -> ReconstructEngine:
    """Load the causal network.

    Raises
    ------
    UsageError
        If the model is one that needs all frames.
    CrnnError
        As `crnn_cli.workflows.reconstruct.run.prepare_engine`.
    """
    engine = of_files.prepare(replace(options, model=options.model or MODEL))
    if engine.method.calibration_frames is None:
        raise UsageError(
            Param("stream"), f" needs a causal network, and {options.model} sees all frames",
            remedy=("leave ", Param("model"), f" out, for {MODEL}"),
        )  # fmt: skip
    return engine


def open_file_or_pipe(planned: StreamPlan, engine: ReconstructEngine) -> StreamInput:
    """Open a scan in a file, or what comes by standard input: MRD messages, or NIfTI.

    Raises
    ------
    CrnnError
        As the readers.
    """
    options, wants_mrd = planned.options, planned.options.format_name == "mrd"
    assert planned.scan is not None
    if planned.scan == STREAM and not _is_nifti(standard_input(_STREAM_HOLDS)):
        from crnn_cli.io.mrd.read import stream_frames

        check_mrd(options)
        return _of_readouts(stream_frames(sys.stdin.buffer, "standard input", options.raw_choices()), planned)
    if wants_mrd:
        from crnn_cli.io.formats import ISMRMRD, identify
        from crnn_cli.io.mrd.read import file_frames

        if planned.scan == STREAM or identify(planned.scan, "kspace") is not ISMRMRD:
            raise UsageError(Param("format_name", "mrd"), _NOT_MRD)
        check_mrd(replace(options, variable=None))
        return _of_readouts(file_frames(planned.scan, options.variable, options.raw_choices()), planned)
    scan = of_files.read(of_files.plan_input(planned.scan, options), engine)
    source = ScanFrames(scan)
    if planned.stream.pace:
        require_pace(source)
    return StreamInput(source)


def _of_readouts(readouts: FrameStream, planned: StreamPlan) -> StreamInput:
    """Frames of readouts; their images go to standard output as MRD, unless a file or NIfTI is wanted."""
    from crnn_cli.io.mrd.images import ImageWriter

    options = planned.options
    source = mrd_frames(readouts, options)
    if planned.target != STREAM or options.format_name == "nifti":
        return StreamInput(source)
    return StreamInput(source, ImageWriter(sys.stdout.buffer, readouts.header, kind_of(options)))


def mrd_frames(readouts: FrameStream, options: ReconstructOptions) -> MrdFrames:
    """Frames of readouts, with their coils as the options ask for."""
    return MrdFrames(readouts, options.coils, of_files.parse_map_sets(options.map_sets), options.slice_tolerance)


def kind_of(options: ReconstructOptions) -> Kind:
    """Kind of the MRD images that are sent."""
    return "complex" if options.complex_output else "magnitude"


def _is_nifti(stream: BinaryIO) -> bool:
    """Whether a stream begins as NIfTI; nothing is taken from it."""
    peek: Callable[[int], bytes] | None = getattr(stream, "peek", None)
    return peek is not None and peek(2)[:2] in _NIFTI_STARTS


def method_of(engine: ReconstructEngine, source: FrameSource, stream: StreamOptions) -> StreamMethod:
    """Method of a stream by the engine that was prepared for it."""
    from crnn_cli.networks.live_crnn import LiveCRNN
    from crnn_cli.reconstruction.reconstruct import NetworkReconstructor
    from crnn_cli.reconstruction.stream import StreamMethod

    method = engine.method.method
    assert isinstance(method, NetworkReconstructor)
    assert isinstance(method.network, LiveCRNN)
    renew = RENEW_FRAMES if stream.renew_frames is None else stream.renew_frames
    return StreamMethod(method.network, method.settings, engine.device, source.coils, renew, engine.method.copies)


def run(
    planned: StreamPlan, engine: ReconstructEngine, opened: StreamInput, progress: notices.Progress
) -> tuple[dict[str, Any], BaseException | None]:
    """Reconstruct the stream; what is done is kept, however it ends.

    Returns
    -------
    The report as it was written (without an output where the images went on), and what ended the stream early: to be
    raised when all is told.
    """
    collected = None if planned.target in (None, STREAM) and _goes_on(opened) else Collected()
    sink, record, failure = _sink(planned, engine, opened, collected), StreamRecord(), None
    method = method_of(engine, opened.source, planned.stream)
    try:
        run_stream(opened.source, method, sink, record, paced=planned.stream.pace, progress=progress)
        if opened.reply is not None:
            opened.reply.close()
    except (KeyboardInterrupt, SystemExit, BrokenPipeError, CrnnError) as error:  # SystemExit: SIGTERM, SIGHUP
        if not record.done or planned.target in (None, STREAM):
            raise
        failure = error
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        record.ended = "interrupted" if stopped else str(error) or "the reader went away"
        notices.tell(Doubt("stream-ended-early", f"the stream ended early: {record.ended}; frames done are kept"))
    return _save(planned, engine, opened, record, collected), failure


def _goes_on(opened: StreamInput) -> bool:
    """Whether images leave one by one: as MRD, or as NIfTI of one slice and a known number of frames."""
    return opened.reply is not None or (opened.source.frames is not None and opened.source.slices == 1)


def _sink(
    planned: StreamPlan, engine: ReconstructEngine, opened: StreamInput, collected: Collected | None
) -> FrameSink:  # fmt: skip
    if opened.reply is not None:
        sent = MrdSink(opened.reply)
        return sent if collected is None else Both(sent, collected)
    if collected is not None:
        return collected
    return NiftiStream(sys.stdout.buffer, opened.source, planned.options.complex_output, _description(engine))


def _description(engine: ReconstructEngine) -> str:
    return f"{engine.method.facts['tool']} {engine.method.facts['model']['name']} stream"


def _save(
    planned: StreamPlan, engine: ReconstructEngine, opened: StreamInput, record: StreamRecord,
    collected: Collected | None,
) -> dict[str, Any]:  # fmt: skip
    """Write the images that were collected, and the report beside them."""
    from crnn_cli.compute.threads import thread_count
    from crnn_cli.io.atomic_write import write_together
    from crnn_cli.io.nifti.image import image_output, write_stream
    from crnn_cli.report.provenance import command_facts, grid_facts
    from crnn_cli.report.sidecar import report_output
    from crnn_cli.workflows.reconstruct.quality import as_written

    measured, possible = record.samples
    report = command_facts() | dict(engine.method.facts) | dict(opened.source.facts)
    report |= {"acceleration": round(possible / max(1, measured), 4), "device": str(engine.device)}
    report |= {"threads": thread_count(), "paced": planned.stream.pace, "stream": record.facts(opened.source.interval)}
    if collected is None:
        return report | notices.recorded()
    if not collected.frames:
        raise UnsupportedDataError("the stream ended before its first frame")
    image = opened.source.place(collected.images(opened.source.slices))
    written, description = as_written(image, planned.options.complex_output), _description(engine)
    report |= grid_facts(written)
    if planned.target is None or planned.target == STREAM:
        write_stream(written, sys.stdout.buffer, description)
        return report | notices.recorded()
    output = image_output(written, planned.target, description)
    report |= {"output": str(planned.target), "output_sha256": output.sha256(), "output_format": "NIfTI"}
    report |= notices.recorded()
    write_together([output, report_output(planned.target, report, [output])], planned.options.force)
    return report
