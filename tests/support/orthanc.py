"""An Orthanc archive of one's own for a test: on a free port of this machine, in a folder of its own."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

ORTHANC = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/orthanc/bin")
_SECONDS = 60


def free_port():
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


class Archive:
    """REST API of the archive."""

    def __init__(self, port):
        self.root = f"http://127.0.0.1:{port}"
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path):
        """Return the bytes at a path."""
        with self.opener.open(self.root + path, timeout=_SECONDS) as answer:
            return answer.read()

    def json(self, path):
        return json.loads(self.get(path))

    def store(self, file):
        """Store a DICOM file, and return what the archive says of it."""
        kind = {"Content-Type": "application/dicom"}
        request = urllib.request.Request(self.root + "/instances", file.read_bytes(), kind)
        with self.opener.open(request, timeout=_SECONDS) as answer:
            return json.loads(answer.read())


@contextlib.contextmanager
def archive(folder):
    """Run Orthanc with its files in a folder."""
    port = free_port()
    settings = {
        "Name": "test", "StorageDirectory": str(folder / "store"), "IndexDirectory": str(folder / "store"),
        "HttpPort": port, "DicomServerEnabled": False, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "StorageCompression": False, "HttpServerEnabled": True, "Plugins": [],
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log, cwd=folder)
    try:
        running = Archive(port)
        wait_for(running, process, folder / "log.txt")
        yield running
    finally:
        process.terminate()
        process.wait(_SECONDS)


def wait_for(running, process, log):
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"Orthanc ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            running.get("/system")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"Orthanc does not answer: {log.read_text(errors='replace')[-2000:]}")
