"""How each metric changes with the number of faces: the table of docs/evaluation.md, for the generator of this folder.

    dvc repro evaluate
    python benchmarks/score_counts.py

Each row is the mean over draws of that many faces of all splits, and of as many generated faces or as many other real
faces, with the standard deviation over the draws. The Frechet distance is that to 4,000 real faces.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from dcgan import networks, params
from dcgan.metrics import feature_networks, kernel, neighbours, reference, weights
from dcgan.metrics.collecting import collect, statistics_of
from dcgan.metrics.frechet import frechet_distance
from dcgan.metrics.reference import Features
from dcgan.sampling import generated

COUNTS, REFERENCE, GENERATED = (100, 200, 500, 1000, 2000), 4000, 4000


def measured(faces: Features, real: Features, others: Features) -> list[float]:
    """The metrics of faces against as many real ones; the last is their Frechet distance to `others`, if there are."""
    found = [*neighbours.scores(real, faces), kernel.kernel_distance(faces, real).value]
    return [*found, frechet_distance(statistics_of(faces), statistics_of(others)) if len(others) else np.nan]


def table(real: Features, made: Features, draws: int) -> None:
    print("| faces a side | | precision | recall | density | coverage | kernel distance | Frechet distance |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for count in COUNTS:
        rows: dict[str, list[list[float]]] = {"real": [], "generated": []}
        for draw in range(draws):
            random = np.random.default_rng(draw)
            a, b = real[random.permutation(len(real))], made[random.permutation(len(made))]
            others = a[-REFERENCE:] if len(a) >= REFERENCE + count else a[:0]
            rows["real"].append(measured(a[:count], a[count : 2 * count], others))
            rows["generated"].append(measured(b[:count], a[:count], a[-REFERENCE:]))
        for what, values in rows.items():
            means, deviations = np.mean(values, axis=0), np.std(values, axis=0, ddof=1)
            digits = [3] * (len(means) - 1) + [0]
            cells = [f"{m:.{d}f} ± {s:.{d}f}" for m, s, d in zip(means, deviations, digits, strict=True)]
            print(f"| {count} | {what} | {' | '.join(cells)} |".replace("nan ± nan", ""), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5)
    draws = parser.parse_args().draws
    p = params.load(Path("params.yaml"))
    file = weights.find(p.fid_network, Path("data/weights"))
    network = feature_networks.load(p.fid_network, file, torch.device("cpu"))
    real = reference.open_features(Path("data/reference"), "all")
    assert real is not None
    made = np.empty((GENERATED, network.dimensions), np.float32)
    generator = networks.load_generator(Path("models/generator.safetensors"))
    collect(network, generated(generator, p.seed), GENERATED, "generated faces", made)
    table(real, made, draws)


if __name__ == "__main__":
    main()
