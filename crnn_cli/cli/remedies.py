"""Parameters of the library as options of the command line: the one table between the two."""

from __future__ import annotations

from crnn_cli.errors import Param

FLAGS = {"complex_output": "--complex", "format_name": "--format", "as_json": "--json", "slice_number": "--slice",
         "set_number": "--set",
         "out": "-o", "drawn": "--from", "calibration_frames": "--calibrate-frames"}  # fmt: skip
"""Parameters whose option is not their own name with hyphens."""

HOMES = {"--slice": "reconstruct", "--spacing": "segment"}
"""Options that are remedies of other commands too, and the command that has them."""

FLAGS_OF_VALUES = {("kind", "labels"): "--as-labels", ("kind", "images"): "--as-images"}
"""Values of parameters that are options of their own."""


def spell_option(param: Param) -> str:
    """Spell a parameter as an option, with its value where one is meant.

    >>> spell_option(Param("slice_tolerance", 0.5)), spell_option(Param("out", "FILE"))
    ('--slice-tolerance 0.5', '-o FILE')
    >>> spell_option(Param("kind", "labels"))
    '--as-labels'
    """
    if (param.name, param.value) in FLAGS_OF_VALUES:
        return FLAGS_OF_VALUES[param.name, str(param.value)]
    option = FLAGS.get(param.name, f"--{param.name.replace('_', '-')}")
    if param.value is None:
        return option
    return f"{option} {param.value:g}" if isinstance(param.value, float) else f"{option} {param.value}"
