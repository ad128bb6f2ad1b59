# SPDX-License-Identifier: Apache-2.0
"""The side of compare.py that runs PyTorch: the same networks and work, answered one request a line as
bench_compare.c does. A work's first word but one names PyTorch's mode:

    nchw, nhwc          eager, contiguous or channels_last tensors
    nchw-opt, nhwc-opt  inference only: torch.jit.trace, freeze, optimize_for_inference

What differs from the engine, always in PyTorch's favour: no moving average of the weights in "train", symmetric
padding in front of strided convolutions instead of TensorFlow's (which would cost an extra pass), no loss computed
("train" starts backward from a fixed gradient, as the engine's side does)."""
import json
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

PRESETS = {"wrn-28-2": (3, 32, 4), "wrn-37-2": (4, 32, 4), "lite": (4, 16, 2), "lite3": (3, 16, 2), "wrn-10-2": (3, 32, 1)}
SLOPE = 0.1


class Block(nn.Module):
    def __init__(self, c, k, stride, activated):
        super().__init__()
        self.activated = activated
        self.bn1 = nn.BatchNorm2d(c, 1e-3, 1e-3)
        self.conv1 = nn.Conv2d(c, k, 3, stride, 1)
        self.bn2 = nn.BatchNorm2d(k, 1e-3, 1e-3)
        self.conv2 = nn.Conv2d(k, k, 3, 1, 1)
        self.shortcut = nn.Conv2d(c, k, 1, stride) if c != k else None

    def forward(self, x):
        a = F.leaky_relu(self.bn1(x), SLOPE, inplace=True)
        r = a if self.activated else x
        if self.shortcut is not None:
            r = self.shortcut(r)
        return self.conv2(F.leaky_relu(self.bn2(self.conv1(a)), SLOPE, inplace=True)) + r


class Net(nn.Module):
    def __init__(self, name, channels, classes):
        super().__init__()
        scales, filters, repeats = PRESETS[name]
        self.stem = nn.Conv2d(channels, 16, 3, 1, 1)
        blocks, c = [], 16
        for s in range(scales):
            for r in range(repeats):
                blocks.append(Block(c, filters << s, 2 if s > 0 and r == 0 else 1, s == 0 and r == 0))
                c = filters << s
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(c, 1e-3, 1e-3)
        self.dense = nn.Linear(c, classes)

    def forward(self, x):
        x = F.leaky_relu(self.bn(self.blocks(self.stem(x))), SLOPE, inplace=True)
        return self.dense(F.adaptive_avg_pool2d(x, 1).flatten(1))


def layout(mode):
    return torch.channels_last if mode.startswith("nhwc") else torch.contiguous_format


def make_net(words):
    name, size, channels, classes, batch = words[0], *map(int, words[1:5])
    torch.manual_seed(1)
    return Net(name, channels, classes), torch.randn(batch, channels, size, size)


def make_train(mode, words):
    net, x = make_net(words)
    net = net.train().to(memory_format=layout(mode))
    x = x.to(memory_format=layout(mode))
    g = torch.randn(x.shape[0], int(words[3])) / x.shape[0]
    sgd = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=True)

    def call():
        sgd.zero_grad(set_to_none=True)
        net(x).backward(g)
        sgd.step()

    return call


def make_infer(mode, words):
    net, x = make_net(words)
    net = net.eval().to(memory_format=layout(mode))
    x = x.to(memory_format=layout(mode))
    if mode.endswith("-opt"):
        with torch.no_grad():
            net = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(net, x)))

    def call():
        with torch.inference_mode():
            net(x)

    return call


