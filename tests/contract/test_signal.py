"""Every signal tokenizer, with each of its parts that needs no other model: what any of them must hold to."""

from __future__ import annotations

import contextlib
import copy
import math
import typing
from dataclasses import dataclass, fields, replace

import pytest
import torch

from tests.contract.cases import Case, cases
from tokenry.core.errors import InvalidValue, UnknownModel
from tokenry.core.learned import Unbuilt
from tokenry.core.method import Part
from tokenry.core.origin import Source
from tokenry.core.registry import held, load_part, parse
from tokenry.core.sequence import Modality, TokenSequence
from tokenry.core.tokens import TokenBatch
from tokenry.data.image import Image
from tokenry.data.sound import Sound
from tokenry.signal.base import SegmentTokenizer


@dataclass(frozen=True)
class Variation:
    """A method as its card tries it, perhaps with another part."""

    case: Case
    part: dict

    @property
    def name(self) -> str:
        return "-".join((self.case.name, *(spec.partition("[")[0] for spec in self.part.values())))

    def trial(self):
        return self.case.method(**{**self.case.entry.card.trial, **self.part})

    def fitted(self):
        return self.trial().fit(signals(self))


def variations():
    """Of tokenizers of one kind; a stream of several reads ids and no boxes."""
    for case in cases("signal"):
        if not issubclass(case.method, SegmentTokenizer):
            continue
        yield Variation(case, {})
        hints = typing.get_type_hints(case.method)
        for field in fields(case.method):
            for name in _parts(hints[field.name]) if field.metadata.get("part") else ():
                yield Variation(case, {field.name: name})


def _parts(kind):
    """Parts that a field may hold, but for those that read with a model of their own; other methods are no parts."""
    for name, entry in held(kind).items() if issubclass(kind, Part) else ():
        part = load_part(entry.full_name)
        if issubclass(part, kind) and not {"encoder", "model"} & {f.name for f in fields(part)}:
            settings = ",".join(f"{field}={value}" for field, value in entry.card.trial.items())
            yield f"{name}[{settings}]" if settings else name


METHODS = list(variations())


@pytest.fixture(params=METHODS, ids=[v.name for v in METHODS])
def how(request):
    try:
        assert request.param.trial().vocab_size >= 0
    except UnknownModel as error:
        pytest.skip(str(error))
    return request.param


def images():
    generator = torch.Generator().manual_seed(0)
    return [
        Image(torch.randint(256, (y, x, 3), generator=generator, dtype=torch.uint8), name)
        for y, x, name in ((13, 18, "wide"), (21, 9, "high"))
    ]


def sounds():
    time = torch.arange(4000) / 8000
    chirp = 0.5 * (2 * math.pi * (200 + 800 * time) * time).sin()
    noise = 0.1 * torch.randn(2500, generator=torch.Generator().manual_seed(0))
    return [Sound(chirp, 8000, "chirp"), Sound(noise, 8000, "noise")]


def segments():
    """Lists of signals and texts."""
    (wide, high), (chirp, noise) = images(), sounds()
    return [["What does it show?", wide, chirp], [noise, high, "Naïve.", wide]]


SIGNALS = {Image: images, Sound: sounds, list: segments}
"""Two signals of different size for each kind; another kind of signal gets a function of its own."""

DOT = Image(torch.full((1, 1, 3), 9, dtype=torch.uint8), "dot")
LEAST = {
    Image: [DOT, Image(torch.full((1, 33, 3), 9, dtype=torch.uint8)),
            Image(torch.full((33, 1, 3), 9, dtype=torch.uint8))],
    Sound: [Sound(torch.ones(1), 8000), Sound(torch.zeros(333), 8000)],
    list: [[DOT], ["a"], [DOT, DOT]],
}  # fmt: skip
SHOWS = {Image: (Modality.IMAGE, "image"), Sound: (Modality.AUDIO, "audio"), str: (Modality.TEXT, "text")}


def signals(how):
    return SIGNALS[how.case.method.takes]()


def pieces(signal):
    return signal if isinstance(signal, list) else [signal]


def values(signal):
    """What a signal is, as a tensor whose axes are those of boxes."""
    if isinstance(signal, str):
        return torch.tensor(list(signal.encode()))
    return signal.pixels if isinstance(signal, Image) else signal.samples


def flat(signal):
    return torch.cat([values(piece).flatten().float() for piece in pieces(signal)])


def same_size(one, other):
    assert [type(p) for p in pieces(one)] == [type(p) for p in pieces(other)]
    for mine, theirs in zip(pieces(one), pieces(other), strict=True):
        assert values(mine).shape == values(theirs).shape
        assert getattr(mine, "rate", None) == getattr(theirs, "rate", None)


