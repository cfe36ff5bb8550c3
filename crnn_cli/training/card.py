"""Model card of a network that was just trained, filled in from its run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any


def model_card(
    name: str,
    config: dict[str, Any],
    description: dict[str, Any],
    figures: dict[str, Any],
    lines: Sequence[dict[str, Any]],
) -> str:
    """Write the model card as Markdown.

    Parameters
    ----------
    name : of the model.
    config : of the bundle.
    description : of the run: command, data, versions, settings; as in run.json.
    figures : validation of the weights that are published; empty if nothing was held out.
    lines : of the log.
    """
    minutes = max((line["minutes"] for line in lines if "minutes" in line), default=0.0)
    data = description["data"]
    parts = [
        f"# {name}", "", f"{config['summary']}.", "",
        "**Not for diagnostic use.** Nobody has assessed this model but the figures below.", "",
        f"* Licence of the weights: {config['licence']}",
        f"* Network: {config['network']}, {', '.join(f'{k} {v}' for k, v in config['settings'].items())}",
        f"* Made with: {', '.join(f'{k} {v}' for k, v in description['versions'].items())}",
        "", "## Data", "",
        *[f"* {topic.replace('_', ' ')}: {_listed(value)}" for topic, value in data.items()],
        "", "## Training", "", "```sh", shlex.join(["crnn", *description["command"]]), "```", "",
        f"{sum(stage['steps'] for stage in description['stages'])} steps in {minutes:.0f} minutes on "
        f"{description['device']}, {description['precision']}, seed {description['seed']}:",
        "", *[f"* {s['name']}: {s['steps']} steps of {s['batch']}" for s in description["stages"]],
        "", "## Figures", "", *_figures(figures),
        "", "## Limits", "",
        "Measured on the data above only. Other scanners, sites, sequences, diseases: not tried.",
        "", "## Settings", "", "```toml", description["settings_toml"].rstrip(), "```", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _figures(figures: dict[str, Any]) -> list[str]:
    if not figures:
        return ["None: nothing was held out."]
    groups = {name: value for name, value in figures.items() if name not in ("step", "score")}
    rows = [
        f"| {group}, {name} | {value} |" for group, group_figures in groups.items()
        for name, value in (group_figures.items() if isinstance(group_figures, dict) else [("", group_figures)])
    ]  # fmt: skip
    return [
        f"On what was held out, at step {figures['step']}, whose weights these are. The step was chosen by these very "
        f"figures, so they are slightly optimistic.", "", "| figure | value |", "|---|---|", *rows,
    ]  # fmt: skip


def _listed(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)}: {', '.join(map(str, value[:50]))}{' ...' if len(value) > 50 else ''}"
    return value if isinstance(value, str) else json.dumps(value)
