"""Serves MRD clients, one after the other: readouts come, images go back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from crnn_cli import notices
from crnn_cli.errors import CrnnError, Spelling
from crnn_cli.workflows.stream.options import check_mrd
from crnn_cli.workflows.stream.steps import StreamInput, StreamPlan, kind_of, mrd_frames, run

if TYPE_CHECKING:
    from crnn_cli.io.mrd.listen import Connection
    from crnn_cli.workflows.reconstruct.run import ReconstructEngine


def serve(
    planned: StreamPlan, engine: ReconstructEngine, tell: Callable[[dict[str, Any]], None], spell: Spelling = str
) -> None:
    """Wait for clients until Ctrl-C; with a file for the images, for one client.

    A client whose stream fails is told why, and the next one is served.

    Parameters
    ----------
    planned : with the address.
    engine : loaded once for all clients.
    tell : called with the report of each stream.
    spell : how messages write parameters.

    Raises
    ------
    OutputError
        If the address cannot be listened at.
    """
    from crnn_cli.io.mrd.listen import Listener, parse_address
    from crnn_cli.io.mrd.messages import close_message, text_message

    check_mrd(planned.options)
    assert planned.stream.listen is not None
    with Listener(*parse_address(planned.stream.listen)) as listener:
        host, port = listener.address
        notices.say(f"listening at {host}:{port}; Ctrl-C ends it")
        while True:
            connection = listener.accept()
            try:
                with notices.recording(strict=notices.is_strict()):  # doubts of one client are not those of the next
                    tell(_answer(connection, planned, engine))
            except (CrnnError, BrokenPipeError) as error:
                said = error.render(spell) if isinstance(error, CrnnError) else str(error)
                with suppress(CrnnError, BrokenPipeError):
                    connection.output.write(text_message(said) + close_message())
                if planned.target is not None:
                    raise
                said = (said or "the client went away").removeprefix(connection.name).removeprefix(":").strip()
                notices.say(f"{connection.name}: {said}")
            finally:
                connection.close()
            if planned.target is not None:
                return


def _answer(connection: Connection, planned: StreamPlan, engine: ReconstructEngine) -> dict[str, Any]:
    """Reconstruct what a client sends, and send the images back."""
    from crnn_cli.io.mrd.images import ImageWriter
    from crnn_cli.io.mrd.read import stream_frames

    options = planned.options
    notices.say(f"{connection.name} is connected")
    readouts = stream_frames(connection.input, connection.name, options.raw_choices())
    reply = ImageWriter(connection.output, readouts.header, kind_of(options))
    source = mrd_frames(readouts, options)
    report, failure = run(planned, engine, StreamInput(source, reply), notices.no_progress)
    if failure is not None:
        raise failure
    return report
