"""Sounds are read exactly, resampled to an exact length, and refused when they are not whole."""

from __future__ import annotations

import io
import os
import random
import resource
import struct
import sys

import numpy as np
import pytest
import soundfile
import torch

import tokenry.data as data
from tokenry.core.errors import InvalidValue, StorageError, UnreadableInput
from tokenry.data.sound import MOST_SAMPLES, STEEPEST, Sound, read_sound, write_sound
from tokenry.data.sound_file import HIGHEST_RATE
from tokenry.data.video import Video

SPEECH = data.clip("amiable").samples[12_000:16_000].clone()
EXACT = [("WAV", "PCM_16", 16), ("WAVEX", "PCM_24", 24), ("FLAC", "PCM_16", 16), ("FLAC", "PCM_24", 24)]
LOSSY = [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("WAV", "ALAW"), ("WAV", "PCM_U8")]
KINDS = [*((kind, coding) for kind, coding, _ in EXACT), *LOSSY, ("WAV", "FLOAT")]


def encoded(samples=SPEECH, rate=16_000, kind="WAV", coding="PCM_16"):
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples), rate, coding, format=kind)
    return file.getvalue()


def wav(body, *, rate=16_000, channels=1, bits=16, form=1, promised=None, before=b""):
    """A WAV made by hand."""
    step = channels * bits // 8
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, form, channels, rate, (rate * step) % (1 << 32), step, bits)
    rest = b"WAVE" + header + before + b"data" + struct.pack("<I", len(body) if promised is None else promised)
    return b"RIFF" + struct.pack("<I", len(rest) + len(body)) + rest + body


def flac_that_promises(total):
    file = bytearray(encoded(kind="FLAC"))
    first = int.from_bytes(file[18:26], "big")
    file[18:26] = (first >> 36 << 36 | total).to_bytes(8, "big")
    return bytes(file)


@pytest.mark.parametrize(("kind", "coding", "bits"), EXACT)
def test_whole_numbers_are_divided_exactly(kind, coding, bits):
    levels = np.random.default_rng(0).integers(-(1 << bits - 1), 1 << bits - 1, 500)
    levels[:2] = -(1 << bits - 1), (1 << bits - 1) - 1
    file = encoded((levels << 32 - bits).astype(np.int32), 44_100, kind, coding)
    read = read_sound(file)
    assert read.rate == 44_100
    assert torch.equal(read.samples.double(), torch.from_numpy(levels / (1 << bits - 1)))


def test_8_bits_and_floats_are_exact():
    assert read_sound(wav(bytes([0, 64, 128, 255]), bits=8)).samples.tolist() == [-1, -0.5, 0, 127 / 128]
    peaks = np.array([-3.5, 1e-9, 2.0], "<f4")
    assert read_sound(wav(peaks.tobytes(), bits=32, form=3)).samples.tolist() == peaks.tolist()
    assert read_sound(wav(peaks.astype("<f8").tobytes(), bits=64, form=3)).samples.tolist() == peaks.tolist()


@pytest.mark.parametrize(("kind", "coding"), LOSSY)
def test_lossy_files_are_close(kind, coding):
    tone = torch.sin(torch.arange(16_000) * 0.1) / 2
    read = read_sound(encoded(tone, kind=kind, coding=coding))
    assert (read.rate, len(read.samples)) == (16_000, 16_000)
    assert (read.samples - tone)[1000:-1000].square().mean().sqrt() < 0.02


def test_every_kind_of_source_gives_the_same(tmp_path):
    file = tmp_path / "a sound.mp3"
    file.write_bytes(encoded(kind="FLAC"))
    pairs = ((SPEECH, 16_000), (SPEECH.double().numpy(), 16_000), (SPEECH.numpy().astype(">f4"), 16_000))
    for source in (file, str(file), file.read_bytes(), bytearray(file.read_bytes()), *pairs):
        read = read_sound(source)
        assert read.samples.dtype == torch.float32
        assert read.rate == 16_000
        assert read.seconds == 0.25
        assert torch.equal(read.samples, SPEECH)
    assert read_sound(file).name == "a sound.mp3"
    assert torch.equal(read_sound(((SPEECH * 2).requires_grad_()[::2], 5)).samples, SPEECH[::2] * 2)


