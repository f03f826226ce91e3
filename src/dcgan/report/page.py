"""The report as one HTML file that holds its pictures and needs nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import pandas as pd
from markupsafe import Markup

matplotlib.use("svg")
import matplotlib.pyplot as plt

_SVG: Any = {"svg.hashsalt": "dcgan", "svg.fonttype": "none", "font.size": 9}  # ids that do not change from run to run


def render(
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
    model: Mapping[str, Any],
    losses: pd.DataFrame,
    pictures: Mapping[str, bytes],
) -> str:
    """The page's HTML; the same arguments give the same bytes."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    name = "fid" if "fid" in metrics else "frechet_distance"
    return environment.get_template("page.html.jinja").render(
        title="FID" if name == "fid" else f"Frechet distance ({metrics['network']})",
        distance={suffix: metrics.get(name + suffix) for suffix in ("", "_untrained", "_grey", "_floor")},
        metrics=metrics,
        data=data,
        splits=[split for split, count in data["faces"].items() if count],
        attributes=sorted(_seen(data["attributes"]), key=lambda item: -max(item[1].values())),
        model=model,
        curves=Markup(_curves(losses)),
        pictures={key: _data_uri(key, value) for key, value in pictures.items()},
    )


def _seen(attributes: Mapping[str, Mapping[str, float]]) -> list[tuple[str, Mapping[str, float]]]:
    """The attributes that any face has."""
    return [(name, shares) for name, shares in attributes.items() if any(shares.values())]


def _data_uri(name: str, content: bytes) -> str:
    return f"data:image/{name.rsplit('.')[-1]};base64,{base64.b64encode(content).decode()}"


def _curves(losses: pd.DataFrame) -> str:
    """The losses, and what the discriminator believes, over the steps, as SVG."""
    with plt.style.context("default"), plt.rc_context(_SVG):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
        left.plot(losses["step"], losses["d_loss"], label="discriminator", color="#1f5fa8")
        left.plot(losses["step"], losses["g_loss"], label="generator", color="#c4622d")
        left.set(xlabel="step", ylabel="loss")
        right.plot(losses["step"], losses["d_real"], label="D(x)", color="#1f5fa8")
        right.plot(losses["step"], losses["d_fake_before"], label="D(G(z)) before the update", color="#c4622d")
        right.plot(losses["step"], losses["d_fake_after"], label="D(G(z)) after", color="#7a9a3d")
        right.set(xlabel="step", ylabel="probability", ylim=(0, 1))
        for axes in (left, right):
            axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)
    svg = out.getvalue()
    return svg[svg.index("<svg") :]
