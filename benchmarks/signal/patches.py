"""Patches: what a linear map of them says about digits, and what codes of real features keep of photographs.

Both stand beside chance: a map that is drawn and never learnt, and codes that are drawn without a look at the picture.
"""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.autoencoder import FOLDERS, HELD_OUT, PHOTOGRAPHS
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, fixed, percent, show
from tokenry.core.sequence import TokenSequence
from tokenry.data.image import Image, read_image
from tokenry.models.signals.encoders import load_vision
from tokenry.quantize.vq import VQ
from tokenry.signal.parts.patch_codes import Codes
from tokenry.signal.parts.patch_vectors import Projection
from tokenry.signal.parts.position import NoPosition
from tokenry.signal.patches import Patches
from tokenry.signal.pictures.patch_grid import GREY, cut
from tokenry.signal.pictures.tiles import thumbnail

TITLE = "Patches of pictures"
SUBJECTS = ("signal/patches",)
ABOUT = (
    "Digits: 8 x 8 pixels in four patches, a linear classifier on their four vectors, five splits into halves; the "
    "random projection is drawn and stays, so that only the classifier learns. Photographs: tables are learnt "
    "either from the left halves of thirteen photographs and tried on the right ones, or from ten photographs and "
    "tried on three others. A code shows the mean pixels of the patches that had it, so what comes back looks like "
    "the pictures of the fit, and ten are few. `random codes` are drawn and shown by the same table; `codes of the "
    "pixels` are of a table over the pixels of the same patches. `stays` is the share of codes that are the same "
    "when every pixel is darkened to 60 %. Seconds are of processor time."
)

SIZE, DIGIT = 4, 8
WIDTHS, SPLITS, STEPS, RATE = (1, 2, 4, 8, 16, 48), 5, 400, 0.01
LEARNED, DRAWN = "learned projection", "random projection"
FEATURES, PIXELS, CHANCE = "codes of DINOv2 features", "codes of the pixels", "random codes"
CODES = (64, 256, 512)
HALVES, OTHERS = "the other halves", "other photographs"
DARKER = 0.6
SIDE = 448
"""The longer side of a photograph, in pixels."""


def main() -> None:
    """Measure everything; it takes about three minutes."""
    torch.set_num_threads(1)
    settings = {
        "widths": WIDTHS, "splits": SPLITS, "steps": STEPS, "rate": RATE, "photographs": PHOTOGRAPHS,
        "held_out": HELD_OUT, "side": SIDE, "codes": CODES, "darker": DARKER,
    }  # fmt: skip
    dtype = f"float32, DINOv2 in {str(load_vision('dinov2').model.dtype).removeprefix('torch.')}"
    record = Record("signal/patches", dtype=dtype, settings=settings, save=True)
    for width in track(WIDTHS, "digits"):
        for arm in (LEARNED, DRAWN):
            if record.find(arm=arm, width=width) is None:
                record.add(digits(arm, width))
    for tried, codes in track([(tried, codes) for tried in (HALVES, OTHERS) for codes in CODES], "photographs"):
        if record.find(arm=FEATURES, codes=codes, tried=tried) is None:
            record.add(*photographs(tried, codes))
    if record.find(arm="pixels") is None:
        record.add(*anchors())
    show(record.finish(claims(record)), tables)


