"""The README.md of an exported folder: a model card in the form of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dcgan.metrics.names import FRECHET_DISTANCE, SCORES, distance_name
from dcgan.networks import Settings
from dcgan.report import card
from dcgan.sharing.programs import OPSET

_TORCH = """    import torch; from safetensors.torch import load_file
    pictures = torch.export.load("generator.pt2").module()(load_file("latents.safetensors")["latents"])
    faces = pictures.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)"""
_ONNX = """    import numpy as np; import onnxruntime
    pictures = onnxruntime.InferenceSession("generator.onnx").run(None, {"latents": np.load("latents.npy")})[0]
    faces = ((pictures + 1) * 127.5).round().clip(0, 255).astype(np.uint8).transpose(0, 2, 3, 1)"""


@dataclass(frozen=True)
class About:
    """What the card says.

    Args:
        settings: the network's.
        seed: seed of the latents in the folder.
        count: their number.
        params: all parameters of the generator; empty if they are not known.
        metrics: contents of its metrics.json; empty if it was not measured.
        data: the data card; empty if it is not known.
        rebuild: the commands that train it again in a clone of the project.
        commit: commit of the project that they were recorded in; empty if it is not known.
        torch: version of PyTorch that wrote the program.
        onnx_difference: the largest difference between ONNX Runtime's pictures and PyTorch's, in a range of [-1, 1].
    """

    settings: Settings
    seed: int
    count: int
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]
    data: Mapping[str, Any]
    rebuild: Sequence[str]
    commit: str
    torch: str
    onnx_difference: float


def render(about: About) -> str:
    """Renders the card: YAML metadata, then Markdown."""
    metadata = yaml.safe_dump(_metadata(about), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{metadata}---\n\n" + "\n\n".join(_sections(about)) + "\n"


def name(about: About) -> str:
    """The name of the model: dcgan, the data set and the size."""
    return f"dcgan-{about.params.get('dataset', 'faces')}-{about.settings.image_size}".replace("_", "-")


def _metadata(about: About) -> dict[str, Any]:
    source, dataset = about.data.get("source", {}), about.params.get("dataset")
    licence = str(source.get("licence", ""))
    named = (
        {"license": "mit"} if licence.startswith("MIT") else {"license": "other", "license_name": "terms-of-the-data"}
    )
    metadata: dict[str, Any] = named | {
        "library_name": "pytorch",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["dcgan", "gan", "image-generation", "onnx", "safetensors"],
    }
    if named["license"] == "other" and source.get("url"):
        metadata["license_link"] = source["url"]
    if dataset and dataset != "folder":
        metadata["datasets"] = [dataset]
    distance = distance_name(about.metrics)
    if distance not in about.metrics:
        return metadata
    label, m = card.label(about.metrics), about.metrics
    values = {
        distance: f"{label}, {m['samples']} generated pictures",
        f"{distance}_at_floor_count": f"{label}, {m['floor_count']} generated pictures",
        f"{distance}_floor": f"{label}, {m['floor_count']} real {m['floor_split']} pictures",
    }
    values |= {score: score.removeprefix("sample_").capitalize() for score in SCORES}
    results = [{"type": key, "name": text, "value": m[key]} for key, text in values.items() if key in m]
    of = {
        "type": dataset or "unknown",
        "name": about.metrics["data_source"],
        "split": about.metrics["reference_split"],
    }
    task = {"type": "unconditional-image-generation"}
    index = {"name": name(about), "results": [{"task": task, "dataset": of, "metrics": results}]}
    return metadata | {"metrics": [distance], "model-index": [index]}


def _sections(about: About) -> list[str]:
    s = about.settings
    side, draw = s.image_size, "torch.rand(16, {}) * 2 - 1" if s.latent == "uniform" else "torch.randn(16, {})"
    trained = f" {card.training(about.params)}" if "loss" in about.params else ""
    shape = f"uint8, ({about.count}, {side}, {side}, {s.nc})"
    return [
        f"# {name(about)}",
        f"The generator of a DCGAN. It draws {side}x{side} pictures from latents of {s.nz} numbers with a {s.latent} "
        f"distribution.{trained}",
        f"![{about.count} generated pictures](samples.png)",
        "## Pictures in three lines",
        "In this folder, with `torch` and `safetensors` alone:",
        _TORCH,
        "Or with `onnxruntime` alone:",
        _ONNX,
        f"`faces` is {shape}: the pictures of `samples.png`, row by row. For new ones give other latents, such as "
        f"`{draw.format(s.nz)}`.",
        "## Files",
        _files(about),
        "## Data",
        _data(about),
        "## How it was measured",
        *_results(about),
        "## Limits",
        f"{card.LIMITATIONS} Its pictures have {side}x{side} pixels, and what they show cannot be asked for.",
        "## How to make it again",
        *_rebuild(about),
    ]


def _files(about: About) -> str:
    rows = {
        "generator.safetensors": "the weights, with the layers of PyTorch's DCGAN example (`main.0.weight`, ...)"
        if about.settings.architecture == "conv"
        else "the weights",
        "generator.pt2": f"an exported program, from latents (N, {about.settings.nz}) to pictures in [-1, 1]; written "
        f"by PyTorch {about.torch}; other versions may not read it",
        "generator.onnx": f"the same as ONNX, opset {OPSET}; its pictures differ from PyTorch's by at most "
        f"{about.onnx_difference:.1g} in a range of 2",
        "latents.safetensors, latents.npy": f"{about.count} latents: those of `dcgan generate --count {about.count} "
        f"--seed {about.seed}` in the project",
        "samples.png": "their pictures, none left out",
    }
    if about.params:
        rows["params.yaml"] = "all parameters"
    if about.metrics:
        rows["metrics.json"] = "what was measured, and how"
    return "\n".join(["| file | what |", "|---|---|", *(f"| `{file}` | {what} |" for file, what in rows.items())])


def _data(about: About) -> str:
    source = about.data.get("source")
    if not source:
        return "It is not recorded what the generator was trained on, nor under which licence those pictures are."
    where = f" ({source['url']})" if source.get("url") else ""
    cited = f" {source['citation']}" if source.get("citation") else ""
    return (
        f"{card.origin(about.data)}, trained on the split `{about.params.get('train_split', 'train')}`{where}. "
        f"Licence of the data: {source['licence']}.{cited}"
    )


def _results(about: About) -> list[str]:
    if not about.metrics:
        return ["It was not measured, or its metrics were not at hand when the folder was written."]
    lines = card.results(about.metrics)
    if distance_name(about.metrics) == FRECHET_DISTANCE in about.metrics:
        lines.append("Compare this distance with others that were measured in the same way alone.")
    return [*lines, "`metrics.json` has all values; what is no result there says how they were measured."]


def _rebuild(about: About) -> list[str]:
    if not about.rebuild:
        return ["It is not recorded how the generator was made."]
    at = f" of the commit `{about.commit}`" if about.commit else ""
    return [
        f"In a clone{at} of the project that trained it, which is under the MIT licence:",
        "\n".join(f"    {command}" for command in about.rebuild),
        "On the same kind of machine, with as many threads, that gives the same bytes.",
    ]
