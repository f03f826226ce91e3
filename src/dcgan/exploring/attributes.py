"""What a generator has learnt of the attributes of its data: probes, directions, strips, and how good each is.

A probe on the discriminator's features learns the attributes from labelled faces and labels generated ones. The mean
latents of those give directions. Another probe, on features that the discriminator has no part in, says whether faces
change as a direction's name promises.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcgan.data.images import Pixels, grid
from dcgan.exploring import captions, pooled_features, strips
from dcgan.exploring.arithmetic import add
from dcgan.exploring.direction_file import Directions, none
from dcgan.exploring.directions import between_means
from dcgan.exploring.labelled import Labelled, choose, enough
from dcgan.exploring.pooled_features import Features
from dcgan.exploring.principal import principal_directions
from dcgan.exploring.probe import Probe, balanced_accuracy, fit
from dcgan.networks import Discriminator, Generator
from dcgan.sampling import draw_latents, generate, generate_levels, random_state
from dcgan.system.files import significant
from dcgan.system.progress import progress

MOST_FACES = 2000  # of a split; more cost seconds and change the accuracies on drawn faces by a hundredth
GENERATED = 4096  # faces whose latents are averaged
STRIPS = 256  # random faces that are moved along each direction
PRINCIPAL = 8  # principal directions
_MOST_FEATURES = 2**26  # of all faces that a probe is fitted to: 256 MiB
_LEAST_GENERATED = 20  # faces with an attribute, and as many without it, for a direction
_SHOWN = 2  # faces in the picture of the strips
_FIRST = "Smiling", "Eyeglasses"  # the paper's own example, if the data have these attributes
_BATCH = 128


class Explored(NamedTuple):
    """What was found."""

    directions: Directions
    result: dict[str, Any]
    strips: Pixels
    arithmetic: Pixels


class _Labels(NamedTuple):
    """Generated faces, labelled by a probe, and the probe that judges them."""

    latents: Tensor  # (N, nz)
    present: Tensor  # (N, A)
    judge: Probe


def explore(generator: Generator, discriminator: Discriminator, faces: Path, seed: int) -> Explored:
    """Explores a generator with its discriminator, both on one device and in evaluation mode.

    Args:
        faces: folder of the packed faces. Probes are fitted to the train split and tested on the test split.
        seed: of the latents, of the faces that are chosen, and of the random weights that the probe is compared with.
    """
    generator.to(memory_format=torch.channels_last)  # twice as fast on a CPU
    most = max(1, min(MOST_FACES, _MOST_FEATURES // pooled_features.dimensions(discriminator.settings)))
    fitted, tested = choose(faces, "train", most, seed), choose(faces, "test", MOST_FACES, seed)
    kept, left_out = enough(fitted, tested)
    names = [fitted.names[number] for number in kept]
    fitted, tested = (part._replace(labels=part.labels[:, kept], names=names) for part in (fitted, tested))
    vectors, shares = principal_directions(generator, PRINCIPAL)
    latents = draw_latents(generator.settings, GENERATED, random_state(seed, "directions"))
    result: dict[str, Any] = {
        "train_faces": len(fitted.pictures),
        "test_faces": len(tested.pictures),
        "generated_faces": GENERATED,
        "strips": STRIPS,
        "positions": list(strips.POSITIONS),
        "attributes": {},
        "left_out": left_out,
        "principal": [significant(float(share)) for share in shares],
    }
    directions = Directions([], none(generator.settings.nz), vectors)
    present = latents @ vectors.T > 0
    if names:
        labels, result["attributes"] = _labelled(generator, discriminator, fitted, tested, latents, seed)
        usable = [n for n in range(len(names)) if _enough_generated(labels.present[:, n])]
        left = between_means(latents, labels.present[:, usable]) if usable else none(generator.settings.nz)
        directions = directions._replace(names=[names[n] for n in usable], attributes=left)
        _judge(generator, labels, directions, [names.index(name) for name in directions.names], result, seed)
        present = torch.cat([labels.present[:, usable], present], dim=1)
    return Explored(directions, result, *_pictures(generator, directions, latents, present, seed))


def _labelled(
    generator: Generator,
    discriminator: Discriminator,
    fitted: Labelled,
    tested: Labelled,
    latents: Tensor,
    seed: int,
) -> tuple[_Labels, dict[str, Any]]:
    """Fits and tests the probes, and labels the faces of latents (N, nz)."""
    device = next(generator.parameters()).device
    learnt, plain = pooled_features.pooled(discriminator), pooled_features.plain
    random = pooled_features.pooled(pooled_features.untrained(discriminator.settings, seed).to(device))
    probes = [_fitted(features, fitted, device) for features in (learnt, random, plain)]
    accuracies = [_tested(*pair, tested, device) for pair in zip((learnt, random, plain), probes, strict=True)]
    batches = progress(latents.split(_BATCH), -(-len(latents) // _BATCH), "labelling generated faces", "batches")
    scores = [pooled_features.scored(learnt, probes[0], generate_levels(generator, part)) for part in batches]
    present = torch.cat(scores).cpu() > 0
    about = {
        name: {
            "balanced_accuracy": significant(float(accuracies[0][number])),
            "balanced_accuracy_random_features": significant(float(accuracies[1][number])),
            "balanced_accuracy_majority": 0.5,
            "balanced_accuracy_judge": significant(float(accuracies[2][number])),
            "generated_share": significant(float(present[:, number].double().mean())),
        }
        for number, name in enumerate(fitted.names)
    }
    return _Labels(latents, present, probes[2]), about


def _fitted(features: Features, faces: Labelled, device: torch.device) -> Probe:
    pictures = torch.from_numpy(faces.pictures).to(device)
    return fit(pooled_features.of_pictures(features, pictures), torch.from_numpy(faces.labels).to(device))


def _tested(features: Features, probe: Probe, faces: Labelled, device: torch.device) -> Tensor:
    """Returns the balanced accuracy of each attribute."""
    scores = pooled_features.scored(features, probe, torch.from_numpy(faces.pictures).to(device))
    return balanced_accuracy(scores, torch.from_numpy(faces.labels).to(device))


def _enough_generated(present: Tensor) -> bool:
    return min(int(present.sum()), int((~present).sum())) >= _LEAST_GENERATED


def _judge(
    generator: Generator,
    labels: _Labels,
    directions: Directions,
    numbers: Sequence[int],
    result: dict[str, Any],
    seed: int,
) -> None:
    """Adds to `result` how the scores of the independent probe change along the direction of each attribute.

    Args:
        numbers: those of the attributes that have a direction, among the columns of the labels.
    """
    latents = draw_latents(generator.settings, STRIPS, random_state(seed, "strips"))
    found = zip(directions.names, directions.attributes, numbers, strict=True)
    for name, direction, number in progress(found, len(numbers), "moving faces", "attributes"):
        scores = strips.scores(generator, pooled_features.plain, labels.judge, latents, direction, number)
        result["attributes"][name] |= {
            "strip_rising": significant(strips.rising(scores)),
            "strip_higher_at_the_end": significant(float((scores[-1] > scores[0]).double().mean())),
            "strip_scores": [significant(float(score)) for score in scores.mean(dim=1)],
        }


def _pictures(
    generator: Generator, directions: Directions, latents: Tensor, present: Tensor, seed: int
) -> tuple[Pixels, Pixels]:
    """Returns the picture of the strips and that of a sum; `present` (N, A + K) holds the principal directions too."""
    settings = generator.settings
    names = [*directions.names, *(f"principal {k + 1}" for k in range(len(directions.principal)))]
    vectors = [*directions.attributes, *directions.principal]
    shown = draw_latents(settings, _SHOWN, random_state(seed, "strips"))
    pictures = captions.rows(names, strips.rows(generator, shown, vectors), _SHOWN * len(strips.SHOWN))
    order = [names.index(name) for name in _FIRST if name in names]
    order += [number for number in range(len(names)) if number not in order]
    found = add(settings, latents, present, order, random_state(seed, "arithmetic"))
    if found is None:  # there is but one direction
        return pictures, pictures
    a, b = names[found.first], names[found.second]
    terms = [grid(face[None], 1) for face in generate(generator, found.terms)]
    said = f"{a}, not {b}", "- neither", f"+ {b}, not {a}"
    around = grid(generate(generator, found.results), 3)
    return pictures, captions.side_by_side([*zip(said, terms, strict=True), (f"= {a}, {b}", around)])
