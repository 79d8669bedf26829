"""Vectors of patches: the convolution stem, and rotary positions in two dimensions."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Unbuilt
from tokenry.core.registry import parse
from tokenry.data import picture
from tokenry.data.image import Image
from tokenry.signal.parts.patch_vectors import ConvStem, Projection
from tokenry.signal.parts.position import Rotary
from tokenry.signal.patches import Patches
from tokenry.signal.streams.packing import pack


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Image(torch.randint(256, (height, width, 3), generator=generator, dtype=torch.uint8))


def stem(size=4, **settings):
    return Patches(size=size, content=ConvStem(**{"width": 16, "channels": 4, **settings})).build()


# The stem


@pytest.mark.parametrize(("height", "width", "size"), [(16, 16, 4), (13, 18, 4), (1, 9, 2), (33, 1, 8), (40, 20, 16)])
def test_a_stem_has_the_tokens_and_boxes_of_a_projection(height, width, size):
    shown = image(height, width)
    tokens = stem(size).encode(shown)
    wanted = Patches(size=size, content=Projection(width=16)).build().encode(shown)
    assert torch.equal(tokens.spans, wanted.spans)
    assert tokens.embeds.shape == (math.ceil(height / size) * math.ceil(width / size), 16)


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_a_token_reads_its_patch_and_so_much_above_and_to_the_left(size):
    method, middle = stem(size, position="no_position"), 128
    ground = torch.full((5 * size, 5 * size, 3), middle, dtype=torch.uint8)
    with torch.no_grad():
        for weight in method.parameters():
            weight.normal_(std=0.5, generator=torch.Generator().manual_seed(1))
    before = method.encode(Image(ground)).embeds[2 * 5 + 2]
    reads = torch.zeros(5 * size, dtype=torch.bool)
    for y in range(5 * size):
        changed = ground.clone()
        changed[y] = torch.randint(256, (5 * size, 3), generator=torch.Generator().manual_seed(y), dtype=torch.uint8)
        down = method.encode(Image(changed)).embeds[2 * 5 + 2]
        across = method.encode(Image(changed.transpose(0, 1).contiguous())).embeds[2 * 5 + 2]
        assert torch.equal(down, before) == torch.equal(across, before)
        reads[y] = not torch.equal(down, before)
    assert reads.nonzero()[:, 0].tolist() == list(range(size + 1, 3 * size))


def test_a_stem_is_plain_convolutions():
    method, shown = stem(4, position="no_position"), image(8, 12)
    x = shown.pixels.movedim(2, 0).unsqueeze(0) / 127.5 - 1
    for layer in method.content.halvings:
        x = torch.nn.functional.conv2d(x, layer.weight, layer.bias, stride=2, padding=1)
        x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
        x = x.clamp_min(0)
    wanted = torch.einsum("ec,cyx->yxe", method.content.last.weight[:, :, 0, 0], x[0]) + method.content.last.bias
    torch.testing.assert_close(method.encode(shown).embeds, wanted.flatten(0, 1), atol=1e-5, rtol=1e-5)


def test_all_weights_of_a_stem_get_gradients_and_places_are_added():
    method = stem(4, position="learned_position[rows=2,columns=3]")
    method.encode(image(8, 12)).embeds.square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in method.parameters())
    plain = stem(4, position="no_position")
    plain.content.load_state_dict(method.content.state_dict(), strict=False)
    added = method.encode(image(8, 12)).embeds - plain.encode(image(8, 12)).embeds
    torch.testing.assert_close(added, method.content.position.table.flatten(0, 1), atol=1e-5, rtol=0)


def test_decoding_a_stem_shows_what_fit_found_most_likely():
    photo = picture("coffee").pixels
    half = photo.shape[1] // 2
    seen, other = Image(photo[:, :half].contiguous()), Image(photo[:, half:].contiguous())
    method = stem(8, width=64, channels=8).fit([seen])
    tokens = method.encode(other)
    turned = replace(
        tokens, embeds=tokens.embeds[torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))]
    )
    error, shuffled = (
        (method.decode(t).pixels.float() - other.pixels.float()).square().mean() for t in (tokens, turned)
    )
    flat = (other.pixels.float() - other.pixels.float().mean((0, 1))).square().mean()
    assert error < 0.6 * flat
    assert shuffled > flat


def test_a_stem_that_saw_no_pictures_encodes_and_does_not_decode():
    method = stem()
    tokens = method.encode(image(8, 8))
    with pytest.raises(Unbuilt, match=r"must have seen pictures before it decodes; call fit\(pictures\)"):
        method.decode(tokens)


@pytest.mark.parametrize("size", [1, 3, 12, 14])
def test_sizes_of_a_stem_are_powers_of_two(size):
    with pytest.raises(InvalidValue, match=f"size must be a power of 2 from 2; got {size}"):
        stem(size)


def test_a_stem_that_is_too_large_is_refused():
    with pytest.raises(InvalidValue, match="must have at most"):
        stem(16, channels=1 << 14)
    with pytest.raises(InvalidValue, match="must have at most"):
        stem(4, width=1 << 20)


# Rotary positions


def heads(count, width=16, seed=0):
    return torch.randn(1, 2, count, width, generator=torch.Generator().manual_seed(seed))


def grid(rows, columns):
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).unsqueeze(0)


def test_dot_products_depend_on_distances_in_both_axes_only():
    rotary, q, k = Rotary(), heads(1), heads(1, seed=1)

    def product(one, other):
        turned = (rotary.rotate(x, torch.tensor([[place]])) for x, place in ((q, one), (k, other)))
        a, b = turned
        return (a * b).sum(-1)

    for one, other in (((0, 0), (3, 5)), ((2, 7), (2, 1)), ((4, 0), (9, 0))):
        wanted = product(one, other)
        for down, across in ((1, 0), (0, 1), (6, 11)):
            moved = [(y + down, x + across) for y, x in (one, other)]
            torch.testing.assert_close(product(*moved), wanted, atol=1e-4, rtol=1e-4)
        # Each axis counts, and in its own way.
        assert (product((one[0] + 1, one[1]), other) - wanted).abs().max() > 1e-2
        assert (product((one[0], one[1] + 1), other) - wanted).abs().max() > 1e-2


@pytest.mark.parametrize("axis", [0, 1])
def test_a_single_row_or_column_turns_half_of_a_head_as_in_one_dimension(axis):
    rotary, x = Rotary(base=10_000), heads(7)
    places = torch.zeros(1, 7, 2, dtype=torch.long)
    places[0, :, axis] = torch.arange(7)
    turned = rotary.rotate(x, places)
    angles = torch.arange(7).unsqueeze(1) * 10_000 ** (-2 * torch.arange(4) / 8)
    whole = torch.cat((angles, angles), 1).unsqueeze(0)
    halves = x.split(8, -1)
    wanted, _ = apply_rotary_pos_emb(halves[axis], halves[axis], whole.cos(), whole.sin())
    torch.testing.assert_close(turned.split(8, -1)[axis], wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(turned.split(8, -1)[1 - axis], halves[1 - axis])


def test_norms_stay_and_the_first_place_turns_nothing():
    rotary, x = Rotary(), heads(30)
    turned = rotary.rotate(x, grid(5, 6))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[:, :, 0], x[:, :, 0])
    assert not torch.isclose(turned[:, :, 1:], x[:, :, 1:]).all(-1).any()
    half = rotary.rotate(x.bfloat16(), grid(5, 6))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), turned, atol=0.05, rtol=0.05)


def test_rows_with_several_pictures_are_turned_as_each_alone():
    """In a left-padded row of two pictures attention gives each what it gives it alone."""
    method = Patches(size=4, content=Projection(width=16, position="rotary")).build()
    rotary, shown = method.content.position, [image(8, 20), image(13, 9, seed=1)]
    with torch.no_grad():
        sequences = [method.encode(one) for one in shown]

    def read(embeds, boxes, mask):
        x = embeds.unflatten(-1, (2, 8)).transpose(1, 2)
        turned = rotary.rotate(x, rotary.places(boxes, 4))
        return scaled_dot_product_attention(turned, turned, x, attn_mask=mask).transpose(1, 2).flatten(-2)

    packed = pack(sequences, 25)
    together = packed.unpack(read(packed.batch.embeds, packed.batch.spans()[..., 2:], packed.attention()))
    for one, found in zip(sequences, together, strict=True):
        torch.testing.assert_close(found, read(one.embeds[None], one.spans[None], None)[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(rotary.places(one.spans, 4), one.spans[:, [2, 4]] // 4)


def test_rotary_adds_nothing_and_is_saved_with_the_tokenizer(tmp_path):
    shown = image(8, 12)
    method = Patches(size=4, content=Projection(width=48, position="rotary[base=50]")).fit([shown])
    plain = Patches(size=4, content=Projection(width=48, position="no_position")).fit([shown])
    assert torch.equal(method.encode(shown).embeds, plain.encode(shown).embeds)
    assert torch.equal(method.decode(method.encode(shown)).pixels, shown.pixels)
    method.save(tmp_path / "m")
    assert parse(str(tmp_path / "m")).content.position == Rotary(base=50)


@pytest.mark.parametrize("width", [2, 6, 10])
def test_heads_of_other_widths_are_refused(width):
    with pytest.raises(InvalidValue, match=f"a multiple of 4; got {width}"):
        Rotary().rotate(heads(3, width), grid(1, 3))