def digits(arm: str, width: int) -> Row:
    """Accuracy of a linear classifier on the four vectors of a digit, over several splits into halves."""
    pixels, labels = _digits()
    found = []
    start = time.process_time()
    for split in range(SPLITS):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(split))
        training, held_out = order.chunk(2)
        generator = torch.Generator().manual_seed(split)
        content = Projection(width=width, position=NoPosition())
        method = Patches(size=SIZE, content=content).build(generator=generator)
        method.requires_grad_(arm == LEARNED)
        head = nn.Linear(4 * width, 10)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        learnt = [p for p in (*method.parameters(), *head.parameters()) if p.requires_grad]
        optimizer = torch.optim.Adam(learnt, lr=RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            cross_entropy(head(_vectors(method, pixels[training])), labels[training]).backward()
            optimizer.step()
        with torch.no_grad():
            said = head(_vectors(method, pixels[held_out])).argmax(1)
        found.append(float((said == labels[held_out]).float().mean()))
    seconds = time.process_time() - start
    return {"part": "digits", "arm": arm, "width": width, "accuracy": mean(found), "lowest": min(found),
            "highest": max(found), "tokens": 4, "seconds": seconds}  # fmt: skip


def photographs(tried: str, codes: int) -> list[Row]:
    """What codes keep of pictures that they were not learnt from."""
    training, held_out = _halves() if tried == HALVES else (_photographs(PHOTOGRAPHS), _photographs(HELD_OUT))
    start = time.process_time()
    method = Patches(size=14, content=Codes(quantizer=VQ(codes=codes))).fit(training)
    rows = [{"arm": FEATURES, "fit_s": time.process_time() - start}]
    start = time.process_time()
    sequences = [method.encode(image) for image in held_out]
    found = [tokens.ids for tokens in sequences]
    rows[0] |= {"encode_s": time.process_time() - start, "stays": _stay(found, [
        method.encode(_darkened(image)).ids for image in held_out
    ])}  # fmt: skip
    rows[0] |= _kept(method, held_out, sequences, found)
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(codes, ids.shape, generator=generator) for ids in found]
    rows.append({"arm": CHANCE} | _kept(method, held_out, sequences, drawn))
    start = time.process_time()
    table = VQ(codes=codes).fit(torch.cat([_flat(image) for image in training]))
    rows.append({"arm": PIXELS, "fit_s": time.process_time() - start})
    # The same tokens with other pictures behind them.
    method.content.shows.copy_(table.table.view(-1, 14, 14, 3) - GREY)
    start = time.process_time()
    found = [_nearest(table, image) for image in held_out]
    rows[2] |= {"encode_s": time.process_time() - start, "stays": _stay(found, [
        _nearest(table, _darkened(image)) for image in held_out
    ])}  # fmt: skip
    rows[2] |= _kept(method, held_out, sequences, found)
    tokens = sum(map(len, found))
    common = {
        "part": "photographs",
        "tried": tried,
        "codes": codes,
        "tokens": tokens,
        "bits": tokens * math.log2(codes),
    }
    return [common | row for row in rows]


def _kept(method: Patches, pictures: list[Image], sequences: list[TokenSequence], found: list[Tensor]) -> Row:
    """What pictures are left when their tokens have these ids."""
    made = [method.decode(replace(tokens, ids=ids)) for tokens, ids in zip(sequences, found, strict=True)]
    ids = torch.cat(found)
    return {
        "psnr": psnr(pictures, made), "coded_bits": _entropy(ids) * len(ids),
        "usage": len(ids.unique()) / method.vocab_size,
    }  # fmt: skip


def _stay(found: list[Tensor], again: list[Tensor]) -> float:
    return float((torch.cat(found) == torch.cat(again)).float().mean())


def anchors() -> list[Row]:
    """What loses nothing: bytes, and vectors that are wide enough."""
    held_out, rows = _photographs(HELD_OUT), []
    for name, method in (("pixels", Patches()), ("projection", Patches(content=Projection(width=768)).build())):
        with torch.no_grad():
            start = time.process_time()
            sequences = [method.encode(image) for image in held_out]
            encoded = time.process_time() - start
        exact = all(torch.equal(method.decode(t).pixels, i.pixels) for t, i in zip(sequences, held_out, strict=True))
        tokens = sum(map(len, sequences))
        bits = 8 * tokens if method.vocab_size else 32 * 768 * tokens
        rows.append(
            {"part": "anchors", "arm": name, "exact": exact, "tokens": tokens, "bits": bits, "encode_s": encoded}
        )
    return rows


