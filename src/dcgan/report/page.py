"""The report as one self-contained HTML file with embedded pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import pandas as pd
from markupsafe import Markup

from dcgan.metrics.left_out import left_out
from dcgan.metrics.names import FID, distance_name
from dcgan.report import published

matplotlib.use("svg")
import matplotlib.pyplot as plt

_SVG: Any = {"svg.hashsalt": "dcgan", "svg.fonttype": "none", "font.size": 9}  # the same ids in every rendering

_BESIDE = ("", "_mean", "_std", "_untrained", "_grey", "_floor", "_at_floor_count")
_SCORES = {
    "kid": "kernel inception distance (KID)",
    "kid_standard_error": "standard error of the KID",
    "kernel_distance": "kernel distance",
    "kernel_distance_standard_error": "standard error of the kernel distance",
    "precision": "precision: share of generated faces within the distribution of real faces",
    "recall": "recall: share of real faces within the distribution of generated faces",
    "density": "density: how deep generated faces lie within the distribution of real faces",
    "coverage": "coverage: share of real faces with a generated face nearby",
}


def render(
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    losses: pd.DataFrame,
    pictures: Mapping[str, bytes],
    results: Sequence[published.Published] = published.PUBLISHED,
) -> str:
    """Renders the HTML page; the same arguments give the same bytes.

    Args:
        metrics: contents of reports/metrics.json.
        data: the data card, contents of reports/data.json.
        model: metadata of the generator's file.
        losses: contents of reports/losses.csv.
        pictures: contents of the picture files, by file name.
        results: published results to list; each is marked as comparable or not.
    """
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    name, comparable = distance_name(metrics), published.is_comparable(metrics)
    scores = [(words, metrics[key], metrics.get(f"{key}_floor")) for key, words in _SCORES.items() if key in metrics]
    return environment.get_template("page.html.jinja").render(
        title="FID" if name == FID else f"Frechet distance ({metrics['network']})",
        distance={suffix: metrics.get(name + suffix) for suffix in _BESIDE},
        metrics=metrics,
        scores=scores,
        fewer=f"{name}_at_floor_count" in metrics and metrics["floor_count"] < metrics["samples"],
        floors=any(floor is not None for _, _, floor in scores),
        left_out=left_out(metrics),
        copies=_copies(metrics),
        comparable=comparable,
        others=[(other, published.differences(metrics, other)) for other in results if comparable],
        data=data,
        shown="the train split" if data["faces"]["train"] else "all splits",
        splits=[split for split, count in data["faces"].items() if count],
        attributes=sorted(_seen(data["attributes"]), key=lambda item: -max(item[1].values())),
        model=model,
        curves=Markup(_curves(losses)),
        pictures={key: _data_uri(key, value) for key, value in pictures.items()},
    )


def _copies(metrics: Mapping[str, Any]) -> str:
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


def _data_uri(name: str, content: bytes) -> str:
    return f"data:image/{name.rsplit('.')[-1]};base64,{base64.b64encode(content).decode()}"


def _curves(losses: pd.DataFrame) -> str:
    """Plots losses, discriminator outputs and, if measured, quick Frechet distances over the steps, as SVG."""
    measured = losses.filter(["step", "quick_frechet_distance"]).dropna()
    panels = measured.shape[1] + 1
    with plt.style.context("default"), plt.rc_context(_SVG):
        figure, (left, right, *third) = plt.subplots(1, panels, figsize=(5 * panels, 3.2), layout="constrained")
        left.plot(losses["step"], losses["d_loss"], label="discriminator", color="#1f5fa8")
        left.plot(losses["step"], losses["g_loss"], label="generator", color="#c4622d")
        left.set(xlabel="step", ylabel="loss")
        right.plot(losses["step"], losses["d_real"], label="D(x)", color="#1f5fa8")
        right.plot(losses["step"], losses["d_fake_before"], label="D(G(z)) before the update", color="#c4622d")
        right.plot(losses["step"], losses["d_fake_after"], label="D(G(z)) after", color="#7a9a3d")
        right.set(xlabel="step", ylabel="probability", ylim=(0, 1))
        for axes in third:
            axes.plot(measured["step"], measured["quick_frechet_distance"], "o-", label="while training")
            axes.set(xlabel="step", ylabel="Frechet distance (efficientnet_lite0_dithered)")
        for axes in (left, right, *third):
            axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    svg = out.getvalue()
    return svg[svg.index("<svg") :]
