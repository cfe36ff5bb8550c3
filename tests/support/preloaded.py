"""A `crnn` that starts at once: one process imports what every command needs, and each command is a fork of it.

Half of the time of short commands goes into imports. `preloaded` makes a program `crnn` for a folder on PATH; it hands
its arguments, folder, environment and standard streams to that process and ends as the command does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

from tests.support.data import ROOT

CLIENT = """#!{python} -ISE
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
told = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(told).to_bytes(4, "big")], [0, 1, 2])
server.sendall(told)
code = server.recv(1)
sys.exit(code[0] if code else "the command ended without an exit code")
"""


@contextlib.contextmanager
def preloaded(folder: Path):
    """Start the process that commands are forks of, and put `crnn` into a folder, for the time of the context."""
    address = str(folder / "socket")
    program = folder / "crnn"
    program.write_text(CLIENT.format(python=sys.executable, address=address))
    program.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [sys.executable, "-m", "tests.support.preloaded", address]
    with subprocess.Popen(started, cwd=ROOT, env=environment, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            yield
        finally:
            server.terminate()


def serve(address: str) -> None:
    """Wait for commands until terminated."""
    import nibabel  # noqa: F401
    import pydicom  # noqa: F401
    import SimpleITK  # noqa: F401
    import torch  # noqa: F401

    import crnn_cli.cli.app  # noqa: F401

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        os.write(sys.stdout.fileno(), b"ready\n")
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        while True:
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                code = run_command(client)
                client.sendall(bytes([code]))
                sys.exit(code)
            client.close()


def run_command(client: socket.socket) -> int:
    """Run the command that a client asks for, in this process, and return its exit code."""
    size, streams, _, _ = socket.recv_fds(client, 4, 3)
    with client.makefile("rb") as told:
        arguments, folder, environment = json.loads(told.read(int.from_bytes(size, "big")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["crnn", *arguments]

    from crnn_cli.cli.app import main

    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
    return code


if __name__ == "__main__":
    serve(sys.argv[1])
