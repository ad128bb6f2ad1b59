#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
#
# make_pillow_golden.py - writes what Pillow answers for the published augmentations. Run it by hand with Debian's
# python3-pil (made with Pillow 9.4.0); the tests only read the files.
#
#   make_pillow_golden.py pillow_ops.bin.gz     the 14 RandAugment operations in the way FixMatch calls them (RGBA images;
#                                               operations without alpha run on an RGB copy)
#   make_pillow_golden.py pillow_cta.bin.gz     CTAugment's 19 less cutout, which is no operation of Pillow's, on RGB and
#                                               grey images
#
# Layout after gunzip: bytes side, then records until the end. A record is
#   bands (1 or 3), number of steps; per step: name length, name, level, sign (0 minus, 1 plus);
#   input index; side*side*(bands+1) bytes of output, interleaved, alpha last.
# In pillow_cta a step is name length, name, two magnitudes (little-endian doubles), and the output has no alpha.
# Before the records stand the inputs, in this order: RGB input 0, RGB input 1, grey input 2 (side*side*bands bytes each).
import gzip
import math
import os
import struct
import sys

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

OPS_SIDE, CTA_SIDE = 32, 20


def inputs(side):
    """A soft scene with structure and a low-contrast one; small integers from a linear congruential generator as grain."""
    state = 12345

    def grain(n):
        nonlocal state
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        return (state >> 16) % n

    rgb0, rgb1, grey = bytearray(), bytearray(), bytearray()
    for y in range(side):
        for x in range(side):
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


def cta_apply(im, name, v, w):
    """CTAugment's argument maps; translations by up to 0.3 of the side, as the paper has them."""
    size = im.size
    way = 2 * v - 1

    def affine(data):
        return im.transform(size, Image.AFFINE, data)

    if name == "identity":
        return im
    if name in ("autocontrast", "equalize", "invert"):
        return Image.blend(im, getattr(ImageOps, name)(im), v)
    if name in ("blur", "smooth"):
        return Image.blend(im, im.filter(ImageFilter.BLUR if name == "blur" else ImageFilter.SMOOTH), v)
    if name == "posterize":
        return ImageOps.posterize(im, 1 + int(v * 7.999))
    if name == "solarize":
        return ImageOps.solarize(im, int(v * 255.999))
    if name == "rotate":
        return im.rotate(round(way * 45))
    if name == "shear_x":
        return affine((1, way * 0.3, 0, 0, 1, 0))
    if name == "shear_y":
        return affine((1, 0, 0, way * 0.3, 1, 0))
    if name == "translate_x":
        return affine((1, 0, way * 0.3 * size[0], 0, 1, 0))
    if name == "translate_y":
        return affine((1, 0, 0, 0, 1, way * 0.3 * size[1]))
    if name == "rescale":
        s = v * 0.25
        methods = (Image.LANCZOS, Image.BICUBIC, Image.BILINEAR, Image.BOX, Image.HAMMING, Image.NEAREST)
        box = (s * size[0], s * size[1], size[0] * (1 - s), size[1] * (1 - s))
        return im.crop(box).resize(size, methods[int(w * 5.99)])
    return {"brightness": ImageEnhance.Brightness, "color": ImageEnhance.Color, "contrast": ImageEnhance.Contrast,
            "sharpness": ImageEnhance.Sharpness}[name](im).enhance(0.1 + 1.9 * v)


CTA = ["autocontrast", "blur", "brightness", "color", "contrast", "equalize", "invert", "identity", "posterize", "rescale",
       "rotate", "sharpness", "shear_x", "shear_y", "smooth", "solarize", "translate_x", "translate_y"]


def cta_cases():
    for k, name in enumerate(CTA):
        for i in range(8 if name == "posterize" else 1 if name == "identity" else 17):
            v = (i + (0.07, 0.5, 0.93)[(i + k) % 3]) / (8 if name == "posterize" else 17)
            yield (i + k) % 3, [(name, v, i % 6 / 6 + 0.01)]
        for v in (0.0, math.nextafter(1.0, 0.0)) if name != "identity" else ():
            yield 0, [(name, v, v)]
    for v in (0.2, 0.55, 0.9):  # every filter on every kind of input
        for method in range(6):
            for source in (0, 1, 2):
                yield source, [("rescale", v, (method + 0.5) / 6)]
    for v in range(0, 91):  # every whole angle
        if v % 3 == 0:
            yield v // 3 % 3, [("rotate", v / 90, 0.0)]
    yield 0, [("rotate", 0.9, 0.0), ("autocontrast", 0.7, 0.0)]
    yield 1, [("shear_x", 0.1, 0.0), ("equalize", 1.0, 0.0)]
    yield 2, [("translate_y", 0.95, 0.0), ("blur", 0.8, 0.0)]
    yield 0, [("rescale", 0.5, 0.2), ("sharpness", 0.99, 0.0)]


def cta_records(sources):
    out = bytearray()
    for source, steps in cta_cases():
        bands = 1 if source == 2 else 3
        im = Image.frombytes("L" if bands == 1 else "RGB", (CTA_SIDE, CTA_SIDE), sources[source])
        out += bytes([bands, len(steps)])
        for name, v, w in steps:
            im = cta_apply(im, name, v, w)
            out += bytes([len(name)]) + name.encode() + struct.pack("<dd", v, w)
        out += bytes([source]) + im.tobytes()
    return out


def main(path):
    is_cta = os.path.basename(path).startswith("pillow_cta")
    side = CTA_SIDE if is_cta else OPS_SIDE
    sources = inputs(side)
    out = bytearray([side])
    for pixels in sources:
        out += pixels
    out += (cta_records if is_cta else ops_records)(sources)
    with open(path, "wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as f:
        f.write(bytes(out))


def ops_records(sources):
    out = bytearray()
    for source, steps in cases():
        bands = 1 if source == 2 else 3
        im = Image.frombytes("L" if bands == 1 else "RGB", (OPS_SIDE, OPS_SIDE), sources[source])
        im = im.convert("LA" if bands == 1 else "RGBA")
        out += bytes([bands, len(steps)])
        for name, level, sign in steps:
            im = apply(im, name, level, sign)
            out += bytes([len(name)]) + name.encode() + bytes([level, sign])
        out += bytes([source]) + im.tobytes()
    return out


if __name__ == "__main__":
    main(sys.argv[1])
