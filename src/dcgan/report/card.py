"""The model card of a generator, in Markdown: what it is, how good it is, what it may be used for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dcgan.metrics.names import FID, distance_name


def render(metrics: Mapping[str, Any], data: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """The card.

    Args:
        metrics: what reports/metrics.json holds.
        data: the data card, reports/data.json.
        params: those of the training.
    """
    name = distance_name(metrics)
    label = "FID" if name == FID else f"Frechet distance with {metrics['network']} (not FID)"
    source, side = data["source"], metrics["image_size"]
    beside = {
        "untrained generator": metrics[f"{name}_untrained"],
        "grey pictures": metrics[f"{name}_grey"],
        "real test pictures": metrics.get(f"{name}_floor"),
    }
    compared = ", ".join(f"{what} {value:g}" for what, value in beside.items() if value is not None)
    lines = [
        f"# DCGAN, {side}x{side}, {params['dataset']}",
        f"A generator of {side}x{side} pictures from latents of {params['nz']} {params['latent']} numbers; "
        f"`{params['architecture']}` networks, loss `{params['loss']}`, {params['epochs']} epochs, "
        f"seed {params['seed']}.",
        "## Data",
        f"{source['name']}; {sum(data['faces'].values())} pictures, trained on `{params['train_split']}`. "
        f"Licence: {source['licence']}.",
        "## How good it is",
        f"{label}: **{metrics[name]:g}**, of {metrics['samples']} pictures to {metrics['reference_count']} of "
        f"`{metrics['reference_split']}`. For comparison: {compared}.",
        _scores(metrics),
        "## Use",
        'Latents: `{"inputs": [[...], ...]}`. Or the pictures of `python -m dcgan generate --seed 7 --count 16`: '
        '`{"inputs": [[]], "params": {"seed": 7, "count": 16}}`.',
        "## Limits",
        "It shows what its data shows, and its biases. The data's licence binds what may be done with its pictures.",
    ]
    return "\n\n".join(line for line in lines if line)


def _scores(metrics: Mapping[str, Any]) -> str:
    names = ("precision", "recall", "density", "coverage", "memorisation")
    return ", ".join(f"{name} {metrics[name]:g}" for name in names if name in metrics)
