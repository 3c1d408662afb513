"""Makes noise.txt: what torch.randn gives on the CPU, and on CUDA by a description of cuRAND in numpy.

One line per draw: source, seed, shape, number of the draw from that generator, FNV-1a of the float32 bytes, first and
last number. Draw 0 is the first after seeding.
"""

import numpy as np
import torch
from golden_file import OUT

SEEDS = (0, 1, 42, 1234567890, 2**32 - 1, 2**32 + 5, 2**63 + 11)
# Up to 15 numbers go another way than 16 and more; the vectorised one redoes the last 16 where 16 does not divide.
SHAPES = [(n,) for n in (1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 14, 15, 16, 17, 18, 19, 23, 24, 31, 32, 33, 47, 48, 63, 64, 65)] + [
    (100,), (127,), (255,), (257,), (1000,), (1001,), (3, 5), (3, 7), (2, 2, 2), (4, 4, 4), (1, 4, 4, 4), (2, 3, 5, 7),
    (1, 1, 1, 1), (1, 4, 8, 8), (4, 8, 12), (1, 4, 9, 13), (1, 3, 16, 16), (2, 4, 16, 16), (4, 32, 32), (1, 9, 16, 24),
    (1, 4, 64, 64), (1, 4, 96, 64), (4, 64, 88), (1, 4, 128, 128), (1, 16, 32, 32),
]  # fmt: skip
DRAWS = [(1, 4, 8, 8), (1, 4, 8, 8), (3,), (1, 4, 8, 8), (5,), (16,)]  # one after the other
# torch.manual_seed(0); torch.randn(..., device="cuda") as printed in many public reports.
RECORDED_CUDA = [-0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284,
                 -1.0745, -0.3631, -1.6711, 2.2655, 0.3117, -0.1842, 1.2866, 1.1820]  # fmt: skip


def fnv1a(data):
    hash_ = 0xCBF29CE484222325
    for byte in data:
        hash_ = (hash_ ^ byte) * 0x100000001B3 % 2**64
    return hash_


def philox(key, counter, rounds=10):
    """Philox4x32 of Salmon et al. 2011 on uint64 arrays that hold 32-bit words; counter: [4][n]."""
    mask = np.uint64(0xFFFFFFFF)
    k0, k1 = np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)
    c0, c1, c2, c3 = counter
    for _ in range(rounds):
        p0, p1 = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> np.uint64(32)) ^ c1 ^ k0, p1 & mask, (p0 >> np.uint64(32)) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & mask, (k1 + np.uint64(0xBB67AE85)) & mask
    return c0, c1, c2, c3


def cuda_randn(seed, draw, shape):
    """curand_normal4 of every thread's first number: u = x 2^-32 + 2^-33, angle = (y + 1/2) 2^-32 2 pi."""
    n = int(np.prod(shape))
    zero = np.zeros(n, np.uint64)
    x, y, _, _ = philox(seed, [zero + np.uint64(draw), zero, np.arange(n, dtype=np.uint64), zero])
    turn = np.float64(np.float32(2.3283064e-10 * 6.2831855))
    u = x.astype(np.float64) * 2.0**-32 + 2.0**-33
    angle = y.astype(np.float64) * turn + turn / 2
    return (np.sqrt(-2 * np.log(u)) * np.sin(angle)).astype(np.float32).reshape(shape)


def line(source, seed, draw, values):
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    shape = "x".join(map(str, values.shape))
    return f"{source} {seed} {shape} {draw} {fnv1a(flat.tobytes()):016x} {flat[0]:.9g} {flat[-1]:.9g}"


def sequence(source, seed, shapes):
    if source == "cpu":
        generator = torch.Generator("cpu").manual_seed(seed)
        draws = [torch.randn(shape, generator=generator).numpy() for shape in shapes]
    else:
        draws = [cuda_randn(seed, i, shape) for i, shape in enumerate(shapes)]
    return [line(source, seed, i, values) for i, values in enumerate(draws)]


if __name__ == "__main__":
    assert np.abs(cuda_randn(0, 0, (16,)) - RECORDED_CUDA).max() < 6e-5
    torch.manual_seed(7)
    assert torch.equal(torch.randn(4, 5), torch.randn(4, 5, generator=torch.Generator().manual_seed(7)))
    lines = [f"# cpu: torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"]
    lines += ["# source seed shape draw fnv1a first last"]
    for i, shape in enumerate(SHAPES):
        for source in ("cpu", "nv"):
            lines += sequence(source, SEEDS[i % len(SEEDS)], [shape])
    for seed in SEEDS:
        for source in ("cpu", "nv"):
            lines += sequence(source, seed, DRAWS)
    (OUT / "noise.txt").write_text("\n".join(lines) + "\n")
    print(f"noise.txt: {len(SHAPES)} shapes, {len(lines)} lines")
