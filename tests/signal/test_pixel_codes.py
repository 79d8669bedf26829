"""Codes of pixels: the nearest entries, worth the same wherever they stand; digits are still told apart."""

from __future__ import annotations

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tokenry.core.registry import parse
from tokenry.data.image import Image
from tokenry.signal.parts.patch_codes import PixelCodes
from tokenry.signal.patches import Patches


def digits():
    found = load_digits()
    grey = (torch.tensor(found.images) * 255 / 16).round().to(torch.uint8)
    return [Image(picture.unsqueeze(-1).expand(-1, -1, 3)) for picture in grey], found.target


@pytest.fixture(scope="module")
def coded():
    pictures, _ = digits()
    return Patches(size=4, content="pixel_codes[quantizer=vq[codes=64]]").fit(pictures[:200])


def test_a_code_is_the_nearest_entry_and_decodes_to_it(coded):
    picture = digits()[0][300]
    tokens = coded.encode(picture)
    content = coded.content
    patches = picture.pixels.view(2, 4, 2, 4, 3).transpose(1, 2).reshape(4, -1) / 255 - content.mean
    table = content.quantizer.dequantize(torch.arange(64).unsqueeze(1))
    assert torch.equal(tokens.ids, torch.cdist(patches, table).argmin(1))
    shown = coded.decode(tokens).pixels.view(2, 4, 2, 4, 3).transpose(1, 2).reshape(4, -1)
    assert torch.equal(shown, ((table[tokens.ids] + content.mean) * 255).round().clamp(0, 255).to(torch.uint8))


def test_one_code_for_every_patch_gives_the_picture_back():
    picture = digits()[0][0]
    method = Patches(size=4, content="pixel_codes[quantizer=vq[codes=4]]").fit([picture])
    assert torch.equal(method.decode(method.encode(picture)).pixels, picture.pixels)


def test_a_patch_may_lack_what_only_refines():
    pictures, _ = digits()
    content = PixelCodes(quantizer=parse("rvq:of=vq[codes=32],levels=3"))
    method = Patches(size=4, content=content).fit(pictures[:200])
    tokens = method.encode(pictures[300])
    wanted = pictures[300].pixels.float()

    def error(levels):
        kept = (torch.arange(len(tokens)) % 3 < levels).nonzero()[:, 0]
        part = type(tokens)(
            ids=tokens.ids[kept], source=tokens.source[kept], spans=tokens.spans[kept], sources=tokens.sources
        )
        return float((method.decode(part).pixels.float() - wanted).square().mean())

    assert error(3) < error(2) < error(1)


@pytest.mark.slow
@pytest.mark.claim
def test_digits_are_told_apart_from_codes():
    pictures, labels = digits()
    held_out = [i % 5 == 0 for i in range(len(pictures))]
    known = [p for p, out in zip(pictures, held_out, strict=True) if not out]
    method = Patches(size=4, content=PixelCodes()).fit(known)
    seen = torch.stack([p.pixels[..., 0].flatten() for p in pictures]).float() / 255
    shown = torch.stack([method.decode(method.encode(p)).pixels[..., 0].flatten() for p in pictures]).float() / 255
    out = torch.tensor(held_out)
    found = [
        LogisticRegression(max_iter=300).fit(x[~out], labels[~out.numpy()]).score(x[out], labels[out.numpy()])
        for x in (seen, shown)
    ]
    assert found[1] > 0.9
    assert found[0] < 0.98
