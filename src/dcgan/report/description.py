"""The description of a run in MLflow, in Markdown: what tells it apart, its distance, its faces, how to rebuild it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcgan.metrics.names import FID, distance_name
from dcgan.report.judgement import number
from dcgan.report.recipe import Values, recipe, text

# The parameters that people change most.
SHOWN = ("dataset", "image_size", "ngf", "ndf", "seed", "epochs", "batch_size", "lr", "loss", "r1_gamma")
# Stand for ids in MLflow: that of the run, and that of the run that has the pictures of its generator.
RUN, PICTURES_OF = "{run}", "{pictures_of}"


def render(
    params: Values,
    presets: Mapping[str, Values],
    changed: Mapping[str, str] | None,
    metrics: Mapping[str, Any] | None = None,
) -> str:
    """Renders the description, with RUN and PICTURES_OF in the place of ids.

    Args:
        params: all parameters of the run.
        presets: all parameters of each preset.
        changed: those that differ from the committed params.yaml; None: this is not known.
        metrics: contents of reports/metrics.json; None: the run is not evaluated yet.
    """
    parts = [*([_distance(metrics)] if metrics else []), _changed(changed)]
    parts.append(", ".join(f"{key} {text(params[key]) or 'empty'}" for key in SHOWN))
    if metrics:
        parts.append(f"![generated faces](get-artifact?run_uuid={PICTURES_OF}&path=samples.png)")
    parts.append("Faces after each epoch: tab *Model metrics*, section *animation*, full screen, and its slider.")
    if metrics:
        parts.append(f"To rebuild it from its commit, and compare: `dcgan reproduce {RUN}`. With this version:")
    else:
        parts.append("To make it again:")
    parts.append("\n".join(["```", *recipe(params, presets).commands(), "```"]))
    return "\n\n".join(parts)


def _distance(metrics: Mapping[str, Any]) -> str:
    name = distance_name(metrics)
    if metrics.get(name) is None:
        return "There were too few real faces to measure a distance."
    label = "FID" if name == FID else f"Frechet distance with {metrics['network']}"
    spread = metrics.get(f"{name}_std")
    beside = [f"untrained {number(metrics[f'{name}_untrained'])}"]
    if floor := metrics.get(f"{name}_floor"):
        beside.insert(0, f"floor {number(floor)} with {metrics['floor_count']:,} real faces")
    measured = f"{number(metrics[name])}{f' ± {number(spread)}' if spread is not None else ''}"
    return f"**{measured}**, {label} of {metrics['samples']:,} faces; {'; '.join(beside)}."


def _changed(changed: Mapping[str, str] | None) -> str:
    if changed is None:
        return "No committed params.yaml to compare with."
    differing = ", ".join(f"**{key} {value}**" for key, value in changed.items())
    return f"Differs from the committed params.yaml: {differing}." if changed else "Parameters as committed."
