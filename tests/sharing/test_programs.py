"""The exported programs draw what PyTorch draws, for any number of latents, and hold nothing of this machine."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dcgan import networks, sampling
from dcgan.networks import Generator, Settings
from dcgan.sharing import programs

KINDS: list[dict[str, Any]] = [
    {},
    {"architecture": "linear", "nc": 1},
    {"image_size": 64, "latent": "uniform"},
    {"generator_norm": "pixel"},
    {"generator_norm": "pixel", "architecture": "linear"},
]


def drawn(**changes: Any) -> Generator:
    """A generator with random weights, BatchNorm statistics of its own, and pictures of many levels."""
    settings = Settings(**{"image_size": 32, "nz": 8, "ngf": 8, "ndf": 4, **changes})
    generator, _ = networks.build(settings, sampling.random_state(0, "weights"))
    sampling.refresh_batch_norm(generator, seed=0, batches=2)
    with torch.no_grad():
        list(generator.parameters())[-1].mul_(10)
    return generator.eval()


@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_onnx_runtime_and_the_exported_program_draw_pytorchs_pictures(changes: dict[str, Any], tmp_path: Path) -> None:
    generator = drawn(**changes)
    latents = sampling.numbered_latents(generator.settings, 3, slice(0, 8))
    assert programs.save_onnx(tmp_path / "generator.onnx", generator, latents) < programs.TOLERANCE
    programs.save_pt2(tmp_path / "generator.pt2", generator)
    session = onnxruntime.InferenceSession(tmp_path / "generator.onnx")
    program = torch.export.load(tmp_path / "generator.pt2").module()
    for count in (1, 3, 8):
        with torch.inference_mode():
            pictures = generator(latents[:count])
        assert pictures.std() > 0.1
        found = session.run(None, {"latents": latents[:count].numpy()})[0]
        np.testing.assert_allclose(found, pictures.numpy(), atol=1e-5)
        torch.testing.assert_close(program(latents[:count]), pictures)


def test_the_onnx_model_states_its_opset_and_leaves_the_number_of_latents_open(tmp_path: Path) -> None:
    generator = drawn()
    programs.save_onnx(
        tmp_path / "generator.onnx", generator, sampling.numbered_latents(generator.settings, 3, slice(0, 2))
    )
    model = onnx.load(tmp_path / "generator.onnx")
    assert [(each.domain, each.version) for each in model.opset_import] == [("", programs.OPSET)]
    sides = [[side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim] for value in
             (*model.graph.input, *model.graph.output)]  # fmt: skip
    assert sides == [["N", 8], ["N", 3, 32, 32]]
    kinds = [node.op_type for node in model.graph.node]
    assert kinds == ["Unsqueeze", *["ConvTranspose", "BatchNormalization", "Relu"] * 3, "ConvTranspose", "Tanh"]


def test_a_model_that_differs_from_pytorch_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = drawn()
    latents = sampling.numbered_latents(generator.settings, 3, slice(0, 4))
    forward = generator.forward
    monkeypatch.setattr(generator, "forward", lambda latents: forward(latents) + 1e-3)
    with pytest.raises(RuntimeError, match=r"differ from PyTorch's by 0\.001"):
        programs.save_onnx(tmp_path / "generator.onnx", generator, latents)


def test_a_layer_without_a_node_is_an_error(tmp_path: Path) -> None:
    generator = drawn()
    generator.main.append(torch.nn.Dropout())
    with pytest.raises(TypeError, match="Dropout"):
        programs.save_onnx(tmp_path / "generator.onnx", generator, torch.zeros(2, 8))


def test_the_exported_program_holds_no_pickle_and_no_path_and_is_the_same_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        programs.save_pt2(tmp_path / name / "generator.pt2", drawn())
    file = tmp_path / "a" / "generator.pt2"
    assert file.read_bytes() == (tmp_path / "b" / "generator.pt2").read_bytes()
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    root = str(Path(networks.__file__).parents[2]).encode()
    for name, data in content.items():
        assert root not in data and b"site-packages" not in data and b"data.pkl" not in data, name
