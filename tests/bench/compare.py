# SPDX-License-Identifier: Apache-2.0
"""Takes turns between the engine (bench_compare) and PyTorch (peer_torch.py): the same networks, batch sizes and
threads, in one run, several rounds; in each round every work is timed on both sides within seconds of each other, so
that a neighbour on the machine disturbs both. PyTorch runs as fast as it is known to: tuned allocator, each memory
layout, for inference also torch.jit's optimisations; its best mode (by median) is the peer.

A row's ratio is the median over the rounds of peer time / our time; low and high are the extreme rounds. Rows:
training steps, inference in fp32 and in 8 bits (against PyTorch's best fp32), a FixMatch step with augmentation, and
with --layers single convolutions, where PyTorch runs oneDNN's. "arena" rows compare memory and give no ratio."""
import argparse
import json
import os
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MALLOC = ("glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=99999999999:"
          "glibc.malloc.top_pad=67108864")
EAGER, ALL = ["nchw", "nhwc"], ["nchw", "nhwc", "nchw-opt", "nhwc-opt"]


class Side:
    """A program that answers one line of JSON for each line it is sent."""

    def __init__(self, command, env):
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.command = command

    def ask(self, *words):
        self.p.stdin.write(" ".join(map(str, words)) + "\n")
        self.p.stdin.flush()
        line = self.p.stdout.readline()
        answer = json.loads(line) if line else {"error": "the program ended"}
        if "error" in answer:
            sys.exit(f"compare: {self.command[-1]}: {' '.join(map(str, words))}: {answer['error']}")
        return answer

    def close(self):
        self.p.stdin.close()
        self.p.wait()


def rows(args):
    """(name, our work, PyTorch's kind of work, its modes)"""
    out = []
    for net, size, channels, classes, batch in (("wrn-28-2", 32, 3, 10, 64), ("wrn-10-2", 64, 6, 4, 32)):
        spec = f"{net} {size} {channels} {classes}"
        out.append((f"train {net} b{batch}", f"train {spec} {batch}", EAGER))
        for b in (32, 256):
            out.append((f"infer {net} b{b}", f"infer {spec} {b}", ALL))
            out.append((f"int8 {net} b{b}", f"int8 {spec} {b}", ALL))
    out.append(("fixmatch lite B16 mu3", "fixmatch lite 16 3", EAGER))
    if args.layers:
        for h, c, k, ksize, stride, batch in (
            (32, 16, 32, 3, 1, 64), (32, 32, 32, 3, 1, 64), (32, 32, 64, 3, 2, 64), (32, 32, 64, 1, 2, 64),
            (16, 64, 64, 3, 1, 64), (16, 64, 128, 3, 2, 64), (8, 128, 128, 3, 1, 64), (64, 32, 32, 3, 1, 32),
            (64, 16, 16, 3, 1, 32)):
            for way in ("forward", "backward"):
                out.append((f"{way} {ksize}x{ksize}/{stride} {c}->{k} @{h} b{batch}",
                            f"{way} {h} {c} {k} {ksize} {stride} {batch}", EAGER))
    return [r for r in out if not args.only or any(word in r[0] for word in args.only)]


def measure(ours, peer, work, modes, seconds, known):
    """One round of one row: medians in seconds. PyTorch's inference serves the fp32 and the 8-bit row."""
    kind, _, rest = work.partition(" ")
    if kind == "fixmatch":
        mine = ours.ask("times", work, 0, 12 if seconds >= 0.5 else 6)["s"]
    else:
        mine = ours.ask("times", work, seconds, 3)["s"]
    theirs = {}
    for mode in modes:
        key = (("infer" if kind == "int8" else kind), mode, rest)
        if key not in known:
            known[key] = statistics.median(peer.ask("times", key[0], mode, rest, seconds, 3)["s"])
        theirs[mode] = known[key]
    return statistics.median(mine), theirs


def show(row, as_json):
    if as_json:
        print(json.dumps(row), flush=True)
    elif "ratio" in row:
        print(f"{row['work']:34s} {1e3 * row['ours']:9.2f} ms {1e3 * row['peer']:9.2f} ms {row['mode']:9s}"
              f" {row['ratio']:6.2f}x  ({row['low']:.2f}-{row['high']:.2f})", flush=True)
    else:
        print(f"{row['work']:34s} {row['ours']:9.2f} {row['unit']}", flush=True)


def main():
    p = argparse.ArgumentParser(description="The engine against PyTorch, alternately in one run.")
    p.add_argument("--program", required=True, help="bench_compare of the build")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=0.5, help="for each work, mode and round")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--avx2", action="store_true", help="hold both programs to AVX2")
    p.add_argument("--layers", action="store_true", help="single convolutions too")
    p.add_argument("--json", action="store_true", help="one line of JSON a row")
    p.add_argument("only", nargs="*", help="rows whose name holds one of these words")
    args = p.parse_args()

    env = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
    mine, theirs = dict(env), dict(env, GLIBC_TUNABLES=MALLOC)
    if args.avx2:
        mine["AFTERMAP_KERNELS"] = "avx2"
        theirs.update(ATEN_CPU_CAPABILITY="avx2", ONEDNN_MAX_CPU_ISA="AVX2")
    else:
        theirs.setdefault("ATEN_CPU_CAPABILITY", "avx512")
    ours = Side([args.program], mine)
    peer = Side(["/usr/bin/python3", os.path.join(HERE, "peer_torch.py"), str(args.threads)], theirs)
    if not args.json:
        print("ours:", ours.ask("about"))
        print("peer: PyTorch", peer.ask("about"))
        print(f"{'work':34s} {'ours':>12s} {'peer':>12s} {'its mode':9s} {'ratio':>7s}  (low-high of {args.rounds} rounds)")
    chosen = rows(args)
    for name, work, _ in chosen:
        kind, _, rest = work.partition(" ")
        if kind == "train":
            a, b = ours.ask("facts", work)["parameters"], peer.ask("facts", kind, rest)["parameters"]
            if a != b:
                sys.exit(f"compare: {name}: {a:.0f} parameters here, {b} there: not the same network")
    record = {name: [] for name, _, _ in chosen}
    for _ in range(args.rounds):
        known = {}
        for name, work, modes in chosen:
            record[name].append(measure(ours, peer, work, modes, args.seconds, known))
    for name, work, modes in chosen:
        rounds = record[name]
        mode = min(modes, key=lambda m: statistics.median(r[1][m] for r in rounds))
        ratios = [r[1][mode] / r[0] for r in rounds]
        show({"work": name, "ours": statistics.median(r[0] for r in rounds),
              "peer": statistics.median(r[1][mode] for r in rounds), "unit": "s", "mode": mode,
              "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "rounds": len(ratios)},
             args.json)
        if work.startswith("train"):
            show({"work": f"arena {name}", "ours": ours.ask("facts", work)["mib_per_image"], "unit": "MiB an image"},
                 args.json)
    ours.close()
    peer.close()


main()
