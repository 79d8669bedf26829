"""One stream over all kinds: what is encoded is decoded, from ids alone, and every token knows its place."""

from __future__ import annotations

import pytest
import torch

from tokenry import AudioFrames, Patches, UnifiedStream
from tokenry.core.errors import Incompatible, InvalidValue
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.core.tokens import TokenBatch
from tokenry.data.image import Image
from tokenry.data.sound import Sound
from tokenry.data.video import Video
from tokenry.models.files.load import LanguageModel
from tokenry.models.files.tiny import tiny
from tokenry.signal.streams.layout import axes_of, mixed_mask, prefix_mask


def picture(height, width, seed=0):
    return Image(
        torch.randint(256, (height, width, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    )


def sound(length, rate=8000):
    return Sound(torch.sin(torch.arange(length) / 5) * 0.5, rate)


@pytest.fixture(scope="module")
def method():
    return UnifiedStream(image=Patches(size=4), audio=AudioFrames(rate=8000, content="mu_law")).fit([["text"]])


SIGNALS = [
    "A <image> is no mark. İ 🏳️‍🌈\n",
    picture(5, 9),
    "",
    sound(33),
    Video(torch.stack([picture(3, 4, s).pixels for s in (1, 2)])),
    "x",
]


def bare(tokens):
    """Only the ids: what a model says has no sources and no places."""
    row = tokens.ids
    return TokenSequence(
        ids=row, source=torch.full_like(row, -1), spans=torch.zeros(len(row), 6, dtype=torch.long), sources=()
    )


def test_signals_come_back_from_ids_alone(method):
    text, image, nothing, heard, clip, x = method.decode(bare(method.encode(SIGNALS)))
    assert (text, nothing, x) == (SIGNALS[0], "", "x")
    assert torch.equal(image.pixels, SIGNALS[1].pixels)
    assert torch.equal(clip.frames, SIGNALS[4].frames)
    assert clip.rate == SIGNALS[4].rate
    alone = method.audio.decode(method.audio.encode(SIGNALS[3]))
    assert torch.equal(heard.samples, alone.samples)
    assert heard.rate == alone.rate
    assert method.decode(bare(method.encode([]))) == []


def test_packing_is_the_inverse_of_unpacking(method):
    segments = method.segments(SIGNALS)
    ids = method.stream.pack(segments)
    assert torch.equal(ids, method.encode(SIGNALS).ids)
    found = method.stream.unpack(ids)
    assert [(s.kind, s.size) for s in found] == [(s.kind, s.size) for s in segments]
    assert all(torch.equal(a.ids, b.ids) for a, b in zip(found, segments, strict=True))


def test_every_token_knows_its_kind_and_place(method):
    tokens = method.encode(SIGNALS)
    kinds = {"text": Modality.TEXT, "image": Modality.IMAGE, "audio": Modality.AUDIO, "video": Modality.VIDEO}
    for i, (number, shows, source) in enumerate(zip(tokens.ids, tokens.shows, tokens.source, strict=True)):
        name = method.stream.vocabulary.kind(int(number))
        assert shows == kinds.get(name, Modality.CONTROL)
        assert (source < 0) == (name == "control") == bool(tokens.guarded[i])
        if source >= 0:
            assert tokens.sources[source].kind == name
    frames = tokens.spans[tokens.shows == Modality.VIDEO]
    assert frames[:, 0].unique().tolist() == [0, 1]
    text = SIGNALS[0].encode()
    spans = tokens.spans[tokens.source == 0]
    # Tokens that are parts of one character share its place.
    assert {i for low, high in spans[:, :2].tolist() for i in range(low, high)} == set(range(len(text)))


def test_rows_with_padding_are_rows_alone(method):
    rows = [method.encode(SIGNALS), method.encode([picture(2, 3)]), method.encode(["short"])]
    batch = TokenBatch.collate(rows)
    for i, row in enumerate(rows):
        again = batch.sequence(i)
        assert torch.equal(again.ids, row.ids)
        assert torch.equal(again.shows, row.shows)
        assert torch.equal(again.spans[row.source >= 0], row.spans[row.source >= 0])


def test_places_follow_from_sizes(method):
    for member, signal in ((method.image, SIGNALS[1]), (method.audio, SIGNALS[3]), (method.audio, sound(100, 11025))):
        tokens = member.encode(signal)
        size = member.size_of(signal)
        assert member.count(size) == len(tokens)
        assert torch.equal(member.places(size, len(tokens)), tokens.spans)
        with pytest.raises(InvalidValue, match="must have"):
            member.places(size, len(tokens) + 1)
        with pytest.raises(InvalidValue, match="size must be"):
            member.places((0, 0, 0), 1)
    with pytest.raises(Incompatible, match="places must follow from the size"):
        AudioFrames(content="units").places((100, 8000), 3)


def test_what_is_no_stream(method):
    ids = method.encode(["a", picture(2, 2)]).ids
    for wrong, words in (
        (ids[:-1], "image must be closed by"),
        (ids[1:], "cannot stand at 0"),
        (torch.cat((ids[:-2], ids[-1:])), "a picture of size .* must have 12 tokens; got 11"),
    ):
        with pytest.raises(InvalidValue, match=words):
            method.decode(bare(TokenSequence(ids=wrong, source=wrong, spans=wrong, sources=())))
    for given in ("text", 3, [3], [None]):
        with pytest.raises(InvalidValue, match=r"must be a list of segments|must be a text, an Image"):
            method.encode(given)


@pytest.mark.parametrize("signals", [[], None, 3, "text", ["text"], [None]])
def test_nothing_to_learn_from(signals):
    with pytest.raises(InvalidValue, match="signals must be lists of segments"):
        UnifiedStream().fit(signals)


def test_saved_and_loaded(method, tmp_path):
    method.save(tmp_path / "m")
    again = UnifiedStream.load(tmp_path / "m")
    assert again.to_dict() == method.to_dict()
    assert torch.equal(again.encode(SIGNALS).ids, method.encode(SIGNALS).ids)


def test_a_model_reads_and_says_streams(method, smollm2):
    model = tiny("llama", vocab_size=len(smollm2.tokenizer))
    language = LanguageModel(model, smollm2.tokenizer, "tiny", 512)
    grown = method.extend(language, {"image": torch.randn(256, 3, generator=torch.Generator().manual_seed(0))})
    assert grown.model.config.vocab_size == method.vocab_size
    prompt = method.encode(["Draw."]).ids.unsqueeze(0)
    start = prompt.shape[1]
    grammar = method.grammar(("image",), sizes={"image": (2, 1)}, start=start)
    out = grown.model.generate(
        prompt, attention_mask=torch.ones_like(prompt), do_sample=True, max_new_tokens=60, logits_processor=[grammar],
        eos_token_id=None, pad_token_id=2,
    )[0]  # fmt: skip
    ends = (out == method.stream.end("image")).nonzero()[:, 0]
    said = out[: ends[-1] + 1]
    text, *pictures = method.decode(bare(TokenSequence(ids=said, source=said, spans=said, sources=())))
    assert text == "Draw."
    assert pictures
    assert all(image.pixels.shape == (2, 1, 3) for image in pictures)
    free = method.grammar(("image",), start=start)
    sizes = torch.tensor([method.stream.begin("image"), *method.stream.header("image", (1 << 39, 1 << 39))])
    assert free.allowed(free.where(sizes)).nonzero()[:, 0].tolist() == [method.stream.end("image")]
    with pytest.raises(InvalidValue, match="texts must be"):
        method.extend(LanguageModel(tiny("llama"), smollm2.tokenizer, "tiny", 512))


def test_positions_and_masks(method):
    tokens = method.encode(["ab", picture(2, 3)])
    image = tokens.shows == Modality.IMAGE
    axes, mask = axes_of(tokens), mixed_mask(tokens)
    assert (axes[0, image] == axes[0, image][0]).all()
    assert (axes[1, image] - axes[1, image].min()).tolist() == [0] * 9 + [1] * 9
    assert (axes[2, image] - axes[2, image].min()).tolist() == [
        c for _ in range(2) for c in (0, 0, 0, 1, 1, 1, 2, 2, 2)
    ]
    assert int(axes[:, -1].min()) > int(axes[:, image].max())
    assert mask[image][:, image].all()
    assert torch.equal(mask[~image], torch.ones_like(mask).tril()[~image])
    assert prefix_mask(4, 2).int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]


def test_what_the_grammar_lets_through_is_decoded_with_several_codebooks(smollm2):
    """Codes of a sum belong to levels: one of another level at its place would be no sound."""
    pictures = "patches[size=4,content=pixel_codes[quantizer=rvq[of=vq[codes=4],levels=2]]]"
    sounds = "audio_frames[rate=8000,content=mel_codes[bands=16,quantizer=rvq[of=vq[codes=4],levels=3],iterations=2]]"
    method = UnifiedStream(texts=99, controls=30, image=pictures, audio=sounds).fit([[picture(8, 8), sound(4000)]])
    language = LanguageModel(tiny("llama", vocab_size=99), smollm2.tokenizer, "tiny", 512)
    model = method.extend(language).model
    size = {"image": (8, 8), "audio": (320, 8000)}
    for kind in size:
        prompt = torch.tensor([[method.stream.begin(kind), *method.stream.header(kind, size[kind])]] * 3)
        end = method.stream.end(kind)
        out = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=True, max_new_tokens=40, eos_token_id=end,
            pad_token_id=end, logits_processor=[method.grammar((kind,), sizes=size, stop=(end,))],
        )  # fmt: skip
        for row in out:
            ids = row[: int((row == end).nonzero()[0]) + 1]
            (signal,) = method.decode(bare(TokenSequence(ids=ids, source=ids, spans=ids, sources=())))
            assert (signal.pixels.shape if kind == "image" else signal.samples.shape) in ((8, 8, 3), (320,))
