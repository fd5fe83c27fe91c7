"""What the peers in Python share: the protocol of protocol.md, its inputs, and how a call is timed."""

import gc
import json
import os
import sys
import time

import numpy as np

SAMPLE_US, SLOW_US = 50, 4e5  # a call as long as the second is not repeated


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
    return u.reshape(shape)


class Cell:
    def __init__(self, words):
        self.op, shape, param, self.layout, self.mode, threads, self.variant, self.folder = words
        self.shape = [int(size) for size in shape.split(",")]
        self.param, self.threads = int(param), int(threads)


class Job:
    def __init__(self, cell, prepare, in_memory):
        self.run, names = prepare(cell)
        self.calls = 0
        self.results = []
        for name, result in zip(names, self.run()):
            if cell.folder != "-":
                in_memory(cell, result).tofile(os.path.join(cell.folder, name))
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


def serve(peer, version, prepare, in_memory):
    """prepare(cell) -> run() and the names of what it returns; in_memory(cell, result): an array of it, as it is to lie."""
    print(json.dumps({"peer": peer, "version": version}), flush=True)
    job = None
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "cell":
            job = None
            gc.collect()
            try:
                job = Job(Cell(words), prepare, in_memory)
                answer = {"results": job.results}
            except Exception as error:  # the reason is the answer
                answer = {"unsupported": str(error).split("\n")[0]}
        elif verb == "time":
            answer = job.time(float(words[0]))
        else:
            return
        print(json.dumps(answer), flush=True)