def picked(tokens, which):
    changed = {name: getattr(tokens, name)[which] for name in ("ids", "source", "spans", "modality")}
    return replace(tokens, **changed, embeds=None if tokens.embeds is None else tokens.embeds[which])


def same_tokens(one, other):
    assert torch.equal(one.ids, other.ids)
    placed = other.source >= 0
    assert torch.equal(one.spans[placed], other.spans[placed])
    assert (one.embeds is None) == (other.embeds is None)
    if one.embeds is not None:
        assert torch.equal(one.embeds, other.embeds)


def same_signal(one, other):
    same_size(one, other)
    assert torch.equal(flat(one), flat(other))


def test_tokens_know_what_they_are(how):
    method = how.fitted()
    for signal in signals(how):
        tokens = method.encode(signal)
        assert len(tokens) > 0
        assert tokens.ids.dtype == tokens.spans.dtype == torch.long
        assert len(tokens.sources) == len(pieces(signal))
        for number, piece in enumerate(pieces(signal)):
            mine = tokens.source == number
            modality, kind = SHOWS[type(piece)]
            assert tokens.sources[number].kind == kind
            # A text has no name of its own.
            assert isinstance(piece, str) or tokens.sources[number].name == piece.name
            assert (tokens.shows[mine] == modality).all()
            assert not tokens.guarded[mine].any()
        if method.vocab_size:
            assert tokens.embeds is None
            assert int(tokens.ids.min()) >= 0
            assert int(tokens.ids.max()) < method.vocab_size
        else:
            assert (tokens.ids == -1).all()
            assert tokens.embeds.isfinite().all()


def test_boxes_cover_the_signal(how):
    method = how.fitted()
    for signal in signals(how):
        tokens = method.encode(signal)
        for number, piece in enumerate(pieces(signal)):
            is_image = isinstance(piece, Image)
            seen = torch.zeros(values(piece).shape[:2] if is_image else values(piece).shape)
            for t0, t1, y0, y1, x0, x1 in tokens.spans[tokens.source == number].unique(dim=0).tolist():
                if is_image:
                    assert (t0, t1) == (0, 1)
                    assert 0 <= y0 < y1 <= len(seen)
                    assert 0 <= x0 < x1 <= seen.shape[1]
                    seen[y0:y1, x0:x1] += 1
                else:
                    assert 0 <= t0 < t1 <= len(seen)
                    seen[t0:t1] += 1
            assert (seen > 0).all()
            if is_image:
                assert (seen == 1).all()


def test_decoding_gives_a_signal_of_the_same_size(how):
    method = how.fitted()
    for signal in (*signals(how), *LEAST[method.takes]):
        same_size(method.decode(method.encode(signal)), signal)


def test_decoding_looks_at_tokens_and_places_only(how):
    method = how.fitted()
    tokens = method.encode(signals(how)[0])
    size = tokens.sources[0].size
    blind = replace(tokens, sources=(Source(method.kind, None, size=size),))
    other = replace(tokens, source=tokens.source + 3, sources=(Source("text", "no picture", size=size),) * 4)
    for given in (blind, other):
        same_signal(method.decode(given), method.decode(tokens))
    for given in (replace(blind, source=blind.source - 1), replace(blind, sources=(Source(method.kind, None),))):
        with pytest.raises(InvalidValue, match="a source that says how large"):
            method.decode(given)


