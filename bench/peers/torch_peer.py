"""PyTorch on the CPU, under the protocol of protocol.md.

What is timed is the ATen call itself, without the Module around it and without autograd's bookkeeping, wherever there
is such a call; rmsnorm, lrn and the backward of instancenorm are what a user composes.

PyTorch takes no output. For `reused` its allocator has to keep its memory: run.mjs starts this with glibc's MALLOC_
variables then, and without them for `fresh`.
"""

import gc
import json
import os
import sys
import time

try:
    import numpy as np
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(json.dumps({"missing": str(error)}), flush=True)
    sys.exit()

EPS, MOMENTUM = 1e-5, 0.1
IMAGE_MEAN, IMAGE_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SAMPLE_US, SLOW_US = 50, 4e5  # a call as long as the second is not repeated
aten = torch.ops.aten


def hashed(shape, seed):
    h = np.arange(int(np.prod(shape)), dtype=np.uint32)
    h += np.uint32(seed * 0x9E3779B1 & 0xFFFFFFFF)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(15)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(13)
    return h


def uniform(shape, seed, scale, shift):
    """Numbers from shift to shift + scale, the same in every run and every language."""
    h = hashed(shape, seed)
    u = (h >> np.uint32(8)).astype(np.float32) / np.float32(2**24)  # exact: 24 bits
    if scale != 1 or shift != 0:
        u = (u.astype(np.float64) * scale + shift).astype(np.float32)
    return torch.from_numpy(u.reshape(shape))


class Cell:
    def __init__(self, words):
        self.op, shape, param, self.layout, self.mode, threads, self.variant, self.folder = words
        self.shape = [int(size) for size in shape.split(",")]
        self.param, self.threads = int(param), int(threads)
        self.row = self.shape[len(self.shape) - self.param :]
        self.last = self.layout == "nhwc"

    def tensor(self, seed, scale, shift):
        if not self.last:
            return uniform(self.shape, seed, scale, shift)
        n, channels, *spatial = self.shape
        return torch.movedim(uniform([n, *spatial, channels], seed, scale, shift), -1, 1)

    def in_memory(self, result):
        """What a result holds, in the order of the cell's memory."""
        if self.last and list(result.shape) == self.shape:
            result = torch.movedim(result, 1, -1)
        return result.detach().contiguous().numpy()


def forward_of(cell, mode, x, weight, bias, running):
    """forward() -> (y, mean, rstd), as ATen has it; or None."""
    n, channels = (cell.shape + [1])[:2]
    if cell.op == "batchnorm":
        training = mode != "eval"
        return lambda: torch.native_batch_norm(x, weight, bias, *running, training, MOMENTUM, EPS)
    if cell.op == "layernorm":
        return lambda: torch.native_layer_norm(x, cell.row, weight, bias, EPS)
    if cell.op == "groupnorm":
        plane = x.numel() // (n * channels)
        return lambda: torch.native_group_norm(x, weight, bias, n, channels, plane, cell.param, EPS)


def backward_of(cell, x, dy, weight, bias, running, mean, rstd):
    n, channels = (cell.shape + [1])[:2]
    wanted = [True, True, True]
    if cell.op == "batchnorm":
        return lambda: aten.native_batch_norm_backward(dy, x, weight, *running, mean, rstd, True, EPS, wanted)
    if cell.op == "layernorm":
        return lambda: aten.native_layer_norm_backward(dy, x, cell.row, mean, rstd, weight, bias, wanted)
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


def prepare(cell):
    """run() -> a tuple of results, and their names."""
    torch.set_num_threads(cell.threads)
    if cell.op == "none":
        raise ValueError("there is nothing to do")
    if cell.op == "images":
        return images(cell), ["y"]
    x = cell.tensor(1, 4, -1)
    dy = cell.tensor(2, 2, -1) if cell.mode == "backward" else None
    sizes = cell.row if cell.op in ("layernorm", "rmsnorm") else cell.shape[1:2]
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


class Job:
    def __init__(self, cell):
        self.run, names = prepare(cell)
        self.calls = 0
        self.results = []
        for name, result in zip(names, self.run()):
            if cell.folder != "-":
                cell.in_memory(result).tofile(os.path.join(cell.folder, name))
                self.results.append(name)

    def each(self, calls):
        begin = time.perf_counter()
        for _ in range(calls):
            self.run()
        return (time.perf_counter() - begin) / calls * 1e6

    def time(self, ms):
        first = self.each(1)
        if first > SLOW_US:
            return {"us": first, "least": first}
        if not self.calls:
            self.calls = 1
            while self.calls < 4096 and self.each(self.calls) * self.calls < SAMPLE_US:
                self.calls *= 2
        samples, end = [], time.perf_counter() + ms / 1e3
        while len(samples) < 3 or time.perf_counter() < end:
            samples.append(self.each(self.calls))
        return {"us": float(np.median(samples)), "least": min(samples)}


def main():
    print(json.dumps({"peer": "torch", "version": torch.__version__}), flush=True)
    job = None
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "cell":
            job = None
            gc.collect()
            try:
                job = Job(Cell(words))
                answer = {"results": job.results}
            except Exception as error:  # the reason is the answer
                answer = {"unsupported": str(error).split("\n")[0]}
        elif verb == "time":
            answer = job.time(float(words[0]))
        else:
            return
        print(json.dumps(answer), flush=True)


main()
