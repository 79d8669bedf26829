"""Files of pictures for tests, some made by hand."""

from __future__ import annotations

import io
import struct
import zlib

import PIL.Image

from tokenry.data import picture

PHOTO = picture("chelsea").pixels[100:140, 100:160].clone()
EXACT = {"PNG": {}, "BMP": {}, "PPM": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG2000": {}}


def pillow(pixels=PHOTO):
    return PIL.Image.fromarray(pixels.numpy())


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(x, y, rows=b"", bits=8, colour=2):
    """A PNG made by hand: colour 0 is grey, 2 is RGB, 6 is RGBA."""
    header = struct.pack(">IIBBBBB", x, y, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(x, y, rows, bits, *, white_is_zero=False, pages=1):
    """A grey TIFF made by hand."""
    out = bytearray(b"II*\0") + struct.pack("<I", 8 + len(rows)) + rows
    tags = ((256, x), (257, y), (258, bits), (262, int(not white_is_zero)), (273, 8), (277, 1), (278, y))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in (*tags, (279, len(rows))))
    for page in range(pages):
        after = len(out) + 2 + len(entries) + 4
        out += struct.pack("<H", 8) + entries + struct.pack("<I", after if page + 1 < pages else 0)
    return bytes(out)
