"""The card of a model that was just trained, filled in from its run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any


def card(
    name: str,
    config: dict[str, Any],
    described: dict[str, Any],
    figures: dict[str, Any],
    lines: Sequence[dict[str, Any]],
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    config : of the bundle. described : what the run is made of. figures : of the weights that are published.
    lines : of the log.
    """
    minutes = max((line["minutes"] for line in lines if "minutes" in line), default=0.0)
    data = described["data"]
    parts = [
        f"# {name}", "", f"{config['summary']}.", "",
        "**Not for diagnostic use.** Nobody has assessed this model but the figures below.", "",
        f"* Licence of the weights: {config['licence']}",
        f"* Network: {config['network']}, {', '.join(f'{k} {v}' for k, v in config['settings'].items())}",
        f"* Made with: {', '.join(f'{k} {v}' for k, v in described['versions'].items())}",
        "", "## Data", "",
        *[f"* {what.replace('_', ' ')}: {_listed(value)}" for what, value in data.items()],
        "", "## Training", "", "```sh", shlex.join(["crnn", *described["command"]]), "```", "",
        f"{sum(stage['steps'] for stage in described['stages'])} steps in {minutes:.0f} minutes on "
        f"{described['device']}, {described['precision']}, seed {described['seed']}:",
        "", *[f"* {s['name']}: {s['steps']} steps of {s['batch']}" for s in described["stages"]],
        "", "## Figures", "", *_figures(figures),
        "", "## Limits", "",
        "Measured on the data above only. Other scanners, sites, sequences, diseases: not tried.",
        "", "## Settings", "", "```toml", described["settings_toml"].rstrip(), "```", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _figures(figures: dict[str, Any]) -> list[str]:
    if not figures:
        return ["None: nothing was held out."]
    said = {name: value for name, value in figures.items() if name not in ("step", "score")}
    rows = [
        f"| {group}, {name} | {value} |" for group, part in said.items()
        for name, value in (part.items() if isinstance(part, dict) else [("", part)])
    ]  # fmt: skip
    return [
        f"On what was held out, at step {figures['step']}, whose weights these are. The step was chosen by these very "
        f"figures, so they are slightly optimistic.", "", "| figure | value |", "|---|---|", *rows,
    ]  # fmt: skip


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)}: {', '.join(map(str, value[:50]))}{' ...' if len(value) > 50 else ''}"
    return value if isinstance(value, str) else json.dumps(value)
