"""The evaluation of a generator: the distance of its faces to real ones, and what to compare it with."""

from __future__ import annotations

from typing import Any

import numpy as np

from dcgan.errors import UserError
from dcgan.files import significant
from dcgan.metrics import frechet
from dcgan.metrics.feature_networks import FeatureNetwork
from dcgan.metrics.reference import BATCH, statistics
from dcgan.networks import Generator, build, estimate_batch_norm
from dcgan.sampling import draw_latents, generate, random_state

GREY = 128  # the level of a grey picture


def untrained(generator: Generator, seed: int) -> Generator:
    """A generator of the same shape before its first step."""
    fresh, _ = build(generator.settings, random_state(seed, "weights"))
    latents = (draw_latents(generator.settings, 128, random_state(seed, "batch norm", i)) for i in range(4))
    estimate_batch_norm(fresh, latents)
    return fresh.to(next(generator.parameters()).device)


def evaluate(
    generator: Generator,
    network: FeatureNetwork,
    reference: dict[str, frechet.Statistics],
    split: str,
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """The distance of `samples` generated faces to the real ones of `split`, and beside it those of

    - an untrained generator and plain grey pictures, which anything trained must undercut;
    - the test split against the train split: about what a perfect generator would score with so few pictures.

    The distance is called `fid` only for pytorch-fid's Inception, `frechet_distance` otherwise.

    Raises:
        UserError: the split has fewer than two faces.
    """
    if split not in reference:
        raise UserError(f"fid_split: {split} has fewer than 2 faces in this data set; give train or all.")
    real = reference[split]

    def distance(g: Generator, what: str) -> float:
        latents = draw_latents(g.settings, samples, random_state(seed, "evaluation")).split(BATCH)
        generated = statistics(network, (generate(g, part) for part in latents), samples, what)
        return frechet.frechet_distance(generated, real)

    side = generator.settings.image_size
    grey = np.full((2, side, side, generator.settings.nc), GREY, np.uint8)  # all alike: two are as good as more
    name = "fid" if network.name == "inception" else "frechet_distance"
    distances = {
        name: distance(generator, "generated faces"),
        f"{name}_untrained": distance(untrained(generator, seed), "untrained generator"),
        f"{name}_grey": frechet.frechet_distance(statistics(network, [grey], 2, "grey pictures"), real),
    }
    if {"train", "test"} <= set(reference):
        distances[f"{name}_floor"] = frechet.frechet_distance(reference["test"], reference["train"])
    return {
        **{key: significant(value) for key, value in distances.items()},
        "network": network.name,
        "weights_sha256": network.weights_sha256,
        "precision": "fp32",
        "samples": samples,
        "reference_split": split,
        "reference_count": real.count,
        "floor_count": reference["test"].count if "test" in reference else None,
        "seed": seed,
        "image_size": side,
    }
