"""Patches: which pixel is where, what each content promises, and what codes of real features keep of photographs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv2d

from tokenry.core.errors import InvalidValue, UnknownModel
from tokenry.core.learned import Unbuilt
from tokenry.core.origin import Source
from tokenry.core.registry import parse
from tokenry.core.sequence import TokenSequence
from tokenry.core.tokens import TokenBatch
from tokenry.data import picture, pictures
from tokenry.data.image import Image
from tokenry.models.files.tiny import tiny
from tokenry.models.signals import encoders as signal_encoders
from tokenry.quantize.vq import VQ
from tokenry.signal.parts.patch_codes import Codes
from tokenry.signal.parts.patch_vectors import Projection
from tokenry.signal.parts.position import LearnedPosition, SinCos
from tokenry.signal.patches import Patches
from tokenry.signal.pictures.patch_grid import cut

SIZES = [(16, 16, 4), (13, 18, 4), (1, 9, 4), (9, 1, 4), (1, 1, 16), (7, 5, 1), (20, 33, 16), (5, 5, 64)]

DOWN = torch.tensor([0, 0, 1, 1, 0, 0])


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Image(torch.randint(256, (height, width, 3), generator=generator, dtype=torch.uint8))


def sized(tokens, size):
    return replace(tokens, sources=(Source("image", None, size=size),))


def projected(size=4, **settings):
    return Patches(size=size, content=Projection(**settings)).build()


@pytest.fixture(scope="session")
def eyes(tmp_path_factory):
    """A folder with a tiny DINOv2 of random weights, patches of 8."""
    folder = tmp_path_factory.mktemp("eyes")
    tiny("dinov2").save_pretrained(folder)
    said = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "image_processor_type": "BitImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return str(folder)


# Where everything is


def test_patches_and_pixels_stand_row_by_row():
    """A picture of 3 x 5 pixels whose bytes count from 0, in patches of 2, written out by hand."""
    pixels = torch.arange(45, dtype=torch.uint8).view(3, 5, 3)
    tokens = Patches(size=2).encode(Image(pixels))
    by_hand = [
        0, 1, 2, 3, 4, 5, 15, 16, 17, 18, 19, 20,
        6, 7, 8, 9, 10, 11, 21, 22, 23, 24, 25, 26,
        12, 13, 14, 27, 28, 29,
        30, 31, 32, 33, 34, 35,
        36, 37, 38, 39, 40, 41,
        42, 43, 44,
    ]  # fmt: skip
    assert tokens.ids.tolist() == by_hand
    assert tokens.spans[0].tolist() == [0, 1, 0, 1, 0, 1]
    assert tokens.spans[6:9].tolist() == [[0, 1, 1, 2, 0, 1]] * 3
    assert tokens.spans[-1].tolist() == [0, 1, 2, 3, 4, 5]
    boxes = projected(2, width=12).encode(Image(pixels)).spans.tolist()
    assert boxes == [
        [0, 1, 0, 2, 0, 2], [0, 1, 0, 2, 2, 4], [0, 1, 0, 2, 4, 5],
        [0, 1, 2, 3, 0, 2], [0, 1, 2, 3, 2, 4], [0, 1, 2, 3, 4, 5],
    ]  # fmt: skip


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_the_number_of_tokens(height, width, size):
    patches = -(-height // size) * -(-width // size)
    shown = image(height, width)
    assert len(Patches(size=size).encode(shown)) == 3 * height * width
    tokens = projected(size, width=8).encode(shown)
    assert len(tokens) == patches
    seen = torch.zeros(height, width)
    for _, _, y0, y1, x0, x1 in tokens.spans.tolist():
        seen[y0:y1, x0:x1] += 1
    assert (seen == 1).all(), "boxes partition the picture"


def test_a_picture_of_224_pixels_has_196_tokens_of_768():
    tokens = Patches(content="projection").build().encode(image(224, 224))
    assert tokens.embeds.shape == (196, 768)


# Contents


@pytest.mark.parametrize(("height", "width", "size"), SIZES)
def test_pixels_come_back_byte_for_byte(height, width, size):
    shown, method = image(height, width), Patches(size=size)
    assert torch.equal(method.decode(method.encode(shown)).pixels, shown.pixels)
    assert method.vocab_size == 256


def test_a_pixel_that_lacks_a_colour_is_grey():
    method, shown = Patches(size=2), image(4, 4)
    tokens = method.encode(shown)
    keep = torch.arange(len(tokens)) != 4
    part = replace(tokens, **{n: getattr(tokens, n)[keep] for n in ("ids", "source", "spans", "modality")})
    expected = shown.pixels.clone()
    expected[0, 1] = 128
    assert torch.equal(method.decode(part).pixels, expected)


@pytest.mark.parametrize(("size", "width"), [(4, 48), (4, 7), (16, 32)])
def test_a_projection_is_a_convolution_whose_stride_is_its_width(size, width):
    method = projected(size, width=width, position="no_position")
    content, shown = method.content, image(3 * size, 2 * size)
    kernel = content.weight.view(width, size, size, 3).permute(0, 3, 1, 2)
    values = shown.pixels.permute(2, 0, 1).unsqueeze(0) / 127.5 - 1
    expected = conv2d(values, kernel, content.bias, stride=size)[0].flatten(1).T
    torch.testing.assert_close(method.encode(shown).embeds, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("position", ["sin_cos", "learned_position[rows=3,columns=2]", "no_position"])
@pytest.mark.parametrize(("height", "width", "size"), SIZES[:6])
def test_a_projection_comes_back_where_it_is_wide_enough(height, width, size, position):
    shown = image(height, width)
    wide = -(-3 * size * size // 4) * 4
    method = projected(size, width=wide, position=position)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(method.decode(method.encode(shown)).pixels, shown.pixels)


@pytest.mark.parametrize("position", ["sin_cos", "learned_position[rows=3,columns=2]"])
def test_what_is_left_of_a_picture_is_where_and_as_it_was(position):
    """A table of positions is stretched to the grid of the whole picture, not to that of the patches that are left."""
    shown, method = image(13, 18), projected(4, width=48, position=position)
    tokens = method.encode(shown)
    first = replace(tokens, **{n: getattr(tokens, n)[:3] for n in ("ids", "source", "spans", "modality", "embeds")})
    expected = torch.full_like(shown.pixels, 128)
    expected[:4, :12] = shown.pixels[:4, :12]
    assert torch.equal(method.decode(first).pixels, expected)


def test_a_narrow_projection_gives_the_nearest_of_smallest_norm():
    """An orthogonal map of half the width keeps half the energy of noise; what it maps to is the same again."""
    method, shown = projected(4, width=24), Image(image(40, 40).pixels // 4 + 96)
    tokens = method.encode(shown)
    made = method.decode(tokens)
    left = (made.pixels.float() - 127.5).square().mean() / (shown.pixels.float() - 127.5).square().mean()
    assert 0.4 < left < 0.6
    torch.testing.assert_close(method.encode(made).embeds, tokens.embeds, atol=0.05, rtol=0)


def test_in_half_precision_a_projection_is_a_byte_off_at_most():
    method, shown = projected(4, width=48).bfloat16(), image(13, 18)
    tokens = method.encode(shown)
    assert tokens.embeds.dtype == torch.bfloat16
    assert (method.decode(tokens).pixels.int() - shown.pixels.int()).abs().max() <= 2


def test_gradients_reach_map_and_position():
    method = projected(4, width=8, position=LearnedPosition(rows=2, columns=2))
    rows = [method.encode(image(8, 8)), method.encode(image(5, 13, seed=1))]
    batch = TokenBatch.collate(rows)
    assert batch.embeds.shape == (2, 8, 8)
    assert not batch.embeds[0, :4].any(), "padding is on the left"
    batch.embeds.square().sum().backward()
    for name in ("content.weight", "content.bias", "content.position.table"):
        assert method.get_parameter(name).grad.abs().sum() > 0


# Positions


def test_waves_are_those_of_the_formula():
    found = SinCos(base=100).grid(3, 5, 8)
    speed = torch.tensor([1.0, 100**-0.5])
    for row in range(3):
        for column in range(5):
            waves = [f(torch.tensor(float(n)) * speed) for n in (row, column) for f in (torch.sin, torch.cos)]
            torch.testing.assert_close(found[row, column], torch.cat(waves))
    assert torch.equal(SinCos().grid(9, 9, 16)[:3, :5], SinCos().grid(3, 5, 16))
    flat = SinCos().grid(14, 14, 16).flatten(0, 1)
    assert torch.cdist(flat, flat).add(torch.eye(196)).min() > 0.01, "no two places are the same"


def test_a_learned_table_is_stretched_to_other_grids():
    position = LearnedPosition(rows=4, columns=6).build(width=8)
    table = position.table.detach()
    assert position.grid(4, 6, 8) is position.table
    for rows, columns in ((8, 12), (3, 5), (1, 17), (4, 7)):
        expected = torch.einsum("re,cf,efw->rcw", cubic(4, rows), cubic(6, columns), table)
        torch.testing.assert_close(position.grid(rows, columns, 8).detach(), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(InvalidValue, match="width must be 8"):
        position.grid(4, 6, 12)


def cubic(old, new):
    """Weights of each old place in each new one, by the cubic kernel with a = -3/4."""
    weights = torch.zeros(new, old)
    for i in range(new):
        at = (i + 0.5) * old / new - 0.5
        for j in range(int(at // 1) - 1, int(at // 1) + 3):
            d = abs(at - j)
            near, far = (1.25 * d - 2.25) * d * d + 1, ((-0.75 * d + 3.75) * d - 6) * d + 3
            weights[i, min(max(j, 0), old - 1)] += near if d <= 1 else far
    return weights


# Codes


@pytest.fixture(scope="module")
def coded(eyes):
    content = Codes(encoder=eyes, quantizer=VQ(codes=6))
    return Patches(size=8, content=content).fit([image(40, 44), image(17, 23, seed=1)])


def test_codes_are_those_of_features(coded, eyes):
    shown = image(24, 32, seed=2)
    tokens = coded.encode(shown)
    features, grid = signal_encoders.load_vision(eyes).features(shown.pixels.unsqueeze(0))
    assert grid == (3, 4)
    assert torch.equal(tokens.ids, coded.content.quantizer.quantize(features[0].float()).codes[:, 0])
    assert coded.vocab_size == 6


def test_a_code_shows_the_mean_pixels_of_its_patches(eyes):
    """With a table as large as the picture every patch is its own mean."""
    shown = image(17, 23)
    method = Patches(size=8, content=Codes(encoder=eyes, quantizer=VQ(codes=9))).fit([shown])
    tokens = method.encode(shown)
    assert tokens.ids.unique().numel() == 9
    assert torch.equal(method.decode(tokens).pixels, shown.pixels)
    same = replace(tokens, ids=torch.full_like(tokens.ids, int(tokens.ids[0])))
    made = method.decode(same).pixels
    assert torch.equal(made[8:16, 8:16], shown.pixels[:8, :8])
    assert torch.equal(made[16:, 16:], shown.pixels[:1, :7])


def test_several_codebooks_have_ids_of_their_own_and_their_pictures_add_up(eyes):
    rvq = parse("rvq:of=vq[codes=4],levels=3")
    shown = [image(40, 44), image(48, 48, seed=1)]
    method = Patches(size=8, content=Codes(encoder=eyes, quantizer=rvq)).fit(shown)
    tokens = method.encode(shown[0])
    ids = tokens.ids.view(-1, 3)
    assert len(ids) == 5 * 6
    assert method.vocab_size == 12
    assert all(((ids[:, book] >= 4 * book) & (ids[:, book] < 4 * book + 4)).all() for book in range(3))
    assert (tokens.spans.view(-1, 3, 6) == tokens.spans.view(-1, 3, 6)[:, :1]).all()

    def error(books):
        keep = torch.arange(3).repeat(len(ids)) < books
        part = replace(tokens, **{n: getattr(tokens, n)[keep] for n in ("ids", "source", "spans", "modality")})
        return (method.decode(part).pixels.float() - shown[0].pixels).square().mean()

    assert error(3) < error(1)
    shuffled = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(0))
    mixed = replace(tokens, **{n: getattr(tokens, n)[shuffled] for n in ("ids", "source", "spans", "modality")})
    assert torch.equal(method.decode(mixed).pixels, method.decode(tokens).pixels)


def test_what_was_learnt_is_saved_and_decodes_without_the_encoder(coded, tmp_path, monkeypatch):
    tokens = coded.encode(image(24, 30, seed=3))
    coded.save(tmp_path / "m")
    again = parse(str(tmp_path / "m"))
    assert torch.equal(again.encode(image(24, 30, seed=3)).ids, tokens.ids)
    monkeypatch.setattr(
        "tokenry.signal.parts.patch_codes.load_vision", lambda name: pytest.fail("the encoder was asked for")
    )
    fresh = parse(str(tmp_path / "m"))
    assert torch.equal(fresh.decode(tokens).pixels, coded.decode(tokens).pixels)


def test_codes_in_any_order_and_missing_ones(coded):
    shown = image(20, 20, seed=4)
    tokens = coded.encode(shown)
    keep = torch.tensor([8, 2, 4])
    part = replace(tokens, **{n: getattr(tokens, n)[keep] for n in ("ids", "source", "spans", "modality")})
    made, whole = coded.decode(part).pixels, coded.decode(tokens).pixels
    assert torch.equal(made[16:, 16:], whole[16:, 16:])
    assert torch.equal(made[:8, 16:], whole[:8, 16:])
    assert torch.equal(made[8:16, 8:16], whole[8:16, 8:16])
    assert (made[:8, :16] == 128).all()


# What is wrong


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: replace(t, ids=t.ids + 200), r"pixels: ids must be in \[0, 256\)"),
        (lambda t: replace(t, ids=t.ids - 256), r"pixels: ids must be in \[0, 256\)"),
        (lambda t: replace(t, spans=t.spans * 2), "boxes must be those of squares of 1 pixels"),
        (lambda t: replace(t, spans=t.spans.flip(1)), "boxes must be"),
        (lambda t: replace(t, spans=t.spans + DOWN * (1 << 40)), "boxes must be"),
        (lambda t: sized(t, (1 << 20, 1 << 20)), "at most 268435456 pixels"),
        (lambda t: sized(t, (4,)), "size must be height and width"),
        (lambda t: sized(t, (4, 5)), "boxes must be"),
        (lambda t: sized(t, ()), "must have a source that says how large the signal is"),
        (lambda t: replace(t, sources=()), "must have a source that says how large the signal is"),
        (lambda t: replace(t, spans=t.spans[:3].repeat(len(t) // 3, 1)), "every pixel must have three tokens"),
        (lambda t: TokenSequence.joined([t, t]), "decode one picture at a time"),
    ],
)  # fmt: skip
def test_tokens_of_something_else_are_refused(change, words):
    method = Patches(size=2)
    with pytest.raises(InvalidValue, match=words):
        method.decode(change(method.encode(image(4, 6))))


@pytest.mark.parametrize(
    "box",
    [[0, 1, 0, 4, 0, 3], [0, 1, 0, 4, 1, 5], [0, 1, 4, 4, 0, 4], [0, 2, 0, 4, 0, 4], [1, 2, 0, 4, 0, 4],
     [0, 1, -4, 0, 0, 4], [0, 1, 16, 10, 0, 4], [0, 1, 0, 5, 0, 4]],
)  # fmt: skip
def test_boxes_that_are_none_of_patches_are_refused(box):
    method = projected(4, width=12)
    tokens = method.encode(image(8, 8))
    spans = tokens.spans.clone()
    spans[0] = torch.tensor(box)
    with pytest.raises(InvalidValue, match="boxes must be"):
        method.decode(replace(tokens, spans=spans))
    twice = tokens.spans[[0, 1, 2, 2]]
    with pytest.raises(InvalidValue, match="every box must be there once"):
        method.decode(replace(tokens, spans=twice))


def test_what_must_be_learnt_first_says_so(eyes):
    for method in (Patches(content="projection"), Patches(size=8, content=Codes(encoder=eyes)).build()):
        with pytest.raises(Unbuilt, match=r"patches: must be fitted before 'encode' is used; call fit\(pictures\)"):
            method.encode(image(8, 8))


def test_sizes_that_do_not_agree_are_refused(eyes, tmp_path):
    with pytest.raises(InvalidValue, match="patches: size must be 8, as the encoder"):
        Patches(content=Codes(encoder=eyes)).fit([image(16, 16)])
    with pytest.raises(InvalidValue, match="patches: size must be 4, for which projection was built; got 16"):
        Patches(content=Projection(width=8).build(size=4)).build()
    with pytest.raises(InvalidValue, match="sin_cos: width must be a multiple of 4; got 10"):
        projected(4, width=10)
    with pytest.raises(InvalidValue, match="content must be one of codes, conv_stem, pixel_codes, pixels, projection"):
        Patches(content="mu_law")


def test_sizes_that_would_fill_the_memory_are_refused(tmp_path):
    projected(4, width=8).save(tmp_path / "m")
    file = tmp_path / "m" / "method.json"
    file.write_text(file.read_text().replace('"size": 4', '"size": 40000'))
    with pytest.raises(InvalidValue, match="projection: must have at most 268435456 numbers"):
        parse(str(tmp_path / "m"))


# Photographs


@pytest.fixture(scope="session")
def dinov2():
    try:
        return signal_encoders.load_vision("dinov2")
    except UnknownModel as error:
        pytest.skip(str(error))


def psnr(one, other):
    return float(10 * torch.log10(255**2 / (one.pixels.float() - other.pixels.float()).square().mean()))


@pytest.fixture(scope="module")
def halves(dinov2):
    """64 codes of DINOv2 features and of pixels, learnt from left halves, and the right halves to try them on."""
    left, right = [], []
    for name in pictures():
        pixels = picture(name).pixels
        middle = pixels.shape[1] // 28 * 14
        left.append(Image(pixels[:, :middle].contiguous(), name))
        right.append(Image(pixels[:, middle:].contiguous(), name))
    method = parse("patches:size=14,content=codes[quantizer=vq[codes=64]]").fit(left)
    return method, VQ(codes=64).fit(torch.cat([cut(i.pixels, 14).flatten(1).float() for i in left])), right


@pytest.mark.slow
@pytest.mark.claim
def test_codes_show_more_of_the_other_halves_than_random_ones(halves):
    method, _, right = halves
    generator = torch.Generator().manual_seed(0)
    mine, random = [], []
    for shown in right:
        tokens = method.encode(shown)
        drawn = torch.randint(64, tokens.ids.shape, generator=generator)
        mine.append(psnr(method.decode(tokens), shown))
        random.append(psnr(method.decode(replace(tokens, ids=drawn)), shown))
    assert sum(mine) / len(mine) > sum(random) / len(random) + 2


@pytest.mark.slow
@pytest.mark.claim
def test_codes_of_features_stay_in_the_dark_where_codes_of_pixels_change(halves):
    method, table, right = halves

    def share(ids):
        same = [ids(shown) == ids(Image((shown.pixels * 0.6).round().to(torch.uint8))) for shown in right]
        return float(torch.cat(same).float().mean())

    of_pixels = share(lambda shown: table.quantize(cut(shown.pixels, 14).flatten(1).float()).codes[:, 0])
    assert share(lambda shown: method.encode(shown).ids) > of_pixels + 0.3
