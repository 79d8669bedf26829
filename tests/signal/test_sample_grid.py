"""Where frames of a sound stand in its samples: whatever its rate was, and whichever tokens are left."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

from tests.signal.test_audio_frames import CODEC, RATES, SMALL, chirp, noise
from tokenry import AudioFrames
from tokenry.core.errors import InvalidValue
from tokenry.core.origin import Source
from tokenry.data import clip
from tokenry.data.sound import read_sound
from tokenry.signal.parts.sound_content import Pcm
from tokenry.signal.sounds.sample_grid import SampleGrid


@pytest.fixture(scope="module")
def method():
    return AudioFrames(content=SMALL).fit([clip("amiable")])


@pytest.mark.parametrize("original", [*RATES, 1000, 7919, 37123, 96000, 191999])
@pytest.mark.parametrize(("hop", "rate"), [(160, 16000), (80, 8000), (221, 22050), (1, 16000), (1, 8000)])
def test_frames_are_found_again_by_their_spans(hop, rate, original):
    grid = SampleGrid(hop, rate, original, 3 * original // 10 if hop > 1 else 400)
    frames = torch.arange(grid.count)
    assert grid.count == math.ceil(math.ceil(grid.length * rate / original) / hop)
    spans = grid.spans(frames, frames + 1)
    grid.check(spans, torch.zeros_like(frames), merged=False)
    # Frames shorter than a sample of the original share its span.
    ranks = torch.cat([torch.arange(int(n)) for n in spans.unique(dim=0, return_counts=True)[1]])
    assert torch.equal(grid.frames(spans)[:, 0] + ranks, frames)
    with pytest.raises(InvalidValue, match="must be those of frames"):
        grid.check(spans + 1, torch.zeros_like(frames), merged=False)


def test_tokens_on_top_of_each_other_are_refused_where_they_are_merged_too():
    grid = SampleGrid(160, 16000, 48000, 4800)
    books = torch.zeros(2, dtype=torch.long)
    spans = torch.tensor([[0, 960], [960, 4800]])
    grid.check(spans, books, merged=True)
    grid.check(spans[[1, 0]], books, merged=True)
    for wrong in ([[0, 1440], [960, 4800]], [[0, 960], [0, 960]], [[0, 960], [960, 5280]]):
        with pytest.raises(InvalidValue, match="must be those of frames"):
            grid.check(torch.tensor(wrong), books, merged=True)
        grid.check(torch.tensor(wrong[:1]), books[:1], merged=True)
    with pytest.raises(InvalidValue, match="must be those of frames"):
        SampleGrid(160, 16000, 90, 90).check(torch.tensor([[0, 2]]), books[:1], merged=True)


def test_what_could_not_come_back_is_not_encoded():
    @dataclass(frozen=True, kw_only=True)
    class Runs(Pcm):
        causal, merges = False, True

    method = AudioFrames(content=Runs())
    tokens = method.encode(noise(3, 16000))
    assert torch.equal(method.encode(method.decode(tokens)).ids, tokens.ids)
    with pytest.raises(InvalidValue, match="must have a sample for every frame, at a rate of at least 16000; got 8000"):
        method.encode(noise(100, 8000))


@pytest.mark.parametrize("rate", [*RATES, 1000, 7919, 96000, 191999])
@pytest.mark.parametrize("content", [SMALL, CODEC, "mu_law"])
def test_a_sound_of_few_frames_is_as_long_as_it_was(content, rate):
    """Ten milliseconds of 48 kHz are 480 samples, and 160 of 16 kHz; their spans alone would fit other rates."""
    method = AudioFrames(content=content).fit([clip("amiable")], progress=False)
    for length in {1, 2, rate // 100, rate // 50, rate // 30}:
        tokens = method.encode(noise(length, rate))
        samples = math.ceil(length * 16000 / rate)
        assert len(method.decode(tokens).samples) == samples
        last = replace(tokens, **{n: getattr(tokens, n)[-1:] for n in ("ids", "source", "spans", "modality")})
        assert len(method.decode(last).samples) == samples
        again = method.decode(method.placed(tokens.ids, (length, rate)))
        assert torch.equal(again.samples, method.decode(tokens).samples)
        (first, *_) = method.stream([noise(length, rate)])
        assert first.sources[0].size == (0, rate)


def test_the_rate_of_the_sound_must_be_said(method):
    tokens = method.encode(noise(480, 48000))
    for sources, source in (((), -1), ((Source("audio", None),), 0)):
        with pytest.raises(InvalidValue, match="must have a source that says how large the signal is"):
            method.decode(replace(tokens, sources=sources, source=torch.full_like(tokens.source, source)))
    for size in ((480,), (480, 0), (480, 1 << 30), (-1, 48000), (1 << 28, 48000), (1 << 27, 1000), (480, 48000, 1)):
        with pytest.raises(InvalidValue, match="size must be samples and a rate"):
            method.decode(replace(tokens, sources=(Source("audio", None, size=size),)))
    for size in ((479, 48000), (480, 44100)):
        with pytest.raises(InvalidValue, match="must be those of frames"):
            method.decode(replace(tokens, sources=(Source("audio", None, size=size),)))


@pytest.mark.parametrize("rate", RATES)
def test_missing_frames_are_silent_and_the_others_keep_their_place(rate):
    method = AudioFrames(content="pcm[bits=16]", rate=16000)
    sound = read_sound((chirp().samples[:8000], 16000), rate)
    tokens = method.encode(sound)
    there = (torch.arange(len(tokens)) < 1000) | (torch.arange(len(tokens)) >= 3000)
    part = replace(tokens, **{n: getattr(tokens, n)[there] for n in ("ids", "source", "spans", "modality")})
    whole, made = method.decode(tokens).samples, method.decode(part).samples
    assert len(made) == len(whole)
    assert not made[1002:2998].any()
    assert torch.equal(made[:998], whole[:998])
    assert torch.equal(made[3002:], whole[3002:])


@pytest.mark.parametrize("content", [SMALL, CODEC])
def test_missing_levels_are_a_coarser_sound_and_a_missing_first_one_is_silence(content):
    method = AudioFrames(content=content).fit([clip("amiable")])
    tokens = method.encode(clip("amiable"))
    levels = torch.arange(len(tokens)) % 3

    def kept(which):
        return replace(tokens, **{n: getattr(tokens, n)[which] for n in ("ids", "source", "spans", "modality")})

    coarse = method.decode(kept(levels == 0)).samples
    assert coarse.abs().max() > 0.01
    assert not torch.equal(coarse, method.decode(tokens).samples)
    assert torch.equal(method.decode(kept(levels != 1)).samples, coarse)
    assert not method.decode(kept(levels > 0)).samples.any()
