#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# make_pillow_golden.py - writes pillow_ops.bin.gz: what Pillow answers for each of the 14 RandAugment operations, in the
# way FixMatch calls it (RGBA images; operations without alpha run on an RGB copy). Run it by hand with Debian's python3-pil
# (made with Pillow 9.4.0); the tests only read the file.
#
#   make_pillow_golden.py pillow_ops.bin.gz
#
# Layout after gunzip: bytes side, then records until the end. A record is
#   bands (1 or 3), number of steps; per step: name length, name, level, sign (0 minus, 1 plus);
#   input index; side*side*(bands+1) bytes of output, interleaved, alpha last.
# Before the records stand the inputs, in this order: RGB input 0, RGB input 1, grey input 2 (side*side*bands bytes each).
import gzip
import sys

from PIL import Image, ImageEnhance, ImageOps

SIDE = 32


def inputs():
    """A soft scene with structure and a low-contrast one; small integers from a linear congruential generator as grain."""
    state = 12345

    def grain(n):
        nonlocal state
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        return (state >> 16) % n

    rgb0, rgb1, grey = bytearray(), bytearray(), bytearray()
    for y in range(SIDE):
        for x in range(SIDE):
            roof = 90 if 8 <= x < 20 and 10 <= y < 24 else 0
            for c in range(3):
                rgb0.append(max(0, min(255, 20 + 5 * x + 2 * y * c + roof - 30 * c + grain(9))))
                rgb1.append(80 + (x * y >> 4) // (c + 1) % 60 + grain(3) + 10 * c)
            grey.append(max(0, min(255, 40 + 6 * x - 3 * y + roof + grain(5))))
    return bytes(rgb0), bytes(rgb1), bytes(grey)


def opaque(im):
    return im.convert("L" if im.mode == "LA" else "RGB")


def apply(im, name, level, positive):
    sign = 1 if positive else -1
    size = im.size
    back = im.mode

    def enhance(kind):
        return kind(im).enhance(float(level) * 1.8 / 10 + 0.1)

    def affine(data):
        return im.transform(size, Image.AFFINE, data)

    shear = sign * (float(level) * 0.3 / 10)
    if name == "identity":
        return im
    if name == "autocontrast":
        return ImageOps.autocontrast(opaque(im)).convert(back)
    if name == "equalize":
        return ImageOps.equalize(opaque(im)).convert(back)
    if name == "posterize":
        return ImageOps.posterize(opaque(im), 4 - int(level * 4 / 10)).convert(back)
    if name == "solarize":
        return ImageOps.solarize(opaque(im), 256 - int(level * 256 / 10)).convert(back)
    if name == "rotate":
        return im.rotate(sign * int(level * 30 / 10))
    if name == "shear_x":
        return affine((1, shear, 0, 0, 1, 0))
    if name == "shear_y":
        return affine((1, 0, 0, shear, 1, 0))
    if name == "translate_x":
        return affine((1, 0, sign * level, 0, 1, 0))
    if name == "translate_y":
        return affine((1, 0, 0, 0, 1, sign * level))
    return enhance({"brightness": ImageEnhance.Brightness, "color": ImageEnhance.Color,
                    "contrast": ImageEnhance.Contrast, "sharpness": ImageEnhance.Sharpness}[name])


PLAIN = ["identity", "autocontrast", "equalize"]
LEVELLED = ["posterize", "solarize", "brightness", "color", "contrast", "sharpness"]
SIGNED = ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"]


def cases():
    for source in (0, 1):
        for name in PLAIN:
            yield source, [(name, 1, 1)]
    for name in LEVELLED:
        for level in range(1, 10):
            yield level % 2, [(name, level, 1)]
    for name in SIGNED:
        for level in range(1, 10):
            yield level % 2, [(name, level, level // 2 % 2)]
        yield 0, [(name, 9, 0)]
    # Chains: what becomes of uncovered pixels.
    yield 0, [("rotate", 9, 1), ("autocontrast", 1, 1)]
    yield 0, [("translate_x", 9, 0), ("solarize", 9, 1)]
    yield 0, [("shear_y", 9, 1), ("contrast", 2, 1)]
    yield 0, [("rotate", 7, 0), ("shear_x", 8, 1)]
    yield 1, [("translate_y", 6, 1), ("sharpness", 9, 1)]
    yield 1, [("shear_x", 6, 1), ("equalize", 1, 1)]
    for name in PLAIN + LEVELLED + SIGNED:
        yield 2, [(name, 8, 1)]


def main(path):
    sources = inputs()
    out = bytearray([SIDE])
    for pixels in sources:
        out += pixels
    for source, steps in cases():
        bands = 1 if source == 2 else 3
        im = Image.frombytes("L" if bands == 1 else "RGB", (SIDE, SIDE), sources[source])
        im = im.convert("LA" if bands == 1 else "RGBA")
        out += bytes([bands, len(steps)])
        for name, level, sign in steps:
            im = apply(im, name, level, sign)
            out += bytes([len(name)]) + name.encode() + bytes([level, sign])
        out += bytes([source]) + im.tobytes()
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as f:
        f.write(bytes(out))


if __name__ == "__main__":
    main(sys.argv[1])
