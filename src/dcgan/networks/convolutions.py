"""The convolutions that halve and double a feature map: torch's own, with faster kernels for some cases.

bf16 on CPUs: the weight gradient of a 4x4 convolution with stride 2 is a matrix product of the smaller map and the 4x4
windows of the larger map. For small maps with many channels, oneDNN's bf16 kernel takes twice as long as that product.
When a map is doubled into the few channels of a picture, oneDNN's bf16 kernel takes twice as long as a convolution that
computes the four pixels of each 2x2 block as channels. With torch's layers a training step takes 1.06 times as long at
the default width (ngf = ndf = 32, batch 64), and 1.15 times as long at the tutorial's (ngf = ndf = 64, batch 128):
medians of 7 alternating rounds on two cores of a Xeon with AMX.

GPUs: both are also faster than cuDNN's kernels for the few channels of a picture. On an H200 a step takes 1.09 times as
long with cuDNN's at the default width, and 1.07 times as long with ngf = ndf = 64, batch 128 (bf16, medians of 5
alternating rounds).

These backward passes cannot be differentiated again, so gradient penalties must be computed outside autocast.

Gradient penalties on GPUs: the second derivative by the weight is the weight gradient of a convolution like the first.
torch computes it as a convolution whose kernel is as large as the map, for which cuDNN's deterministic kernels take
many times as long. On an H200 a step with penalties takes 1.6 times as long with torch's layers (13.3 ms, and
8.2 ms with these; bf16, ngf = ndf = 64, batch 128).

In all other cases, and where gradients are disabled, these are torch's layers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad, pixel_shuffle

LARGEST_PRODUCT = 8  # pixels, side of the larger map; above it, the windows cost more than the kernel (on CPUs)
FEW_CHANNELS = 4  # up to this many, each 2x2 block is computed as channels
_GEOMETRY = [2, 2], [1, 1], [1, 1]  # stride, padding, dilation


class HalvingConv2d(nn.Conv2d):
    """A 4x4 convolution from (N, C, 2H, 2W) to (N, D, H, W), with stride 2 and padding 1, without bias."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 4, 2, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        if _in_bf16(maps) and _has_faster_kernel(maps.is_cuda, self.in_channels, maps.shape[-1]):
            return _Halving.apply(*_cast(maps, self.weight))
        if maps.is_cuda and torch.is_grad_enabled() and not _in_bf16(maps):
            return twice_differentiable(maps, self.weight)
        return super().forward(maps)


