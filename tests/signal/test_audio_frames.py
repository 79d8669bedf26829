"""Audio frames and their contents: laws of the codes, what a frame reads, where it stands, and the way back."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank

from tokenry import AudioFrames, MelCodes
from tokenry.core.errors import Incompatible, InvalidValue, UnknownModel
from tokenry.core.learned import Unbuilt
from tokenry.core.sequence import TokenSequence
from tokenry.data import clip
from tokenry.data.sound import Sound, read_sound, write_sound
from tokenry.signal.parts.sound_content import MuLaw, Pcm
from tokenry.signal.sounds.frame_stream import BLOCK
from tokenry.signal.sounds.griffin_lim import griffin_lim
from tokenry.signal.sounds.mel import Mel, mel_bank
from tokenry.signal.sounds.resampling import Resampler

SMALL = "mel_codes[bands=24,quantizer=rvq[of=vq[codes=16],levels=3],iterations=4]"
CODEC = "codec[channels=2,latent=8,steps=1,batch=2,frames=4,speed=0.0001,quantizer=rvq[of=vq[codes=16],levels=3]]"
RATES = (8000, 11025, 16000, 22050, 44100, 48000)


def noise(length, rate=16000, seed=0):
    return Sound(0.2 * torch.randn(length, generator=torch.Generator().manual_seed(seed)).clamp(-4, 4), rate)


def chirp(seconds=2.0, rate=16000, peak=0.5):
    time = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    phase = 2 * math.pi * (200 * time + 600 * time.square())
    return Sound((peak * phase.sin()).float(), rate)


def decibels(signal, error):
    return float(10 * torch.log10(signal.double().square().mean() / error.double().square().mean()))


@pytest.fixture(scope="module")
def method():
    return AudioFrames(content=SMALL).fit([clip("amiable")])


# Samples.


def test_every_level_of_mu_law_is_its_own_code_and_small_ones_are_finer():
    codes = torch.arange(256).unsqueeze(1)
    levels = MuLaw().sound(codes, 8000)
    assert torch.equal(MuLaw().codes(levels, 8000), codes)
    assert levels[0] == -1
    assert levels[-1] == 1
    steps = levels.diff()
    assert (steps > 0).all()
    assert steps[127] < steps[254] / 200


@pytest.mark.parametrize("bits", range(1, 17))
def test_a_bit_of_pcm_is_worth_six_decibels(bits):
    # The middles of 2^21 equal parts of [-1, 1]: all values equally frequent.
    x = (torch.arange(1 << 21, dtype=torch.float64) + 0.5) / (1 << 20) - 1
    content = Pcm(bits=bits)
    codes = content.codes(x, 16000)
    back = content.sound(codes, 16000)
    assert torch.equal(content.codes(back, 16000), codes)
    assert decibels(x, x - back) == pytest.approx(20 * math.log10(2) * bits, abs=0.01)
    assert float((x - back).abs().max()) <= 2.0**-bits


def test_a_chirp_in_pcm():
    tone = chirp(peak=0.5)
    for bits, wanted in ((16, 92), (8, 44), (4, 20), (2, 6)):
        method = AudioFrames(content=f"pcm[bits={bits}]")
        back = method.decode(method.encode(tone))
        assert decibels(tone.samples, tone.samples - back.samples) == pytest.approx(wanted, abs=1.0)


@pytest.mark.parametrize("content", ["mu_law", "pcm[bits=5]"])
def test_samples_beyond_one_are_clipped_and_decoding_is_idempotent(content):
    method = AudioFrames(content=content)
    loud = Sound(torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.5]), 16000)
    tokens = method.encode(loud)
    assert int(tokens.ids.min()) == 0
    assert int(tokens.ids.max()) == method.vocab_size - 1
    sound = noise(5000)
    once = method.decode(method.encode(sound))
    assert torch.equal(method.encode(once).ids, method.encode(sound).ids)
    assert torch.equal(method.decode(method.encode(once)).samples, once.samples)


# Frames.


@pytest.mark.parametrize(("bands", "rate", "fft"), [(64, 8000, 256), (80, 16000, 512), (64, 44100, 2048)])
def test_the_mel_bank_is_the_published_one(bands, rate, fft):
    known = mel_filter_bank(fft // 2 + 1, bands, 60.0, rate / 2, rate, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mel_bank(bands, rate, fft).T.numpy(), known, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("length", [1, 7, 159, 160, 161, 4001])
def test_as_many_frames_as_are_begun_whose_spans_partition_the_sound(method, rate, length):
    tokens = method.encode(noise(length, rate))
    samples = math.ceil(length * 16000 / rate)
    frames = math.ceil(samples / 160)
    assert len(tokens) == 3 * frames
    spans = tokens.spans.view(frames, 3, 6)
    assert (spans == spans[:, :1]).all()
    assert not spans[..., 2:].any()
    starts, ends = spans[:, 0, 0], spans[:, 0, 1]
    assert int(starts[0]) == 0
    assert int(ends[-1]) == length
    assert torch.equal(starts[1:], ends[:-1])
    assert (ends > starts).all()
    assert len(method.decode(tokens).samples) == samples


def test_codebooks_have_ids_of_their_own_frame_after_frame(method):
    ids = method.encode(clip("amiable")).ids.view(-1, 3)
    for book in range(3):
        assert ((ids[:, book] >= 16 * book) & (ids[:, book] < 16 * (book + 1))).all()
    assert method.vocab_size == 48


@pytest.mark.parametrize("content", [SMALL, CODEC, "mu_law"])
def test_a_frame_reads_nothing_behind_it(content):
    method = AudioFrames(content=content).fit([clip("amiable")])
    sound = clip("amiable")
    hop = method.content.hop(16000)
    books = len(method.content.codebook_sizes)
    ids = method.encode(sound).ids.view(-1, books)
    for frame in (0, 1, 50, 51, 101, 102, 103, 150):
        changed = sound.samples.clone()
        changed[(frame + 1) * hop :] = noise(len(changed), seed=frame).samples[(frame + 1) * hop :]
        again = method.encode(Sound(changed, 16000)).ids.view(-1, books)
        assert torch.equal(again[: frame + 1], ids[: frame + 1])
        assert not torch.equal(again, ids)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("content", [SMALL, CODEC, "mu_law"])
def test_a_stream_gives_the_tokens_of_the_whole(content, rate):
    method = AudioFrames(content=content).fit([clip("amiable")])
    sound = read_sound((clip("amiable").samples[:40000], 16000), rate)
    whole = method.encode(sound)
    drawn = random.Random(rate)
    for longest in (1, 50, 3 * BLOCK):
        pieces, at = [], 0
        while at < len(sound.samples):
            size = drawn.randint(1, longest) if longest > 1 else 4999
            pieces.append(Sound(sound.samples[at : at + size].clone(), rate))
            at += size
            if longest == 50 and len(pieces) == 60:
                longest = 20000
        joined = TokenSequence.joined(list(method.stream(pieces)))
        assert torch.equal(joined.ids, whole.ids)
        assert torch.equal(joined.spans, whole.spans)
        assert {(source.data, source.size) for source in joined.sources} == {(None, (0, rate))}
        assert len(method.decode(joined).samples) == len(method.decode(whole).samples)


def test_a_stream_gives_frames_as_soon_as_they_are_whole(method):
    sound = clip("amiable")

    def pieces():
        for i in range(20):
            sent.append(i)
            yield Sound(sound.samples[i * 160 : (i + 1) * 160].clone(), 16000)

    sent = []
    for i, tokens in enumerate(method.stream(pieces())):
        assert len(sent) == i + 1
        assert tokens.spans[:, :2].tolist() == [[160 * i, 160 * (i + 1)]] * 3


@pytest.mark.parametrize("rate", RATES)
def test_pieces_are_resampled_as_the_whole(rate):
    sound = noise(5000, rate)
    resampler = Resampler(rate, 16000)
    made = torch.cat([*(resampler.feed(part) for part in sound.samples.split(333)), resampler.finish()])
    assert torch.equal(made, read_sound((sound.samples, rate), 16000).samples)


# The way back.


def test_magnitudes_explain_the_bands():
    how = Mel(16000, 400, 160, 64)
    frames = how.frames(how.framed(clip("amiable").samples))
    magnitudes = how.magnitudes(frames)
    assert (magnitudes >= 0).all()
    again = (magnitudes.square() @ how.bank.T + 1e-6).log()
    assert (again - frames).square().mean().sqrt() < 0.02
    assert not how.magnitudes(torch.full((2, 64), math.log(1e-6))).any()


def test_mel_codes_are_of_frames_about_their_mean(method):
    content, samples = method.content, clip("amiable").samples
    how = Mel(16000, 400, 160, 24)
    frames = how.frames(how.framed(samples))
    torch.testing.assert_close(content.mean, frames.mean(0))
    codes = method.encode(clip("amiable")).ids.view(-1, 3) - torch.tensor([0, 16, 32])
    left = frames - content.quantizer.dequantize(codes) - content.mean
    assert left.square().mean() < 0.15 * (frames - frames.mean(0)).square().mean()


def test_griffin_lim_finds_a_wave_with_these_magnitudes():
    how = Mel(16000, 400, 160, 64)
    tone = chirp(1.0)
    wanted = how.spectra(how.framed(tone.samples)).abs()
    errors = []
    for iterations in (1, 8, 32):
        found = griffin_lim(wanted, how, iterations)
        assert len(found) == len(tone.samples)
        errors.append(float((how.spectra(how.framed(found)).abs() - wanted).norm() / wanted.norm()))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.12
    assert torch.equal(griffin_lim(wanted, how, 8), griffin_lim(wanted, how, 8))
    assert griffin_lim(wanted[:0], how, 8).shape == (0,)
    assert not griffin_lim(torch.zeros(5, 257), how, 8).any()


def test_files_go_in_and_come_back(method, tmp_path):
    sound = clip("amiable")
    tokens = method.encode(sound)
    for suffix, exact in ((".wav", True), (".flac", False)):
        write_sound(sound, tmp_path / f"a{suffix}")
        ids = method.encode(read_sound(tmp_path / f"a{suffix}")).ids
        assert torch.equal(ids, tokens.ids) if exact else (ids == tokens.ids).float().mean() > 0.99
    write_sound(method.decode(tokens), tmp_path / "back.wav")
    assert len(read_sound(tmp_path / "back.wav").samples) == len(sound.samples)


# What is refused.


def test_what_cannot_be_is_refused(method):
    with pytest.raises(InvalidValue, match="open it with read_sound"):
        method.encode(torch.zeros(100))
    with pytest.raises(InvalidValue, match="open it with read_sound"):
        list(method.stream([noise(100), None]))
    with pytest.raises(InvalidValue, match="pieces must be of one rate; got 16000 and 8000"):
        list(method.stream([noise(100), noise(100, 8000)]))
    assert list(method.stream([])) == []
    with pytest.raises(InvalidValue, match="window must be at least the hop"):
        AudioFrames(content="mel_codes[window_ms=5]").fit([noise(1000)])
    with pytest.raises(InvalidValue, match="each must hold a bin"):
        AudioFrames(rate=8000, content="mel_codes[bands=200]").fit([noise(1000, 8000)])
    with pytest.raises(InvalidValue, match="width must be its 64 bands; got 63"):
        AudioFrames().build(width=63)
    with pytest.raises(Unbuilt, match="fitted"):
        AudioFrames().build(width=64).encode(noise(1000))
    with pytest.raises(InvalidValue, match="one codebook; rvq has 8"):
        AudioFrames(content="units[quantizer=rvq]")
    with pytest.raises(InvalidValue, match="content must be one of"):
        AudioFrames(content="restart")
    with pytest.raises(InvalidValue, match="bits must be in"):
        AudioFrames(content="pcm[bits=17]")


def test_tokens_of_other_tokenizers_are_refused(method):
    tokens = method.encode(noise(4000))
    with pytest.raises(InvalidValue, match="must be those of frames of 160 samples"):
        method.decode(replace(tokens, spans=tokens.spans + 1))
    coarse = AudioFrames(content=MelCodes(window_ms=32, hop_ms=16, bands=24, quantizer=method.content.quantizer.of))
    with pytest.raises(InvalidValue, match="ids must be"):
        coarse.fit([noise(4000)]).decode(replace(tokens, ids=tokens.ids + 16))
    with pytest.raises(InvalidValue, match="must be of one signal; got several sources"):
        method.decode(TokenSequence.joined([tokens, method.encode(noise(4000))]))
    with pytest.raises(InvalidValue, match="each with one token of a codebook"):
        method.decode(TokenSequence.joined([tokens, tokens]))


@pytest.mark.parametrize("content", [SMALL, CODEC])
def test_samples_too_loud_for_32_bit_floats_are_refused(content):
    method = AudioFrames(content=content).fit([clip("amiable")], progress=False)
    loud = noise(2000)
    assert len(method.encode(Sound(loud.samples * 1e6, 16000))) > 0
    for refused in (method.encode, lambda sound: AudioFrames(content=content).fit([sound], progress=False)):
        with pytest.raises(InvalidValue, match="vectors must be finite"):
            refused(Sound(loud.samples * 1e36, 16000))


def test_only_fit_learns(method):
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.train()
    method.encode(noise(4000))
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())


# Units.


@pytest.fixture(scope="module")
def units():
    try:
        return AudioFrames(content="units[quantizer=vq[codes=40],iterations=8]").fit([clip("amiable")])
    except UnknownModel as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_units_are_runs_of_the_encoders_frames(units, tmp_path):
    sound = clip("amiable")
    tokens = units.encode(sound)
    codes = units.content.codes(sound.samples, 16000)[:, 0]
    assert (tokens.ids[1:] != tokens.ids[:-1]).all()
    assert len(tokens) < len(codes)
    lengths = (tokens.spans[:, 1] - tokens.spans[:, 0] + 319) // 320
    assert torch.equal(tokens.ids.repeat_interleave(lengths), codes)
    back = units.decode(tokens)
    assert len(back.samples) == len(sound.samples)
    units.save(tmp_path / "units")
    assert torch.equal(AudioFrames.load(tmp_path / "units").decode(tokens).samples, back.samples)


@pytest.mark.slow
@pytest.mark.parametrize("rate", [8000, 44100])
def test_units_of_other_rates(units, rate):
    sound = read_sound((clip("amiable").samples, 16000), rate)
    tokens = units.encode(sound)
    assert int(tokens.spans[-1, 1]) == len(sound.samples)
    assert torch.equal(tokens.spans[1:, 0], tokens.spans[:-1, 1])
    assert len(units.decode(tokens).samples) == math.ceil(len(sound.samples) * 16000 / rate)
    assert len(units.decode(units.encode(Sound(torch.zeros(1), rate))).samples) >= 1


@pytest.mark.slow
def test_units_need_the_whole_sound_at_their_rate(units):
    with pytest.raises(Incompatible, match="must be causal; units reads the whole sound"):
        units.stream([clip("amiable")])
    with pytest.raises(InvalidValue, match="rate must be 16000"):
        AudioFrames(rate=8000, content="units").fit([clip("amiable")])
