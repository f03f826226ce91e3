"""The generator as programs that need none of this project's code: PyTorch's pt2, and ONNX.

The ONNX graph is written node by node. PyTorch's exporter would need three more packages, takes ten seconds, and leaves
paths of this machine in the file; its older one is deprecated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from dcgan.networks import Generator
from dcgan.networks.pixel_norm import EPSILON, PixelNorm

LATENTS, PICTURES = "latents", "pictures"  # names of the input (N, nz) and the output (N, nc, H, W) in [-1, 1]
OPSET = 17
TOLERANCE = 1e-4  # by which pictures in [-1, 1] may differ from PyTorch's


def save_pt2(path: Path, generator: Generator) -> None:
    """Writes an exported program, which `torch.export.load` reads, from latents (N, nz) to pictures in [-1, 1].

    The program holds neither paths of this machine nor a pickle.
    """
    frozen = generator.eval().requires_grad_(False)
    # Two latents, since an example with one would fix the number at 1.
    example, number = torch.zeros(2, generator.settings.nz), torch.export.Dim("N", min=1)
    program = torch.export.export(frozen, (example,), dynamic_shapes=({0: number},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
        node.meta.pop("nn_module_stack", None)
    program._example_inputs = None  # it would be saved as a pickle
    torch.export.save(program, path)


def save_onnx(path: Path, generator: Generator, latents: Tensor) -> float:
    """Writes an ONNX model, from latents (N, nz) to pictures in [-1, 1], and compares it with PyTorch.

    Args:
        latents: those (N, nz) whose pictures are compared.

    Returns:
        The largest difference of a pixel, in a range of [-1, 1].

    Raises:
        RuntimeError: it is larger than TOLERANCE.
    """
    model = _onnx_model(generator.eval())
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        pictures = generator(latents).numpy()
    # One more latent alone, since a graph can have the number of latents built in.
    parts = [session.run([PICTURES], {LATENTS: part.numpy()})[0] for part in (latents[:1], latents[1:])]
    difference = float(np.abs(np.concatenate(parts) - pictures).max())
    if not difference <= TOLERANCE:
        raise RuntimeError(f"ONNX Runtime's pictures differ from PyTorch's by {difference:g}, more than {TOLERANCE:g}")
    return difference


class _Graph:
    """Nodes in a row, each of which takes the output of the one before it."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, kind: str, name: str, constants: Mapping[str, Tensor], **attributes: Any) -> None:
        """Adds a node with further inputs that are constant, in the order of the operator's definition."""
        before = self.nodes[-1].output[0] if self.nodes else LATENTS
        named = {f"{name}.{key}": constant.numpy() for key, constant in constants.items()}
        self.weights += [numpy_helper.from_array(constant, key) for key, constant in named.items()]
        self.nodes.append(helper.make_node(kind, [before, *named], [name], name, **attributes))

    def add_layer(self, layer: nn.Module, name: str) -> None:
        state = layer.state_dict()
        match layer:
            case nn.ConvTranspose2d():
                padding = [int(pixels) for pixels in layer.padding] * 2
                self.add("ConvTranspose", name, state, strides=list(layer.stride), pads=padding)
            case nn.BatchNorm2d():
                of_torch = ("weight", "bias", "running_mean", "running_var")
                self.add("BatchNormalization", name, {key: state[key] for key in of_torch}, epsilon=layer.eps)
            case PixelNorm():
                maps = self.nodes[-1].output[0]
                self.nodes.append(helper.make_node("Mul", [maps, maps], [f"{name}.square"]))
                self.add("ReduceMean", f"{name}.mean", {}, axes=[1])
                self.add("Add", f"{name}.above_zero", {"epsilon": torch.tensor(EPSILON)})
                self.add("Sqrt", f"{name}.root", {})
                self.nodes.append(helper.make_node("Div", [maps, f"{name}.root"], [f"{name}.divided"]))
                self.add("Mul", f"{name}.scaled", {"weight": state["weight"][:, None, None]})
                self.add("Add", name, {"bias": state["bias"][:, None, None]})
            case nn.ReLU() | nn.Tanh():
                self.add(type(layer).__name__.replace("ReLU", "Relu"), name, {})
            case nn.Linear():
                self.add("Gemm", name, state, transB=1)
            case _:
                raise TypeError(f"{name}: {type(layer).__name__} has no node here")


def _onnx_model(generator: Generator) -> onnx.ModelProto:
    s, graph = generator.settings, _Graph()
    if s.architecture == "conv":
        graph.add("Unsqueeze", "maps", {"axes": torch.tensor([2, 3])})
    else:
        graph.add_layer(generator.project, "project")
        graph.add("Reshape", "maps", {"shape": torch.tensor([-1, generator.project.out_features // 16, 4, 4])})
    for name, layer in generator.main.named_children():
        graph.add_layer(layer, f"main.{name}")
    graph.nodes[-1].output[0] = PICTURES
    inputs = [helper.make_tensor_value_info(LATENTS, TensorProto.FLOAT, ["N", s.nz])]
    sizes: list[str | int | None] = ["N", s.nc, s.image_size, s.image_size]
    outputs = [helper.make_tensor_value_info(PICTURES, TensorProto.FLOAT, sizes)]
    made = helper.make_graph(graph.nodes, "generator", inputs, outputs, graph.weights)
    opsets = [helper.make_opsetid("", OPSET)]
    # The version of the format that came with the opset, which older runtimes read too.
    return helper.make_model(made, opset_imports=opsets, ir_version=8, producer_name="dcgan")
