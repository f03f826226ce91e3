"""The model card of a generator in Markdown: description, evaluation results, usage and limitations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcgan.metrics.names import FID, distance_name


def render(metrics: Mapping[str, Any], data: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Renders the model card as Markdown.

    Args:
        metrics: contents of reports/metrics.json.
        data: the data card, contents of reports/data.json.
        params: all parameters that determine the generator.
    """
    name = distance_name(metrics)
    label = "FID" if name == FID else f"Frechet distance with {metrics['network']} (not FID)"
    source, side = data["source"], metrics["image_size"]
    beside = {
        "untrained generator": metrics[f"{name}_untrained"],
        "grey pictures": metrics[f"{name}_grey"],
        f"{metrics['floor_count']} real {metrics['floor_split']} pictures": metrics.get(f"{name}_floor"),
    }
    if metrics["floor_count"] != metrics["samples"]:
        beside[f"{metrics['floor_count']} generated pictures"] = metrics.get(f"{name}_at_floor_count")
    compared = ", ".join(f"{what} {value:g}" for what, value in beside.items() if value is not None)
    lines = [
        f"# DCGAN, {side}x{side}, {params['dataset']}",
        f"Generates {side}x{side} pictures from latents of {params['nz']} numbers with a {params['latent']} "
        f"distribution. Training: `{params['architecture']}` networks, loss `{params['loss']}`, "
        f"{params['epochs']} epochs, seed {params['seed']}.",
        "## Data",
        f"{source['name']}; {sum(data['faces'].values())} pictures, trained on the split `{params['train_split']}`. "
        f"Licence: {source['licence']}.",
        "## Evaluation results",
        f"{label}: **{metrics[name]:g}**, between {metrics['samples']} generated pictures and the "
        f"{metrics['reference_count']} real pictures of the split `{metrics['reference_split']}`. "
        f"For comparison: {compared}.",
        _scores(metrics),
        f"Search for copies of training pictures: {metrics['copies_verdict']}." if metrics["copies_verdict"] else "",
        "## Usage",
        'To generate pictures from given latents: `{"inputs": [[...], ...]}`. To generate the same pictures as '
        '`python -m dcgan generate --seed 7 --count 16`: `{"inputs": [[]], "params": {"seed": 7, "count": 16}}`.',
        "## Limitations",
        "The generator reproduces its training data, including the biases. The licence of the data restricts the use "
        "of the generated pictures.",
    ]
    return "\n\n".join(line for line in lines if line)


def _scores(metrics: Mapping[str, Any]) -> str:
    names = [name for name in ("precision", "recall", "density", "coverage") if name in metrics]
    if not names:
        return ""
    floors = [f" (real pictures {metrics[f'{name}_floor']:g})" if f"{name}_floor" in metrics else "" for name in names]
    scores = [f"{name} {metrics[name]:g}{floor}" for name, floor in zip(names, floors, strict=True)]
    return f"With {metrics['scores_count']} pictures on both sides: {', '.join(scores)}."