def test_a_signal_is_as_large_as_it_was_whatever_is_left_of_it(how):
    method = how.fitted()
    for signal in signals(how):
        tokens = method.encode(signal)
        whole = method.decode(tokens)
        for left in (slice(0, 1), slice(len(tokens) - 1, None), slice(0, len(tokens) // 2)):
            same_size(method.decode(picked(tokens, left)), whole)


def test_the_order_of_boxes_does_not_matter(how):
    """Tokens of one box keep their order."""
    method = how.fitted()
    tokens = method.encode(signals(how)[0])
    _, box = tokens.spans.unique(dim=0, return_inverse=True)
    turn = torch.randperm(int(box.max()) + 1, generator=torch.Generator().manual_seed(0))
    shuffled = picked(tokens, turn[box].argsort(stable=True))
    assert not torch.equal(shuffled.spans, tokens.spans)
    same_signal(method.decode(shuffled), method.decode(tokens))


def test_where_tokens_are_missing_the_signal_is_neutral(how):
    method = how.fitted()
    tokens = method.encode(signals(how)[0])
    last = tokens.spans[:, 2 if method.takes is Image else 0]
    end = int(last.max())
    made = method.decode(picked(tokens, last > end // 2))
    quarter = values(made)[: end // 4]
    if method.takes is Image:
        assert (quarter == 128).all()
    else:
        assert quarter.abs().max() < 1e-4
    whole = method.decode(tokens)
    assert values(made).shape == values(whole).shape
    assert not torch.equal(values(made), values(whole))


def test_tokens_survive_a_batch_with_padding(how):
    method = how.fitted()
    sequences = [method.encode(signal) for signal in signals(how)]
    assert len(sequences[0]) != len(sequences[1])
    batch = TokenBatch.collate(sequences)
    assert batch.lengths.tolist() == [len(s) for s in sequences]
    for row, alone in enumerate(sequences):
        back = batch.sequence(row)
        same_tokens(back, alone)
        same_signal(method.decode(back), method.decode(alone))


def test_the_same_signal_gives_the_same_and_nothing_is_changed(how):
    method = how.fitted()
    signal = signals(how)[0]
    given, state, kept = flat(signal).clone(), torch.get_rng_state(), copy.deepcopy(method.state_dict())
    tokens = method.encode(signal)
    made = method.decode(tokens)
    other = method.encode(signals(how)[1])
    same_tokens(method.encode(signal), tokens)
    same_signal(method.decode(tokens), made)
    method.decode(other)
    assert torch.equal(flat(signal), given)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(kept[name], value) for name, value in method.state_dict().items())


def test_the_same_seed_learns_the_same(how):
    state = torch.get_rng_state()
    one, other = how.fitted(), how.fitted()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not one.training


def test_it_is_ready_or_says_that_it_must_be_fitted(how):
    method, fitted, signal = how.trial(), how.fitted(), signals(how)[0]
    expected = fitted.encode(signal)
    with contextlib.suppress(Unbuilt):
        same_tokens(method.encode(signal), expected)
        same_signal(method.decode(expected), fitted.decode(expected))
        return
    for use in (lambda: method.encode(signal), lambda: method.decode(expected)):
        with pytest.raises(Unbuilt, match="must be fitted before"):
            use()


def test_a_saved_one_gives_the_same(how, tmp_path):
    method, signal = how.fitted(), signals(how)[0]
    method.save(tmp_path / "m")
    again = parse(str(tmp_path / "m"))
    assert again.to_dict() == method.to_dict()
    tokens = method.encode(signal)
    same_tokens(again.encode(signal), tokens)
    same_signal(again.decode(tokens), method.decode(tokens))


def test_half_precision_runs(how):
    method, signal = how.fitted().bfloat16(), signals(how)[0]
    tokens = method.encode(signal)
    assert tokens.embeds is None or tokens.embeds.dtype == torch.bfloat16
    same_size(method.decode(tokens), signal)


def test_the_smallest_signals_can_be_learnt_from(how):
    method = how.trial().fit(LEAST[how.case.method.takes][:1])
    for signal in (*LEAST[method.takes], *signals(how)):
        same_size(method.decode(method.encode(signal)), signal)


@pytest.mark.parametrize("signal", [None, "a picture", b"\x89PNG", torch.zeros(4, 4, 3, dtype=torch.uint8), 3])
def test_what_is_no_signal_is_refused(how, signal):
    method = how.fitted()
    for refused in (lambda: method.encode(signal), lambda: how.trial().fit([signal])):
        with pytest.raises(InvalidValue, match="must be a"):
            refused()


def test_other_kinds_of_signals_and_none_are_refused(how):
    method = how.fitted()
    for kind, make in SIGNALS.items():
        if kind is not method.takes:
            with pytest.raises(InvalidValue):
                method.encode(make()[0])
    with pytest.raises(InvalidValue, match="must be at least one; got none"):
        how.trial().fit([])


def test_bad_ids_and_vectors_are_refused(how):
    method = how.fitted()
    tokens = method.encode(signals(how)[0])
    for wrong in (method.vocab_size, -1, 1 << 40):
        if method.vocab_size:
            ids = tokens.ids.clone()
            ids[3] = wrong
            with pytest.raises(InvalidValue, match=r"\bids?\b"):
                method.decode(replace(tokens, ids=ids))
    if tokens.embeds is not None:
        for embeds in (None, tokens.embeds[:, :-1], tokens.embeds * torch.nan):
            with pytest.raises(InvalidValue, match="embeddings"):
                method.decode(replace(tokens, embeds=embeds))


def test_bad_boxes_are_refused(how):
    method = how.fitted()
    tokens = method.encode(signals(how)[0])
    turned = tokens.spans[:, [1, 0, 3, 2, 5, 4]]
    for spans in (turned, tokens.spans - 1, tokens.spans * 0, tokens.spans + (1 << 40)):
        with pytest.raises(InvalidValue):
            method.decode(replace(tokens, spans=spans))
    with pytest.raises(InvalidValue, match="at least one"):
        method.decode(picked(tokens, slice(0, 0)))
    # Two signals in one sequence lie on top of each other.
    with pytest.raises(InvalidValue):
        method.decode(TokenSequence.joined([tokens, tokens]))
