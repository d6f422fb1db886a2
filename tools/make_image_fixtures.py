#!/usr/bin/env python3
"""Small image files of every kind we read, and what Pillow makes of them.

  python tools/make_image_fixtures.py --out tests/fixtures/images

Writes <name>.<ext>, <name>.rgb (the expected pixels, raw RGB bytes) and index.json. The expectation
is ImageOps.exif_transpose(Image.open(file)).convert("RGB"), save for 16-bit greyscale, where we
keep the high byte and Pillow clips. Needs Pillow and NumPy.
"""
import argparse
import io
import json
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageOps

W, H = 45, 29


def picture():
    y, x = np.mgrid[0:H, 0:W].astype(np.float32)
    a = np.stack([40 + 180 * x / W, 60 + 150 * y / H, 200 - 120 * x / W], -1)
    image = Image.fromarray(a.round().astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.polygon([(12, 4), (21, 13), (12, 22), (3, 13)], fill=(255, 140, 0), outline=(0, 0, 0))
    draw.rectangle([30, 3, 40, 9], fill=(250, 250, 250))
    draw.rectangle([28, 15, 42, 26], fill=(20, 30, 120))
    return image


def png(color, depth, rows, interlaced=False, extra=b""):
    """A PNG written by hand, for the kinds that Pillow cannot write. `rows(x0, dx, y0, dy)` packs a pass."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    passes = [(0, 1, 0, 1)]
    if interlaced:
        passes = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
    data = b"".join(b"\0" + row for p in passes for row in rows(*p))
    head = struct.pack(">IIBBBBB", W, H, depth, color, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


class Writer:
    def __init__(self, out):
        self.out, self.index = out, []

    def add(self, name, data, tolerance=0, expected=None):
        if expected is None:
            expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        with open(os.path.join(self.out, name), "wb") as f:
            f.write(data)
        with open(os.path.join(self.out, name + ".rgb"), "wb") as f:
            f.write(expected.tobytes())
        self.index.append({"file": name, "width": expected.width, "height": expected.height, "tolerance": tolerance})

    def save(self, name, image, tolerance=0, **options):
        buffer = io.BytesIO()
        image.save(buffer, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rsplit(".", 1)[1]], **options)
        self.add(name, buffer.getvalue(), tolerance)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def jpegs(w, image):
    for sampling, kind in ((0, "444"), (1, "422"), (2, "420")):
        # Decoders differ in how they spread subsampled colour over a hard edge.
        w.save(f"baseline_{kind}.jpg", image, 3 if sampling else 2, quality=90, subsampling=sampling)
    w.save("progressive_420.jpg", image, 3, quality=90, progressive=True)
    w.save("progressive_444.jpg", image, 2, quality=90, subsampling=0, progressive=True)
    w.save("restart.jpg", image, 3, quality=80, restart_marker_blocks=2, optimize=True)
    w.save("grey.jpg", image.convert("L"), 1, quality=90)
    w.save("grey_progressive.jpg", image.convert("L"), 1, quality=90, progressive=True)
    w.save("rgb.jpg", image, 2, quality=90, keep_rgb=True)
    w.save("cmyk.jpg", image.convert("CMYK"), 2, quality=95)
    # The same samples declared as YCCK (Adobe transform 2): other colours, but a valid file.
    with open(os.path.join(w.out, "cmyk.jpg"), "rb") as f:
        data = bytearray(f.read())
    data[data.index(b"Adobe") + 11] = 2
    w.add("ycck.jpg", bytes(data), 3)
    for orientation in range(1, 9):
        w.save(f"orientation_{orientation}.jpg", image, 2, quality=90, subsampling=0, exif=exif(orientation))
    tiny = image.resize((1, 1))
    w.save("one_pixel.jpg", tiny, 2, quality=90)


def pngs(w, image):
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(image.size))
    w.save("rgb.png", image)
    w.save("rgba.png", rgba)
    w.save("grey.png", image.convert("L"))
    w.save("grey_alpha.png", rgba.convert("LA"))
    w.save("one_bit.png", image.convert("1"))
    palette = image.quantize(32)
    w.save("palette.png", palette)
    w.save("palette_4bit.png", image.quantize(13), bits=4)
    w.save("palette_alpha.png", palette, transparency=bytes(range(0, 256, 8)))
    w.save("rgb_key.png", image, transparency=image.getpixel((12, 12)))
    w.save("orientation_6.png", image, exif=exif(6))
    a = np.array(image).astype(np.uint16)
    deep = a * 256 + (a * 7 + 13) % 256

    def packed(values):
        return lambda x0, dx, y0, dy: [r.tobytes() for r in values[y0::dy, x0::dx] if values[y0::dy, x0::dx].size]
    grey = deep[:, :, 1]
    w.add("rgb16.png", png(2, 16, packed(deep.astype(">u2"))), expected=image)
    w.add("grey16.png", png(0, 16, packed(grey.astype(">u2"))), expected=Image.fromarray(a[:, :, 1].astype(np.uint8)).convert("RGB"))
    alpha = np.concatenate([deep, grey[:, :, None]], -1)
    w.add("rgba16.png", png(6, 16, packed(alpha.astype(">u2"))), expected=image)
    w.add("interlaced.png", png(2, 8, packed(a.astype(np.uint8)), interlaced=True), expected=image)
    w.add("interlaced_rgba16.png", png(6, 16, packed(alpha.astype(">u2")), interlaced=True), expected=image)


def webps(w, image):
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(image.size))
    w.save("lossy.webp", image, 2, quality=85)
    w.save("lossy_alpha.webp", rgba, 2, quality=85, exact=True)
    w.save("lossless.webp", image, lossless=True)
    w.save("lossless_alpha.webp", rgba, lossless=True, exact=True)
    w.save("orientation_8.webp", image, lossless=True, exif=exif(8))
    other = ImageOps.invert(image)
    w.save("animated_lossless.webp", image, save_all=True, append_images=[other], lossless=True, duration=100)
    w.save("animated_lossy.webp", image, 2, save_all=True, append_images=[other], quality=85, duration=100)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    out = parser.parse_args().out
    os.makedirs(out, exist_ok=True)
    w, image = Writer(out), picture()
    jpegs(w, image)
    pngs(w, image)
    webps(w, image)
    with open(os.path.join(out, "index.json"), "w") as f:
        json.dump(w.index, f, indent=1)
        f.write("\n")


if __name__ == "__main__":
    main()