class DoublingConvTranspose2d(nn.ConvTranspose2d):
    """A 4x4 transposed convolution from (N, C, H, W) to (N, D, 2H, 2W), with stride 2 and padding 1, without bias."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__(channels, out_channels, 4, 2, 1, bias=False)

    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        faster = _has_faster_kernel(maps.is_cuda, self.out_channels, 2 * maps.shape[-1])
        if output_size is None and faster and _in_bf16(maps):
            return _Doubling.apply(*_cast(maps, self.weight))
        return super().forward(maps, output_size)


def _in_bf16(maps: Tensor) -> bool:
    kind = maps.device.type
    known = kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind) and torch.is_grad_enabled()
    return known and torch.get_autocast_dtype(kind) == torch.bfloat16


def _cast(maps: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return maps.bfloat16().contiguous(memory_format=torch.channels_last), weight.bfloat16()


def weight_gradient(small: Tensor, large: Tensor) -> Tensor:
    """Returns the weight gradient (A, B, 4, 4) of a convolution from (N, B, 2H, 2W) to (N, A, H, W).

    One of `small` (N, A, H, W) and `large` (N, B, 2H, 2W) is the input of the layer, the other the gradient of its
    output.
    """
    n, a, height, width = small.shape
    padded = pad(large.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    windows = padded.unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3)  # (N, H, W, 4, 4, B)
    product = small.permute(0, 2, 3, 1).reshape(-1, a).t() @ windows.reshape(n * height * width, -1)
    return product.view(a, 4, 4, -1).permute(0, 3, 1, 2)


def _product_is_faster(large: Tensor) -> bool:
    return large.shape[1] <= FEW_CHANNELS if large.is_cuda else large.shape[-1] <= LARGEST_PRODUCT


def _has_faster_kernel(on_gpu: bool, channels: int, side: int) -> bool:
    """Whether one of ours is used for a layer whose larger map has this many channels and pixels on a side."""
    return channels <= FEW_CHANNELS or (not on_gpu and side <= LARGEST_PRODUCT)


def doubled(maps: Tensor, weight: Tensor) -> Tensor:
    """Returns the transposed convolution (N, B, 2H, 2W) of `maps` (N, A, H, W) with `weight` (A, B, 4, 4)."""
    if weight.shape[1] > FEW_CHANNELS:
        return conv_transpose2d(maps, weight, stride=2, padding=1)
    # In a result padded by 1, pixel (y, x) of the 2x2 block (i, j) depends on rows i - 1 and i, and on columns j - 1
    # and j, of the maps.
    taps = weight.unflatten(3, (2, 2)).unflatten(2, (2, 2)).flip(2, 4)  # (A, B, from i, y, from j, x)
    kernel = taps.permute(1, 3, 5, 0, 2, 4).flatten(0, 2).contiguous(memory_format=torch.channels_last)
    padded = pixel_shuffle(conv2d(maps, kernel, padding=1), 2)
    return padded[:, :, 1:-1, 1:-1].contiguous(memory_format=torch.channels_last)


def _backward(ctx: Any, gradient: Tensor, transposed: bool) -> tuple[Tensor | None, Tensor | None]:
    maps, weight = ctx.saved_tensors
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    of_maps, of_weight = ctx.needs_input_grad
    small, large = (maps, gradient) if transposed else (gradient, maps)
    by_product = of_weight and _product_is_faster(large)
    by_blocks = of_maps and not transposed and weight.shape[1] <= FEW_CHANNELS
    wanted = [of_maps and not by_blocks, of_weight and not by_product, False]
    first, second = None, None
    if any(wanted):
        convolution = torch.ops.aten.convolution_backward
        first, second, _ = convolution(gradient, maps, weight, None, *_GEOMETRY, transposed, [0, 0], 1, wanted)
    first = doubled(gradient, weight) if by_blocks else first
    return first, weight_gradient(small, large) if by_product else second


class _Halving(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return conv2d(maps, weight, stride=2, padding=1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return _backward(ctx, gradient, transposed=False)


class _Doubling(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return doubled(maps, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        return _backward(ctx, gradient, transposed=True)


def _of_maps(gradient: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient of the halving convolution by `maps`, of which only the shape matters."""
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    if weight.shape[1] <= FEW_CHANNELS:
        return doubled(gradient, weight)
    convolution = torch.ops.aten.convolution_backward
    result: Tensor = convolution(gradient, maps, weight, None, *_GEOMETRY, False, [0, 0], 1, [True, False, False])[0]
    return result


def _of_weight(gradient: Tensor, maps: Tensor, weight: Tensor) -> Tensor:
    """Returns the gradient of the halving convolution by `weight`, of which only the shape matters."""
    gradient, maps = (value.contiguous(memory_format=torch.channels_last) for value in (gradient, maps))
    if _product_is_faster(maps):
        return weight_gradient(gradient, maps)
    convolution = torch.ops.aten.convolution_backward
    result: Tensor = convolution(gradient, maps, weight, None, *_GEOMETRY, False, [0, 0], 1, [False, True, False])[1]
    return result


def twice_differentiable(maps: Tensor, weight: Tensor) -> Tensor:
    """Returns the halving convolution of `maps` with `weight`; its gradient by the maps can be differentiated again."""
    # The backward pass asks the engine whether the weight's gradient is wanted, which it cannot say of a leaf.
    result: Tensor = _TwiceDifferentiable.apply(maps, weight.view_as(weight))
    return result


class _TwiceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return conv2d(maps, weight, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        maps, weight = ctx.saved_tensors
        of_maps = _MapsGradient.apply(gradient, weight, maps) if ctx.needs_input_grad[0] else None
        of_weight = None
        # needs_input_grad is also set if only the gradient by the maps is asked for, as for a gradient penalty.
        if ctx.needs_input_grad[1] and torch._C._will_engine_execute_node(ctx.next_functions[1][0]):
            of_weight = _of_weight(gradient.detach(), maps.detach(), weight.detach())
        return of_maps, of_weight


class _MapsGradient(torch.autograd.Function):
    """The gradient of the halving convolution by its maps: linear in the output's gradient and in the weight."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, weight: Tensor, maps: Tensor) -> Tensor:
        ctx.save_for_backward(gradient, weight)
        return _of_maps(gradient, maps, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, second: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        gradient, weight = ctx.saved_tensors
        of_gradient = conv2d(second, weight, stride=2, padding=1) if ctx.needs_input_grad[0] else None
        of_weight = _of_weight(gradient, second, weight) if ctx.needs_input_grad[1] else None
        return of_gradient, of_weight, None
