"""The report as one HTML file that holds its pictures, curves, style and script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup

from dcgan.metrics.left_out import left_out
from dcgan.metrics.names import FID, distance_name
from dcgan.report import curves, pictures, published
from dcgan.report.judgement import judge, number
from dcgan.report.recipe import Values, recipe

_SCORES = {
    "kid": ("kernel inception distance (KID)", "lower is better"),
    "kernel_distance": ("kernel distance", "lower is better"),
    "sample_precision": ("precision", "share of generated faces within the distribution of real faces"),
    "sample_recall": ("recall", "share of real faces within the distribution of generated faces"),
    "density": ("density", "how deep generated faces lie within the distribution of real faces"),
    "coverage": ("coverage", "share of real faces with a generated face nearby"),
}


@dataclass(frozen=True)
class Inputs:
    """What a report is made of.

    Args:
        metrics: contents of reports/metrics.json.
        data: the data card, contents of reports/data.json.
        model: metadata of the generator's file.
        generator: SHA-256 of the generator's file.
        faces: MD5 of data/faces in dvc.lock.
        params: all parameters of the run.
        presets: all parameters of each preset.
        losses: contents of reports/losses.csv.
        pictures: contents of the picture files, by file name.
        progress: contents of the grids in reports/progress, one for each epoch from 0 on.
    """

    metrics: Values
    data: Values
    model: Values
    generator: str
    faces: str
    params: Values
    presets: Mapping[str, Values]
    losses: pd.DataFrame
    pictures: Mapping[str, bytes]
    progress: Sequence[bytes]


class Bar(NamedTuple):
    """A distance beside the others."""

    what: str
    faces: str
    value: float
    kind: str


class Score(NamedTuple):
    """A score with its floor; `spread` is its standard error."""

    name: str
    meaning: str
    value: float
    spread: float | None
    floor: float | None


def render(inputs: Inputs, results: Sequence[published.Published] = published.PUBLISHED) -> str:
    """Renders the HTML page; the same arguments give the same bytes.

    Args:
        results: published results to list; each is marked as comparable or not.
    """
    metrics, data, side = inputs.metrics, inputs.data, int(inputs.metrics["resolution"])
    name, comparable = distance_name(metrics), published.is_comparable(metrics)
    samples, real = inputs.pictures["samples.png"], inputs.pictures["real.png"]
    charts = curves.charts(inputs.losses)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment.get_template("page.html.jinja").render(
        title="FID" if name == FID else f"Frechet distance ({metrics['network']})",
        distance={end: metrics.get(name + end) for end in ("", "_mean", "_std", "_floor", "_untrained")},
        judgement=judge(metrics, pictures.variety(samples, real, side)),
        bars=bars(metrics),
        metrics=metrics,
        scores=_scores(metrics),
        left_out=left_out(metrics),
        copies=_copies(metrics),
        comparable=comparable,
        others=[(other, published.differences(metrics, other)) for other in results if comparable],
        data=data,
        shown="the train split" if data["faces"]["train"] else "all splits",
        splits=[split for split, count in data["faces"].items() if count],
        attributes=sorted(_seen(data["attributes"]), key=lambda item: -next(iter(item[1].values()))),
        model=inputs.model,
        generator=inputs.generator,
        faces=inputs.faces,
        params=inputs.params,
        recipe=recipe(inputs.params, inputs.presets),
        steps=int(inputs.losses["step"].iloc[-1]),
        charts=charts,
        chart=curves,
        smoothing=curves.smoothing(inputs.losses),
        values=Markup(_values(inputs.losses, charts)),
        pictures=pictures.embedded(inputs.pictures),
        closer=[(pictures.closer(samples, side), "generated"), (pictures.closer(real, side), "real")],
        frames=pictures.frames(inputs.progress),
    )


def bars(metrics: Values) -> list[Bar]:
    """The distances to compare, smallest kind first: floor, this generator, grey pictures, untrained generator."""
    name = distance_name(metrics)
    if metrics.get(name) is None:
        return []
    count, made, few = metrics["floor_count"], metrics["samples"], metrics.get(f"{name}_at_floor_count")
    rows = [
        (f"floor: real {metrics['floor_split']} faces", f"{count:,}" if count else "", f"{name}_floor", "floor"),
        ("this generator", f"{count:,}" if count else "", f"{name}_at_floor_count" if count != made else "", "run"),
        ("this generator", f"{made:,}", name, "run"),
        ("plain grey pictures", "", f"{name}_grey", "other"),
        ("before training", f"{metrics['untrained_samples']:,}", f"{name}_untrained", "other"),
    ]
    assert few is None or count
    return [Bar(what, of, metrics[key], kind) for what, of, key, kind in rows if metrics.get(key) is not None]


def _scores(metrics: Values) -> list[Score]:
    return [
        Score(name, meaning, metrics[key], metrics.get(f"{key}_standard_error"), metrics.get(f"{key}_floor"))
        for key, (name, meaning) in _SCORES.items()
        if key in metrics
    ]


def _copies(metrics: Values) -> str:
    """Returns a sentence on the copies of training faces, or nothing if they were not counted."""
    if metrics.get("copies") is None:
        return ""
    floor = f"; of real test faces, {metrics['copies_floor']:.1%}" if "copies_floor" in metrics else ""
    return (
        f"Copies: {metrics['copies']:.1%} of {metrics['samples_of_copies']} generated faces are nearer to a training "
        f"face than the nearest 1 % of {metrics['valid_of_copies']} unseen real faces are "
        f"(interval of 95 %: {metrics['copies_low']:.1%} to {metrics['copies_high']:.1%}{floor}). "
        f"Verdict: {metrics['copies_verdict']}."
    )


def _seen(attributes: Mapping[str, Mapping[str, float]]) -> list[tuple[str, Mapping[str, float]]]:
    """The attributes that at least one face has, with their share in each split."""
    return [(name, shares) for name, shares in attributes.items() if any(shares.values())]


def _values(losses: pd.DataFrame, charts: Sequence[curves.Chart]) -> str:
    """The curves' numbers as JSON, for the script: the steps, and the values of each column."""
    columns = ["step", *(column for chart in charts for column in chart.names)]
    rounded = {
        column: [None if value != value else float(f"{value:.4g}") for value in losses[column].astype(float)]
        for column in columns
    }
    return json.dumps(rounded | {"step": losses["step"].astype(int).tolist()}, separators=(",", ":"))