def make_layer(mode, words, backward):
    size, c, k, ksize, stride, batch = map(int, words[:6])
    torch.manual_seed(1)
    x = torch.randn(batch, c, size, size).to(memory_format=layout(mode))
    w = torch.randn(k, c, ksize, ksize).to(memory_format=layout(mode))
    b = torch.randn(k)
    pad = ksize // 2
    y = F.conv2d(x, w, b, stride, pad)

    def forward():
        with torch.inference_mode():
            F.conv2d(x, w, b, stride, pad)

    def back():
        torch.ops.aten.convolution_backward(y, x, w, [k], [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1,
                                            [True, True, True])

    return back if backward else forward


# ---- FixMatch on pairs, with the engine's augmentation (models/data/augment.h) in batched tensor operations


def d4(x, g):
    """Element g[i] of the square's symmetries for image i: each group of equal elements at once."""
    out = torch.empty_like(x)
    for e in range(8):
        i = (g == e).nonzero().flatten()
        if len(i):
            v = x[i]
            v = v.transpose(2, 3) if e & 4 else v
            dims = [d for d, bit in ((3, 1), (2, 2)) if e & bit]
            out[i] = v.flip(dims) if dims else v
    return out


def weak(px):
    """px: [n,8,s,s] bytes -> [n,7,s,s]; D4, reflected shift of up to 4 px, brightness within 5 % a date."""
    n, s = px.shape[0], px.shape[2]
    x = d4(px, torch.randint(8, (n,)))
    x = F.pad(x.float(), (4, 4, 4, 4), mode="reflect")
    at = torch.randint(9, (n, 2))
    rows = (at[:, :1] + torch.arange(s))[:, None, :, None]
    cols = (at[:, 1:] + torch.arange(s))[:, None, None, :]
    x = x[torch.arange(n)[:, None, None, None], torch.arange(8)[None, :, None, None], rows, cols]
    gain = (0.95 + 0.1 * torch.rand(n, 2)).repeat_interleave(3, 1)[:, :, None, None]
    bands = (x[:, :6] * gain / 127.5 - 1).clamp_(-1, 1)
    return torch.cat([bands, x[:, 7:] / 127.5 - 1], 1)


def photometry(v):
    """v: [n,3,s,s] in [0,1]: two of ten operations an image; each operation runs on the images that drew it."""
    n, s = v.shape[0], v.shape[2]
    uniform = lambda m, lo, hi: lo + (hi - lo) * torch.rand(m, 1, 1, 1)
    for _ in range(2):
        op = torch.randint(10, (n,))
        for o in range(1, 10):
            i = (op == o).nonzero().flatten()
            m = len(i)
            if m == 0:
                continue
            a = v[i]
            if o == 1:
                a = a * uniform(m, 0.7, 1.3)
            elif o == 2:
                a = a + uniform(m, -0.1, 0.1)
            elif o == 3:
                mean = a.mean((2, 3), keepdim=True)
                a = mean + uniform(m, 0.7, 1.3) * (a - mean)
            elif o == 4:
                a = a.clamp(0, 1) ** uniform(m, 0.7, 1.4)
            elif o == 5:
                a = a * (0.95 + 0.1 * torch.rand(m, 3, 1, 1))
            elif o == 6:
                veil = torch.rand(m, 1, 1, 1) + (torch.rand(m, 1, 1, 1) - 0.5) * torch.linspace(0, 1, s)
                a = a + (0.9 - a) * veil.clamp(0, 1) * uniform(m, 0.05, 0.3)
            elif o == 7:
                k = torch.exp(-0.5 * (torch.arange(-3, 4)[None] / uniform(m, 0.3, 1.0).view(m, 1)) ** 2)
                k = (k / k.sum(1, keepdim=True)).repeat_interleave(3, 0)
                a = F.pad(a, (3, 3, 3, 3), mode="replicate").reshape(1, m * 3, s + 6, s + 6)
                a = F.conv2d(F.conv2d(a, k[:, None, :, None], groups=3 * m), k[:, None, None, :], groups=3 * m)
                a = a.reshape(m, 3, s, s)
            elif o == 8:
                a = a + torch.randn_like(a) * uniform(m, 0.005, 0.03)
            elif o == 9:
                low = int(s / (1.1 + 0.4 * float(torch.rand(()))))
                a = F.interpolate(F.interpolate(a, size=low, mode="area"), size=s, mode="bilinear", align_corners=False)
            v[i] = a
    return v


def strong(px):
    """One bilinear resample a date (rotation, shear, zoom, shift, D4; jitter of post), photometry, cutout."""
    n, s = px.shape[0], px.shape[2]
    chance = lambda v, neutral: torch.where(torch.rand(n) < 0.5, v, torch.full((n,), neutral))
    span = lambda lo, hi: lo + (hi - lo) * torch.rand(n)
    r = chance(span(-30, 30), 0.0) * (3.14159265 / 180)
    kx, ky = chance(span(-0.15, 0.15), 0.0), chance(span(-0.15, 0.15), 0.0)
    z = 1 / chance(span(0.8, 1.2), 1.0)
    tx, ty = chance(span(-0.24, 0.24), 0.0), chance(span(-0.24, 0.24), 0.0)
    c, si = torch.cos(r), torch.sin(r)
    m = torch.stack([torch.stack([z * (c - si * ky), z * (c * kx - si), tx], 1),
                     torch.stack([z * (si + c * ky), z * (si * kx + c), ty], 1)], 1)
    jitter = (torch.randn(n, 2) * 2 / s).clamp(-6 / s, 6 / s)
    post = m.clone()
    post[:, :, 2] += jitter
    x = d4(px, torch.randint(8, (n,))).float()
    valid = torch.ones(n, 1, s, s)
    grids = [F.affine_grid(t, (n, 1, s, s), align_corners=False) for t in (m, post)]
    sample = lambda v, g, how="bilinear": F.grid_sample(v, g, how, "zeros", align_corners=False)
    dates = []
    box = torch.randint(s // 8, s // 4 + 1, (n, 1))
    at = (torch.rand(n, 2) * (s - box)).long()
    line = torch.arange(s)[None]
    inside = lambda k: (line >= at[:, k:k + 1]) & (line < at[:, k:k + 1] + box)
    hole = (inside(0)[:, :, None] & inside(1)[:, None, :])[:, None]
    for d in range(2):
        both = sample(torch.cat([x[:, 3 * d:3 * d + 3] / 255, valid], 1), grids[d])
        covered = (both[:, 3:] >= 0.5).float()
        v = photometry(both[:, :3] / both[:, 3:].clamp(min=0.5) * covered)
        v = torch.where(hole, v.mean((2, 3), keepdim=True), v)
        dates.append((2 * v - 1).clamp_(-1, 1) * covered)
    fp = sample(x[:, 7:], grids[0], "nearest") / 127.5 - 1
    return torch.cat(dates + [fp], 1)


def make_fixmatch(mode, words):
    name, batch, mu = words[0], int(words[1]), int(words[2])
    torch.manual_seed(1)
    px = torch.randint(256, (512, 8, 64, 64), dtype=torch.uint8)
    px[:, 7] = 0
    px[:, 7, 21:44, 21:44] = 255
    label = torch.arange(512) % 2
    net = Net(name, 7, 2).train().to(memory_format=layout(mode))
    params = list(net.parameters())
    ema = [p.detach().clone() for p in params]
    sgd = torch.optim.SGD(params, lr=0.03, momentum=0.9, nesterov=True, weight_decay=5e-4, foreach=True)

    def call():
        i, u = torch.randint(512, (batch,)), torch.randint(512, (batch * mu,))
        with torch.no_grad():
            x = torch.cat([weak(px[i]), weak(px[u]), strong(px[u])]).contiguous(memory_format=layout(mode))
        sgd.zero_grad(set_to_none=True)
        z = net(x)
        zx, zw, zs = z[:batch], z[batch:batch + batch * mu], z[batch + batch * mu:]
        with torch.no_grad():
            p, h = zw.softmax(1).max(1)
        loss = F.cross_entropy(zx, label[i]) + (F.cross_entropy(zs, h, reduction="none") * (p >= 0.95)).mean()
        loss.backward()
        sgd.step()
        with torch.no_grad():
            torch._foreach_mul_(ema, 0.999)
            torch._foreach_add_(ema, params, alpha=0.001)

    return call


def make(kind, mode, words):
    if kind == "train":
        return make_train(mode, words)
    if kind in ("infer", "int8"):
        return make_infer(mode, words)
    if kind in ("forward", "backward"):
        return make_layer(mode, words, kind == "backward")
    if kind == "fixmatch":
        return make_fixmatch(mode, words)
    raise ValueError(f"no such work: {kind}")


def main():
    threads = int(sys.argv[1])
    torch.set_num_threads(threads)
    works = {}
    for line in sys.stdin:
        words = line.split()
        if words[0] == "about":
            answer = {"version": torch.__version__, "threads": torch.get_num_threads(),
                      "capability": [l.split(":")[1].strip() for l in torch.__config__.show().splitlines()
                                     if "CPU capability" in l][0]}
        elif words[0] == "facts":
            net, _ = make_net(words[2:])
            answer = {"parameters": sum(p.numel() for p in net.parameters())}
        else:
            kind, mode, seconds, calls = words[1], words[2], float(words[-2]), int(words[-1])
            key = " ".join(words[1:-2])
            if key not in works:
                works[key] = make(kind, mode, words[3:-2])
                works[key]()
                works[key]()
            call, s, start = works[key], [], time.perf_counter()
            while len(s) < calls or time.perf_counter() - start < seconds:
                before = time.perf_counter()
                call()
                s.append(time.perf_counter() - before)
            answer = {"s": s}
        print(json.dumps(answer), flush=True)


main()
