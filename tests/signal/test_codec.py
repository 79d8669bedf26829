"""The codec: what a frame reads and writes, its losses, and that it learns to give sounds back where they were."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import l1_loss, pad

from tokenry import AudioFrames
from tokenry.core.errors import InvalidValue
from tokenry.core.learned import Unbuilt
from tokenry.data.sound import Sound
from tokenry.quantize.vq import VQ
from tokenry.signal.coding.convolutions import KERNEL, Decoder, Encoder, Residual, past_of, reach_of, widths
from tokenry.signal.coding.spectral_loss import FLOOR, WINDOWS, spectral_loss
from tokenry.signal.coding.training import Lessons, crops, loss_of, rate_at
from tokenry.signal.parts import codec as codec_module
from tokenry.signal.parts.codec import Codec

SMALL = {"channels": 2, "latent": 8, "steps": 6, "batch": 2, "frames": 4, "speed": 1e-4}
STRIDES = ((2, 4, 5, 8), (3,), (2, 3), (1, 4, 2))


def voice(seconds=2.0, rate=8000):
    """Tones that come and go."""
    time = torch.arange(int(seconds * rate)) / rate
    return Sound(0.4 * (2 * math.pi * 220 * time).sin() * (2 * math.pi * 1.5 * time).sin(), rate)


def stirred(layers):
    """With weights of which none is zero."""
    with torch.no_grad():
        for weight in layers.parameters():
            weight.normal_(std=0.3)
    return layers


@pytest.fixture(scope="module")
def method():
    return AudioFrames(rate=8000, content=Codec(**SMALL, quantizer="rvq[of=vq[codes=16],levels=3]")).fit([voice()])


# What is read and what is made.


@pytest.mark.parametrize("strides", STRIDES)
def test_a_frame_is_of_its_own_samples_and_of_as_many_before_as_it_says(strides):
    encoder, hop, reach = stirred(Encoder(strides, widths(strides, 2, 4), 3)), math.prod(strides), reach_of(strides)
    samples = torch.randn(1, reach + 6 * hop, requires_grad=True)
    frames = encoder(samples)
    assert frames.shape == (1, 6, 3)
    (slope,) = torch.autograd.grad(frames[0, 3].sum(), samples)
    read = slope[0].nonzero()[:, 0]
    assert (int(read[0]), int(read[-1])) == (3 * hop, reach + 4 * hop - 1)


@pytest.mark.parametrize("strides", STRIDES)
def test_samples_are_made_of_their_own_frame_and_of_as_many_before_as_it_says(strides):
    decoder, hop, past = stirred(Decoder(strides, widths(strides, 2, 4), 3)), math.prod(strides), past_of(strides)
    frames = torch.randn(1, past + 6, 3, requires_grad=True)
    samples = decoder(frames)
    assert samples.shape == (1, 6 * hop)
    made_of = []
    for sample in samples[0, 3 * hop : 4 * hop]:
        (slope,) = torch.autograd.grad(sample, frames, retain_graph=True)
        read = slope[0].abs().sum(1).nonzero()[:, 0]
        assert int(read[-1]) == past + 3
        made_of.append(int(read[0]))
    assert min(made_of) == 3


def test_a_fresh_residual_unit_adds_nothing_to_its_last_places():
    encoder = Encoder((2, 4), widths((2, 4), 4, 8), 3)
    unit = next(layer for layer in encoder.layers if isinstance(layer, Residual))
    x = torch.randn(1, 4, 20)
    assert torch.equal(unit(x), x[..., KERNEL - 1 :])


def test_fresh_networks_keep_how_much_things_vary():
    strides = (2, 4, 5, 8)
    wide = widths(strides, 16, 512)
    assert wide == [1, 16, 32, 64, 128]
    encoder, decoder = Encoder(strides, wide, 64), Decoder(strides, wide, 64)
    with torch.no_grad():
        frames = encoder(torch.randn(1, encoder.reach + 40 * encoder.hop))
        samples = decoder(torch.randn(1, decoder.past + 40, 64))
    for found in (frames, samples):
        assert 0.2 < float(found.std()) < 2
        assert abs(float(found.mean())) < 0.2


@pytest.mark.parametrize("rate", [8000, 11025, 16000])
@pytest.mark.parametrize("length", [1, 319, 320, 321, 20001])
def test_as_many_codes_as_frames_are_begun(method, rate, length):
    tokens = method.encode(Sound(torch.ones(length) * 0.1, rate))
    assert len(tokens) == 3 * math.ceil(math.ceil(length * 8000 / rate) / 320)
    assert len(tokens) == method.count((length, rate))
    assert int(tokens.spans[-1, 1]) == length


def test_tokens_are_the_codes_of_what_the_encoder_gives_after_silence(method):
    content, samples = method.content, voice().samples[:9999]
    with torch.no_grad():
        frames = content.encoder(pad(samples, (content.encoder.reach, -9999 % 320)).unsqueeze(0))
    codes = content.quantizer.quantize(frames[0]).codes
    assert torch.equal(method.encode(Sound(samples, 8000)).ids.view(-1, 3), codes + torch.tensor([0, 16, 32]))


def test_the_published_strides_give_25_frames_a_second_of_8_bytes():
    content = Codec()
    assert content.hop(8000) == 320
    assert content.codebook_sizes == (256,) * 8


def test_long_sounds_are_decoded_in_parts(method, monkeypatch):
    tokens = method.encode(voice())
    whole = method.decode(tokens).samples
    for together in (1, 7):
        monkeypatch.setattr(codec_module, "TOGETHER", together)
        assert (method.decode(tokens).samples - whole).abs().max() < 1e-5


@pytest.mark.parametrize("quantizer", ["fsq[levels=5+5]", "vq[codes=16]", "pq[of=vq[codes=4],blocks=2]"])
def test_any_quantizer_will_do(quantizer):
    method = AudioFrames(rate=8000, content=Codec(**SMALL | {"latent": 2}, quantizer=quantizer))
    back = method.fit([voice()], progress=False).decode(method.encode(voice()))
    assert back.samples.isfinite().all()
    assert len(back.samples) == 16000


# How it learns.


def test_equal_sounds_have_no_spectral_loss_and_it_is_the_published_one():
    one, other = (torch.randn(2, 3000, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    assert float(spectral_loss(one, one)) == 0
    wanted = 0.0
    for window in WINDOWS:
        a, b = (
            torch.stft(x, window, window // 4, window=torch.hann_window(window), center=False, return_complex=True)
            .abs()
            for x in (one, other)
        )  # fmt: skip
        wanted += float((a - b).norm() / b.norm() + l1_loss((a + FLOOR).log(), (b + FLOOR).log())) / len(WINDOWS)
    assert float(spectral_loss(one, other)) == pytest.approx(wanted, rel=1e-4)


def test_silence_and_single_samples_have_slopes():
    for wanted in (torch.zeros(1, 1000), torch.ones(1, 1)):
        made = torch.zeros_like(wanted, requires_grad=True)
        spectral_loss(made, wanted).backward()
        assert made.grad.isfinite().all()


@torch.no_grad()
def test_the_loss_is_of_spectra_samples_and_codes():
    strides = (2, 4)
    encoder, decoder = (stirred(kind(strides, widths(strides, 2, 4), 3)) for kind in (Encoder, Decoder))
    given = torch.randn(2, encoder.reach + 5 * encoder.hop, generator=torch.Generator().manual_seed(0))
    wanted = given[:, encoder.reach :]
    quantizer = VQ(codes=4).fit(encoder(given).detach().flatten(0, 1))
    for found, whole in (
        (encoder(given), loss_of(encoder, decoder, None, given, 3.0)),
        (quantizer.eval().quantize(encoder(given)).values, loss_of(encoder, decoder, quantizer.eval(), given, 3.0)),
    ):
        made = decoder(pad(found, (0, 0, decoder.past, 0)))
        parts = spectral_loss(made, wanted), l1_loss(made, wanted)
        assert min(map(float, parts)) > 0.1
        assert float(whole) == pytest.approx(float(parts[0] + 3 * parts[1]), rel=1e-5)
    before = float(whole)
    distance = 0.25 * float((encoder(given) - found).square().mean())
    assert distance > 0
    assert float(loss_of(encoder, decoder, quantizer.train(), given, 3.0)) == pytest.approx(before + distance, rel=1e-4)


def test_crops_are_pieces_of_the_sounds_with_what_stands_before():
    encoder = Encoder((2, 3), widths((2, 3), 2, 4), 3)
    lessons = Lessons(steps=10, batch=50, frames=4, rate=1.0, wave=1.0)
    sounds = [torch.arange(1.0, 40.0), torch.arange(100.0, 150.0)]
    draw, between = crops(sounds, encoder, lessons, seed=0), 0
    for row in draw():
        assert len(row) == encoder.reach + 4 * encoder.hop
        steps = row.diff()[(row[1:] != 0) & (row[:-1] != 0)]
        assert (steps == 1).all()
        if 39.0 in row and 100.0 in row:
            assert int((row == 100).nonzero()) - int((row == 39).nonzero()) > encoder.reach
            between += 1
    assert between > 0
    again = crops(sounds, encoder, lessons, seed=0)
    other = crops(sounds, encoder, lessons, seed=1)
    first = again()
    assert not torch.equal(first, other())
    assert not torch.equal(first, again())


def test_the_rate_rises_and_falls():
    lessons = Lessons(steps=100, batch=1, frames=1, rate=0.5, wave=1.0)
    rates = [rate_at(step, lessons) for step in range(100)]
    assert rates[0] < 0.03
    assert 0.4 < max(rates) <= 0.5
    assert rates.index(max(rates)) == 19
    assert rates[19:] == sorted(rates[19:], reverse=True)
    assert rates[-1] < 0.02


def test_all_three_learn_and_other_seeds_learn_otherwise():
    def trained(steps, seed=0):
        content = Codec(**SMALL | {"steps": steps}, quantizer="rvq[of=vq[codes=16],levels=2]")
        return AudioFrames(rate=8000, content=content).fit([voice()], seed=seed, progress=False).state_dict()

    few, more, other = trained(6), trained(8), trained(6, seed=1)
    for name in few:
        if name.endswith(("weight", "bias", "table")):
            assert not torch.equal(few[name], more[name]), name
            assert not torch.equal(few[name], other[name]), name


def test_the_bar_can_be_left_out(capfd):
    AudioFrames(rate=8000, content=Codec(**SMALL, quantizer="vq[codes=4]")).fit([voice()], progress=False)
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.claim
def test_it_gives_a_sound_back_where_it_was_and_random_codes_do_not():
    content = Codec(channels=8, latent=16, steps=300, batch=4, frames=12, quantizer="rvq[of=vq[codes=64],levels=4]")
    sound = voice(8.0)
    method = AudioFrames(rate=8000, content=content).fit([sound], progress=False)
    tokens = method.encode(sound)
    back = method.decode(tokens).samples
    assert decibels(sound.samples, back) > 8
    lags = range(-40, 41)
    likeness = [float((sound.samples * back.roll(-lag)).sum()) for lag in lags]
    assert lags[max(range(len(lags)), key=likeness.__getitem__)] == 0
    drawn = torch.randint(64, tokens.ids.shape, generator=torch.Generator().manual_seed(0))
    tokens.ids.copy_(drawn + torch.arange(4).repeat(len(tokens) // 4) * 64)
    assert decibels(sound.samples, method.decode(tokens).samples) < 0


def decibels(wanted, made):
    """SI-SNR."""
    scaled = wanted * (made @ wanted) / (wanted @ wanted)
    return float(10 * torch.log10(scaled.square().sum() / (made - scaled).square().sum()))


# What is refused.


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidValue, match=r"strides must be .* whose product is at most 4096"):
        Codec(strides=(16, 16, 17))
    with pytest.raises(InvalidValue, match="strides must be"):
        Codec(strides=(16, 16, 16, 2))
    with pytest.raises(InvalidValue, match="width must be its 64 numbers of a frame; got 63"):
        Codec().build(width=63)
    with pytest.raises(InvalidValue, match="layers must have at most"):
        Codec(latent=1 << 20).build(width=1 << 20)
    with pytest.raises(Unbuilt, match="fitted"):
        AudioFrames(content=Codec()).encode(voice())