def test_samples_are_copied():
    mine = SPEECH.clone()
    rows = mine.numpy().copy()
    first, second = read_sound((mine, 16_000)), read_sound((rows, 16_000))
    mine[:], rows[:] = 0, 0
    assert torch.equal(first.samples, SPEECH)
    assert torch.equal(second.samples, SPEECH)


@pytest.mark.parametrize("channels", [2, 3, 8])
def test_channels_are_averaged(channels):
    levels = np.random.default_rng(1).integers(-32768, 32768, (300, channels))
    read = read_sound(encoded(levels.astype(np.int16), kind="FLAC"))
    assert torch.allclose(read.samples.double(), torch.from_numpy(levels.mean(1) / 32768), atol=1e-7, rtol=0)
    opposite = np.stack([SPEECH, -SPEECH], 1)
    assert read_sound(encoded(opposite, coding="FLOAT")).samples.abs().max() == 0


@pytest.mark.parametrize(("kind", "coding"), KINDS)
def test_every_truncation_is_refused(kind, coding):
    file = encoded(kind=kind, coding=coding)
    assert len(read_sound(file).samples) == len(SPEECH)
    for n in sorted({0, 1, 11, 12, 43, 44, len(file) - 1, *range(0, len(file), len(file) // 40)}):
        with pytest.raises(UnreadableInput, match="sound: must be"):
            read_sound(file[:n])


@pytest.mark.parametrize(("kind", "coding"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
def test_every_damage_is_refused_where_there_are_checksums(kind, coding):
    file, draw = encoded(kind=kind, coding=coding), random.Random(0)
    whole, refused = read_sound(file), 0
    for _ in range(150):
        damaged = bytearray(file)
        damaged[draw.randrange(len(file))] ^= 1 << draw.randrange(8)
        try:
            assert torch.equal(read_sound(bytes(damaged)).samples, whole.samples)
        except UnreadableInput:
            refused += 1
    assert refused > 140


@pytest.mark.parametrize(("kind", "coding"), KINDS)
def test_damage_raises_nothing_else(kind, coding):
    file, draw = encoded(kind=kind, coding=coding), random.Random(2)
    for _ in range(100):
        damaged = bytearray(file)
        for _ in range(draw.choice((1, 3, 30))):
            damaged[draw.randrange(len(file) if draw.random() < 0.3 else 80)] = draw.randrange(256)
        try:
            assert read_sound(bytes(damaged), most=1 << 20).seconds > 0
        except UnreadableInput:
            continue


@pytest.mark.parametrize("file", [b"", b"hello", b"\0" * 500, b"\xff\xfb" * 900, random.Random(0).randbytes(5000)])
def test_what_is_no_sound_is_refused(file):
    with pytest.raises(UnreadableInput, match="sound: must be"):
        read_sound(file)


@pytest.mark.parametrize("kind", ["AIFF", "AU", "CAF", "RF64", "VOC"])
def test_formats_whose_truncation_would_not_be_seen_are_refused(kind):
    with pytest.raises(UnreadableInput, match=r"sound: must be a WAV, FLAC, Ogg or MP3 file; .*; convert it to WAV"):
        read_sound(encoded(kind=kind))


def test_an_mp3_must_say_how_long_it_is():
    file = encoded(SPEECH.repeat(8), kind="MP3", coding="MPEG_LAYER_III")
    second = file.index(file[:2], 2)
    with pytest.raises(UnreadableInput, match=r"must be one whole sound; it does not say how long it is; .*convert it"):
        read_sound(file[second:])
    tag = b"ID3\4\0\0" + bytes([0, 0, 2, 0]) + bytes(256)
    assert len(read_sound(tag + file).samples) == 8 * len(SPEECH)


def test_two_joined_oggs_are_refused():
    file = encoded(kind="OGG", coding="VORBIS")
    with pytest.raises(UnreadableInput, match="it goes on behind its last page"):
        read_sound(file + encoded(SPEECH[:1000], kind="OGG", coding="VORBIS"))


def test_other_chunks_of_a_wav():
    body = (SPEECH * 32768).short().numpy().tobytes()
    assert torch.equal(read_sound(wav(body, before=b"LIST\x03\0\0\0abc\0")).samples, SPEECH)
    assert torch.equal(read_sound(wav(body, promised=0xFFFFFFFF)).samples, SPEECH), "written to a pipe"
    with pytest.raises(UnreadableInput, match="it has no samples near its beginning"):
        read_sound(wav(body, before=b"junk\0\0\0\0" * 1001))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_samples_that_are_not_finite_are_refused(wrong):
    samples = SPEECH.clone()
    samples[7] = wrong
    with pytest.raises(UnreadableInput, match=r"sound: must have finite samples; got NaN or infinity"):
        read_sound(encoded(samples, coding="FLOAT"))
    for source in ((samples, 8000), (samples.numpy(), 8000)):
        with pytest.raises(InvalidValue, match=r"samples: must be finite; got NaN or infinity; replace such samples"):
            read_sound(source)
    with pytest.raises(InvalidValue, match="must be finite"):
        read_sound((np.array([1e300]), 8000))


def test_empty_sounds_are_refused():
    for file in (encoded(SPEECH[:0]), wav(b"")):
        with pytest.raises(UnreadableInput, match=r"sound: must have at least one sample; got none"):
            read_sound(file)
    with pytest.raises(UnreadableInput, match="sound: must"):
        read_sound(encoded(SPEECH[:0], kind="FLAC"))
    with pytest.raises(InvalidValue, match=r"samples: must have shape \(T,\) with T from 1; got \(0,\)"):
        read_sound((SPEECH[:0], 8000))


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_one_sample_is_fine(kind):
    read = read_sound(encoded(SPEECH[900:901], kind=kind))
    assert torch.equal(read.samples, SPEECH[900:901])
    assert read.seconds == 1 / 16_000


@pytest.mark.parametrize("source", [(torch.zeros(2, 5), 8000), (np.zeros((5, 2)), 8000), (torch.zeros(()), 8000)])
def test_other_shapes_are_refused(source):
    with pytest.raises(InvalidValue, match=r"samples: must have shape \(T,\) with T from 1; .* average the channels"):
        read_sound(source)


def test_other_types_are_refused():
    for samples in (np.zeros(5, "int16"), torch.zeros(5, dtype=torch.long), np.zeros(5, "complex64")):
        with pytest.raises(InvalidValue, match=r"samples: must be floats, .*; divide 16-bit numbers by 32768"):
            read_sound((samples, 8000))
    for source, got in (((1, 2, 3), "another tuple"), (([0.5], 8000), "another tuple"), ([0.5], "got list")):
        with pytest.raises(InvalidValue, match=got):
            read_sound(source)
    with pytest.raises(InvalidValue, match=r"cough: must be float32; got torch\.float64; open it with read_sound"):
        Sound(torch.zeros(3).double(), 8000, "cough")


@pytest.mark.parametrize("total", [MOST_SAMPLES + 1, (1 << 36) - 1])
def test_headers_that_promise_hours_are_refused(total):
    with pytest.raises(
        UnreadableInput, match=rf"must have at most {MOST_SAMPLES} samples; got {total} x 1; raise most="
    ):
        read_sound(flac_that_promises(total))


def test_other_lies_of_headers():
    with pytest.raises(UnreadableInput, match="it ends before all its samples"):
        read_sound(wav(b"\0\0" * 100, promised=0x7FFFFFF0))
    with pytest.raises(UnreadableInput, match=r"sound: must"):
        read_sound(flac_that_promises(5000))
    with pytest.raises(UnreadableInput, match="it does not say how long it is"):
        read_sound(flac_that_promises(0))


def test_the_bound_counts_all_channels_and_is_an_argument():
    file = encoded(np.stack([SPEECH, SPEECH], 1))
    with pytest.raises(UnreadableInput, match=r"at most 7999 samples; got 4000 x 2; raise most="):
        read_sound(file, most=7999)
    assert len(read_sound(file, most=8000).samples) == 4000


@pytest.mark.parametrize("rate", [1, 7, 8000, 44_100, 96_000, HIGHEST_RATE])
def test_rates_from_one_to_the_highest(rate, tmp_path):
    assert read_sound(encoded(rate=rate)).rate == rate
    assert read_sound((SPEECH, rate)).rate == rate
    sound = Sound(SPEECH, rate)
    assert sound.seconds == 4000 / rate
    write_sound(sound, tmp_path / "a.wav")
    assert read_sound(tmp_path / "a.wav").rate == rate


@pytest.mark.parametrize("rate", [0, -1, HIGHEST_RATE + 1, 1.5, True, "8000"])
def test_other_rates_are_refused(rate):
    for call in (lambda: read_sound((SPEECH, rate)), lambda: read_sound((SPEECH, 8000), rate=rate)):
        with pytest.raises(InvalidValue, match=rf"rate: must have a whole number .* from 1 to {HIGHEST_RATE}; got"):
            call()


@pytest.mark.parametrize("rate", [0, HIGHEST_RATE + 1, (1 << 31) - 1, (1 << 32) - 1])
def test_other_rates_of_files_are_refused(rate):
    with pytest.raises(UnreadableInput, match="sound: must"):
        read_sound(wav(b"\0\0" * 100, rate=rate))


@pytest.mark.parametrize("t", [1, 2, 3, 160, 441, 1000, 4000])
def test_the_length_after_resampling(t):
    rates = ((16_000, 8000), (16_000, 48_000), (44_100, 16_000), (8000, 11_025), (7, 160), (48_000, 48), (3, 2))
    for old, new in (*rates, (STEEPEST, 1), (1, STEEPEST), (767_999, HIGHEST_RATE)):
        read = read_sound((SPEECH[:t], old), rate=new)
        assert read.rate == new
        assert len(read.samples) == -(-t * new // old), (old, new)
        assert read.samples.isfinite().all()
    assert torch.equal(read_sound((SPEECH[:t], 16_000), rate=16_000).samples, SPEECH[:t])


@pytest.mark.parametrize(("old", "new"), [(16_000, 48_000), (44_100, 16_000), (8000, 44_100), (48_000, 8000)])
def test_a_tone_stays_the_same_tone(old, new):
    tone = torch.sin(2 * torch.pi * 440 * torch.arange(old, dtype=torch.float64) / old).float()
    expected = torch.sin(2 * torch.pi * 440 * torch.arange(new, dtype=torch.float64) / new).float()
    read = read_sound((tone, old), rate=new).samples
    assert (read - expected)[new // 20 : -new // 20].abs().max() < 1e-3
    back = read_sound((read, new), rate=old).samples
    assert (back - tone)[old // 10 : -old // 10].abs().max() < 1e-3


def test_tones_above_half_the_new_rate_are_removed():
    tone = torch.sin(2 * torch.pi * 6000 * torch.arange(16_000, dtype=torch.float64) / 16_000).float()
    assert read_sound((tone, 16_000), rate=8000).samples[500:-500].abs().max() < 1e-3


def test_one_sample_resampled():
    one = torch.tensor([0.5])
    assert len(read_sound((one, 16_000), rate=8000).samples) == 1
    three = read_sound((one, 16_000), rate=48_000).samples
    assert len(three) == 3
    assert three[0] == pytest.approx(0.5, abs=0.05)


def test_resampling_is_bounded():
    with pytest.raises(InvalidValue, match=r"sound: must have at most 5000 samples; got 12000 at rate 48000; raise"):
        read_sound((SPEECH, 16_000), rate=48_000, most=5000)
    with pytest.raises(InvalidValue, match=r"must have at most \d+ samples; got 3072000000 at rate 768000"):
        read_sound((SPEECH, 1), rate=HIGHEST_RATE)
    with pytest.raises(InvalidValue, match=r"sound: rates must differ at most 1000 times; got 768000 and 1; choose"):
        read_sound((SPEECH, HIGHEST_RATE), rate=1)


@pytest.mark.parametrize("library", ["soundfile", "soxr"])
def test_a_missing_library_is_named(library, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, library, None)
    said = rf'needs the package {library}, which is not installed; run `pip install "tokenry\[audio\]"`'
    with pytest.raises(InvalidValue, match=said):
        read_sound(encoded(), rate=8000)
    with pytest.raises(InvalidValue, match=said):
        if library == "soxr":
            read_sound((SPEECH, 16_000), rate=8000)
        else:
            write_sound(Sound(SPEECH, 16_000), tmp_path / "a.wav")
    assert read_sound((SPEECH, 16_000)).rate == 16_000
    assert not os.listdir(tmp_path)


def test_paths_that_are_no_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.wav", tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UnreadableInput, match=r": must be a file; none is there; pass another path"):
            read_sound(path)
    with pytest.raises(UnreadableInput, match="must be a readable file; File name too long"):
        read_sound("<svg>" * 100)


def test_what_is_written_is_read(tmp_path):
    loud = torch.cat([SPEECH * 3, torch.tensor([-1.0, 1.0, 2.5, 1e-30])])
    write_sound(Sound(loud, 22_050), tmp_path / "new" / "a.WAV")
    read = read_sound(tmp_path / "new" / "a.WAV")
    assert read.rate == 22_050
    assert torch.equal(read.samples, loud)
    for samples, error in ((SPEECH, 0), (torch.rand(500, generator=torch.Generator().manual_seed(0)) * 2 - 1, 2**-24)):
        write_sound(Sound(samples, 16_000), tmp_path / "new" / "a.flac")
        read = read_sound(tmp_path / "new" / "a.flac")
        assert (read.samples - samples).abs().max() <= error
    assert sorted(os.listdir(tmp_path / "new")) == ["a.WAV", "a.flac"]


def test_what_cannot_be_written_is_refused(tmp_path):
    file = tmp_path / "a.flac"
    write_sound(Sound(SPEECH, 16_000), file)
    before = file.read_bytes()
    with pytest.raises(InvalidValue, match=r"a\.mp3: must end in \.wav, \.flac; got '\.mp3'"):
        write_sound(Sound(SPEECH, 16_000), tmp_path / "a.mp3")
    with pytest.raises(InvalidValue, match=r"FLAC must have samples from -1 to 1; got 1\.5; scale them, or use \.wav"):
        write_sound(Sound(torch.tensor([-1.5]), 16_000), file)
    with pytest.raises(InvalidValue, match=r"FLAC must have a rate of at most 655350; got 768000; use \.wav"):
        write_sound(Sound(SPEECH, 768_000), file)
    with pytest.raises(StorageError, match="must be writable"):
        write_sound(Sound(SPEECH, 16_000), file / "b.wav")
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.flac"]


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_a_full_disk_leaves_the_old_file(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    write_sound(Sound(SPEECH, 16_000), file)
    noise = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=rf"a\.{suffix}: could not be written; .*; nothing was changed"):
            write_sound(Sound(noise, 16_000), file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(read_sound(file).samples, SPEECH)
    assert os.listdir(tmp_path) == [file.name]


def test_sample_sounds():
    assert list(data.sounds()) == ["amiable", "ill_disposed"]
    sources = (data._HERE / "SOURCES.md").read_text(encoding="utf-8")
    for name, path in data.sounds().items():
        sound = data.clip(name)
        assert (sound.name, sound.rate) == (name, 16_000)
        assert 0.2 < sound.samples.abs().max() < 1
        assert path.stat().st_size < 120_000
        words = data.transcript(name)
        assert words == " ".join(words.lower().split())
        assert 2 < len(words.split()) / sound.seconds < 4, "words a second"
        assert f"| `{name}.flac` | {sound.seconds:.2f} | {path.stat().st_size:,} | {words} |" in sources
    for call in (data.clip, data.transcript):
        with pytest.raises(KeyError):
            call("silence")


def test_the_loudest_sample_is_not_too_loud(tmp_path):
    write_sound(Sound(torch.tensor([1.0, -1.0, 0.5]), 8000), tmp_path / "a.flac")
    assert len(read_sound(tmp_path / "a.flac").samples) == 3


@pytest.mark.parametrize("rate", [0.0, float("inf")])
def test_a_film_has_pictures_in_a_second(rate):
    with pytest.raises(InvalidValue):
        Video(torch.zeros(1, 1, 1, 3, dtype=torch.uint8), rate)