def claims(record: Record) -> list[Row]:
    """What was to be shown."""

    def found(arm: str, **key: Any) -> Row:
        row = record.find(arm=arm, **key)
        assert row is not None
        return row

    def gain(what: str, tried: str, below: str) -> float:
        """The least of all sizes."""
        return min(
            found(FEATURES, tried=tried, codes=c)[what] - found(below, tried=tried, codes=c)[what] for c in CODES
        )

    best = found(LEARNED, width=16)["accuracy"]
    edge = min(found(LEARNED, width=w)["accuracy"] - found(DRAWN, width=w)["accuracy"] for w in (1, 2, 4))
    exact = all(found(arm)["exact"] for arm in ("pixels", "projection"))
    return [
        claim("a linear probe on 4 x 4 patches tells digits apart, share right at width 16", best, at_least=0.95),
        claim("share right above a random projection of the same width, the least of 1, 2 and 4", edge, at_least=0.05),
        claim("of the other halves, PSNR of codes of features above random codes in dB, the least of all sizes",
              gain("psnr", HALVES, CHANCE), at_least=3),
        claim("of other photographs, the same", gain("psnr", OTHERS, CHANCE), at_least=1),
        claim("of the other halves, share of codes that stay in the dark, of features above of pixels, the least",
              gain("stays", HALVES, PIXELS), at_least=0.2),
        claim("`pixels` and `projection` give every photograph back, byte for byte", float(exact), at_least=1),
    ]  # fmt: skip


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    parts: dict[str, list[Row]] = {}
    for r in document["rows"]:
        parts.setdefault(r["part"], []).append(r)
    digits = [
        (r["arm"], str(r["width"]), percent(r["accuracy"]), percent(r["lowest"]), percent(r["highest"]),
         fixed(r["seconds"], 1))
        for r in parts["digits"]
    ]  # fmt: skip
    photographs = [
        (
            r["tried"], r["arm"], str(r["codes"]), fixed(r["psnr"], 2), percent(r.get("stays")), f"{r['tokens']:,}",
            f"{r['bits']:,.0f}", f"{r['coded_bits']:,.0f}", percent(r["usage"]),
            fixed(r["fit_s"], 1) if "fit_s" in r else "", fixed(r["encode_s"], 1) if "encode_s" in r else "",
        )
        for r in parts["photographs"]
    ]  # fmt: skip
    anchors = [
        (r["arm"], "yes" if r["exact"] else "no", f"{r['tokens']:,}", f"{r['bits']:,}", fixed(r["encode_s"], 2))
        for r in parts["anchors"]
    ]
    heads = (
        "tried on", "arm", "codes", "PSNR, dB", "stays", "tokens", "bits", "entropy-coded", "usage", "fit s",
        "encode s",
    )  # fmt: skip
    return [
        Table("Digits, patches of 4 x 4", ("arm", "width", "right", "lowest", "highest", "seconds"), digits),
        Table("Photographs, patches of 14 x 14", heads, photographs, words=2),
        Table("What loses nothing, patches of 16 x 16", ("content", "exact", "tokens", "bits", "encode s"), anchors),
    ]


def psnr(pictures: list[Image], made: list[Image]) -> float:
    """In dB over all pixels together."""
    errors = torch.cat(
        [(a.pixels.float() - b.pixels.float()).square().flatten() for a, b in zip(pictures, made, strict=True)]
    )
    return float(10 * torch.log10(255**2 / errors.mean()))


def _digits() -> tuple[Tensor, Tensor]:
    """8 x 8 digits as bytes of three equal colours, and what they are."""
    from sklearn.datasets import load_digits

    data = load_digits()
    grey = (torch.from_numpy(data.images) * 255 / 16).round().to(torch.uint8)
    return grey.unsqueeze(-1).expand(-1, -1, -1, 3), torch.from_numpy(data.target).long()


def _vectors(method: Patches, pixels: Tensor) -> Tensor:
    """The four vectors of every digit, one after the other; all digits stand below each other in one picture."""
    tokens = method.encode(Image(pixels.reshape(-1, DIGIT, 3)))
    embeds = tokens.embeds
    assert embeds is not None
    return embeds.view(len(pixels), -1)


def _photographs(names: tuple[str, ...]) -> list[Image]:
    images = []
    for name in names:
        for package, folder in FOLDERS.items():
            found = importlib.util.find_spec(package)
            assert found is not None
            assert found.origin is not None
            file = Path(found.origin).parent / folder / name
            if file.exists():
                images.append(thumbnail(read_image(file), SIDE).image)
    assert len(images) == len(names)
    return images


def _halves() -> tuple[list[Image], list[Image]]:
    """The left halves of all photographs, and the right ones, in whole patches."""
    left, right = [], []
    for image in _photographs(PHOTOGRAPHS + HELD_OUT):
        middle = image.pixels.shape[1] // 28 * 14
        left.append(Image(image.pixels[:, :middle].contiguous(), image.name))
        right.append(Image(image.pixels[:, middle:].contiguous(), image.name))
    return left, right


def _darkened(image: Image) -> Image:
    return Image((image.pixels * DARKER).round().to(torch.uint8), image.name)


def _flat(image: Image) -> Tensor:
    return cut(image.pixels, 14).flatten(1).float()


def _nearest(table: VQ, image: Image) -> Tensor:
    return table.quantize(_flat(image)).codes[:, 0]


def _entropy(ids: Tensor) -> float:
    """Bits of a token by how often each is there."""
    share = torch.bincount(ids).float() / len(ids)
    share = share[share > 0]
    return float(-(share * share.log2()).sum())


if __name__ == "__main__":
    main()
