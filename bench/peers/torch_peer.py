"""PyTorch on the CPU, under the protocol of protocol.md.

What is timed is the ATen call itself, without the Module around it and without autograd's bookkeeping, wherever there
is such a call; rmsnorm, lrn and the backward of instancenorm are what a user composes.

PyTorch takes no output. For `reused` its allocator has to keep its memory: run.mjs starts this with glibc's MALLOC_
variables then, and without them for `fresh`.
"""

import json
import sys

try:
    import numpy as np
    import torch
    import torch.nn.functional as F

    from serve import hashed, serve, uniform as numbers
except ImportError as error:
    print(json.dumps({"missing": str(error)}), flush=True)
    sys.exit()

EPS, MOMENTUM = 1e-5, 0.1
IMAGE_MEAN, IMAGE_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
aten = torch.ops.aten


def uniform(shape, seed, scale, shift):
    return torch.from_numpy(numbers(shape, seed, scale, shift))


def row_of(cell):
    return cell.shape[len(cell.shape) - cell.param :]


def tensor_of(cell, seed, scale, shift):
    if cell.layout != "nhwc":
        return uniform(cell.shape, seed, scale, shift)
    n, channels, *spatial = cell.shape
    return torch.movedim(uniform([n, *spatial, channels], seed, scale, shift), -1, 1)


def in_memory(cell, result):
    """What a result holds, in the order of the cell's memory."""
    if cell.layout == "nhwc" and list(result.shape) == cell.shape:
        result = torch.movedim(result, 1, -1)
    return result.detach().contiguous().numpy()


def forward_of(cell, mode, x, weight, bias, running):
    """forward() -> (y, mean, rstd), as ATen has it; or None."""
    n, channels = (cell.shape + [1])[:2]
    if cell.op == "batchnorm":
        training = mode != "eval"
        return lambda: torch.native_batch_norm(x, weight, bias, *running, training, MOMENTUM, EPS)
    if cell.op == "layernorm":
        return lambda: torch.native_layer_norm(x, row_of(cell), weight, bias, EPS)
    if cell.op == "groupnorm":
        plane = x.numel() // (n * channels)
        return lambda: torch.native_group_norm(x, weight, bias, n, channels, plane, cell.param, EPS)


def backward_of(cell, x, dy, weight, bias, running, mean, rstd):
    n, channels = (cell.shape + [1])[:2]
    wanted = [True, True, True]
    if cell.op == "batchnorm":
        return lambda: aten.native_batch_norm_backward(dy, x, weight, *running, mean, rstd, True, EPS, wanted)
    if cell.op == "layernorm":
        return lambda: aten.native_layer_norm_backward(dy, x, row_of(cell), mean, rstd, weight, bias, wanted)
    plane = x.numel() // (n * channels)
    return lambda: aten.native_group_norm_backward(dy, x, mean, rstd, weight, n, channels, plane, cell.param, wanted)


def composed(cell, x, weight, bias):
    if cell.op == "instancenorm":
        return lambda: F.instance_norm(x, weight=weight, bias=bias, eps=EPS)
    if cell.op == "rmsnorm":
        dims = tuple(range(-cell.param, 0))
        return lambda: x * torch.rsqrt(x.pow(2).mean(dims, keepdim=True) + EPS) * weight
    if cell.op == "lrn":
        return lambda: F.local_response_norm(x, cell.param, alpha=1e-4, beta=0.75, k=1.0)
    raise ValueError("no such function")


def images(cell):
    """Bytes (N, H, W, C) to planes; param 0 as it is usually written, whose planes are strided, 1 the fastest way found."""
    n, channels, *sizes = cell.shape
    pixels = (hashed(cell.shape, 1) >> np.uint32(24)).astype(np.uint8)
    x = torch.from_numpy(pixels.reshape(n, *sizes, channels))
    mean, std = (torch.tensor(each).view(1, channels, 1, 1) for each in (IMAGE_MEAN, IMAGE_STD))
    if cell.param == 0:
        return lambda: ((x.permute(0, 3, 1, 2).float() / 255 - mean) / std,)
    return lambda: (x.permute(0, 3, 1, 2).contiguous().float().div_(255).sub_(mean).div_(std),)


def statistics(cell):
    x = tensor_of(cell, 1, 4, -1)
    axes = [axis for axis in range(x.ndim) if axis != 1]

    def run():
        var, mean = torch.var_mean(x, axes, unbiased=False)
        return mean.double(), var.double()

    return run, ["mean", "var"]


def prepare(cell):
    """run() -> a tuple of results, and their names."""
    torch.set_num_threads(cell.threads)
    if cell.op == "none":
        raise ValueError("there is nothing to do")
    if cell.op == "images":
        return images(cell), ["y"]
    if cell.op == "statistics":
        return statistics(cell)
    x = tensor_of(cell, 1, 4, -1)
    dy = tensor_of(cell, 2, 2, -1) if cell.mode == "backward" else None
    sizes = row_of(cell) if cell.op in ("layernorm", "rmsnorm") else cell.shape[1:2]
    weight = None if cell.op == "lrn" else uniform(sizes, 3, 1, 0.5)
    bias = None if cell.op in ("lrn", "rmsnorm") else uniform(sizes, 4, 1, -0.5)
    running = [uniform(cell.shape[1:2], 5, 1, 0), uniform(cell.shape[1:2], 6, 1, 0.5)]

    forward = forward_of(cell, cell.mode, x, weight, bias, running)
    if forward and dy is None:
        return forward, ["y"]
    if forward:
        _, mean, rstd = forward()
        return backward_of(cell, x, dy, weight, bias, running, mean, rstd), ["dx", "dweight", "dbias"]
    if dy is None:
        norm = composed(cell, x, weight, bias)

        def run():
            with torch.no_grad():
                return (norm(),)

        return run, ["y"]
    inputs = [tensor.requires_grad_(True) for tensor in (x, weight, bias) if tensor is not None]
    y = composed(cell, x, weight, bias)()
    run = lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)
    return run, ["dx", "dweight", "dbias"][: len(inputs)]


serve("torch", torch.__version__, prepare, in_memory)
