"""The model card of a generator in Markdown: description, evaluation results, usage and limitations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcgan.metrics.names import FID, SCORES, distance_name

LIMITATIONS = (
    "The generator reproduces its training data, including the biases. The licence of the data restricts the use of "
    "the generated pictures."
)


def render(metrics: Mapping[str, Any], data: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Renders the model card as Markdown, for the model registry.

    Args:
        metrics: contents of reports/metrics.json.
        data: the data card, contents of reports/data.json.
        params: all parameters that determine the generator.
    """
    side = metrics["resolution"]
    lines = [
        f"# DCGAN, {side}x{side}, {params['dataset']}",
        f"Generates {side}x{side} pictures from latents of {params['nz']} numbers with a {params['latent']} "
        f"distribution. {training(params)}",
        "## Data",
        f"{origin(data)}, trained on the split `{params['train_split']}`. Licence: {data['source']['licence']}.",
        "## Evaluation results",
        *results(metrics),
        "## Usage",
        'To generate pictures from given latents: `{"inputs": [[...], ...]}`. To generate the same pictures as '
        '`python -m dcgan generate --seed 7 --count 16`: `{"inputs": [[]], "params": {"seed": 7, "count": 16}}`.',
        "## Limitations",
        LIMITATIONS,
    ]
    return "\n\n".join(lines)


def training(params: Mapping[str, Any]) -> str:
    """A sentence about the training."""
    return (
        f"Training: `{params['architecture']}` networks, loss `{params['loss']}`, {params['epochs']} epochs, seed "
        f"{params['seed']}."
    )


def origin(data: Mapping[str, Any]) -> str:
    """What the pictures are, and how many."""
    return f"{data['source']['name']}; {sum(data['faces'].values())} pictures"


def label(metrics: Mapping[str, Any]) -> str:
    """The name of the distance, with its network unless it is FID."""
    return "FID" if distance_name(metrics) == FID else f"Frechet distance with {metrics['network']} (not FID)"


def results(metrics: Mapping[str, Any]) -> list[str]:
    """Paragraphs about what was measured: the distance beside others, the scores, the search for copies."""
    name = distance_name(metrics)
    beside = {
        "untrained generator": metrics.get(f"{name}_untrained"),
        "grey pictures": metrics.get(f"{name}_grey"),
        f"{metrics['floor_count']} real {metrics['floor_split']} pictures": metrics.get(f"{name}_floor"),
    }
    if metrics["floor_count"] != metrics["samples"]:
        beside[f"{metrics['floor_count']} generated pictures"] = metrics.get(f"{name}_at_floor_count")
    compared = ", ".join(f"{what} {value:g}" for what, value in beside.items() if value is not None)
    distance = (
        f"{label(metrics)}: **{metrics[name]:g}**, between {metrics['samples']} generated pictures and the "
        f"{metrics['reference_count']} real pictures of the split `{metrics['reference_split']}`. "
        f"For comparison: {compared}."
        if name in metrics
        else ""
    )
    copies = metrics.get("copies_verdict")
    searched = f"Search for copies of training pictures: {copies}." if copies else ""
    return [text for text in (distance, _scores(metrics), searched) if text]


def _scores(metrics: Mapping[str, Any]) -> str:
    names = [name for name in SCORES if name in metrics]
    if not names:
        return ""
    floors = [f" (real pictures {metrics[f'{name}_floor']:g})" if f"{name}_floor" in metrics else "" for name in names]
    scores = [
        f"{name.removeprefix('sample_')} {metrics[name]:g}{floor}" for name, floor in zip(names, floors, strict=True)
    ]
    return f"With {metrics['scores_count']} pictures on both sides: {', '.join(scores)}."
