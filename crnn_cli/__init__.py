"""crnn: dynamic MR reconstruction and slice-sequence segmentation with convolutional recurrent networks.

    import crnn_cli as crnn

    scan = crnn.load("scan.nii")                          # NIfTI, DICOM, ISMRMRD, ...
    result = crnn.reconstruct(scan, model="cine-crnn")    # result.images, result.reliability, result.report
    labels = crnn.segment(result.images, slices="axial")
    heart = crnn.function(labels)                         # heart.quantities()["left"]["ejection_fraction"]
    crnn.save(labels, "labels.nii.gz")

Importing the package loads nothing heavy; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crnn_cli.version import __version__

if TYPE_CHECKING:
    from crnn_cli.api import (
        evaluate,
        events,
        forecast,
        from_kspace,
        function,
        load,
        load_model,
        reconstruct,
        save,
        segment,
    )
    from crnn_cli.bundles.config import Bundle
    from crnn_cli.cardiac.function import CardiacFunction
    from crnn_cli.data.image import Image
    from crnn_cli.data.raw_scan import RawScan
    from crnn_cli.errors import CrnnError
    from crnn_cli.labels.label_image import LabelImage
    from crnn_cli.results import ExpectedPSNR, ForecastResult, ReconstructionResult, Reliability, Residual

_HOME = {
    "Bundle": "crnn_cli.bundles.config",
    "CardiacFunction": "crnn_cli.cardiac.function",
    "CrnnError": "crnn_cli.errors",
    "ExpectedPSNR": "crnn_cli.results",
    "ForecastResult": "crnn_cli.results",
    "Image": "crnn_cli.data.image",
    "LabelImage": "crnn_cli.labels.label_image",
    "RawScan": "crnn_cli.data.raw_scan",
    "ReconstructionResult": "crnn_cli.results",
    "Reliability": "crnn_cli.results",
    "Residual": "crnn_cli.results",
}

__all__ = [
    "Bundle",
    "CardiacFunction",
    "CrnnError",
    "ExpectedPSNR",
    "ForecastResult",
    "Image",
    "LabelImage",
    "RawScan",
    "ReconstructionResult",
    "Reliability",
    "Residual",
    "__version__",
    "evaluate",
    "events",
    "forecast",
    "from_kspace",
    "function",
    "load",
    "load_model",
    "reconstruct",
    "save",
    "segment",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME.get(name, "crnn_cli.api")), name)


def __dir__() -> list[str]:
    return __all__
