"""Emulsion's addressed noise in numpy: Philox4x32-10 (doi:10.1145/2063384.2063405) and Box-Muller.

Written from src/core/random.h's description, so that solvers that draw noise can be compared step by step.
"""

import numpy as np
import torch

SAMPLE = 8  # Purpose::sample
MASK = (1 << 64) - 1


def mix(x):
    """The finaliser of SplitMix64."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def philox(key, counter):
    """key: two ints; counter: four uint64 arrays that hold 32-bit values. Returns four such arrays."""
    low = np.uint64(0xFFFFFFFF)
    key0, key1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        product0, product1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (product1 >> np.uint64(32)) ^ c1 ^ np.uint64(key0), product1 & low,
            (product0 >> np.uint64(32)) ^ c3 ^ np.uint64(key1), product0 & low,
        )  # fmt: skip
        key0, key1 = (key0 + 0x9E3779B9) & 0xFFFFFFFF, (key1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def normal(seed, shape, step, purpose=SAMPLE, index=0):
    """Standard normal float32 values at the address (seed, purpose, step, index)."""
    key = mix(mix(seed) ^ purpose)
    place = mix(mix(step) ^ ((index * 0xD1342543DE82EF95 + 1) & MASK))
    count = int(np.prod(shape))
    block = np.arange((count + 3) // 4, dtype=np.uint64)
    counter = [block, block >> np.uint64(32)]
    counter += [np.full_like(block, place & 0xFFFFFFFF), np.full_like(block, place >> 32)]
    bits = philox((key & 0xFFFFFFFF, key >> 32), counter)
    values = np.empty((len(block), 4))
    for pair in range(2):
        radius = np.sqrt(-2 * np.log(((bits[2 * pair] >> np.uint64(8)) + np.uint64(1)) * 2.0**-24))
        angle = 2 * np.pi * ((bits[2 * pair + 1] >> np.uint64(8)) * 2.0**-24)
        values[:, 2 * pair], values[:, 2 * pair + 1] = radius * np.cos(angle), radius * np.sin(angle)
    return torch.from_numpy(values.reshape(-1)[:count].astype(np.float32).reshape(shape))
