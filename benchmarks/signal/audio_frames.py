"""What sound costs as tokens and what is left: of its spectrum, of the wave, of what was said, and for a listener.

Log-mel frames are compared before and after each content of `audio_frames`, on clips that none was fitted on. The wave
is asked of the codec, beside log-mel codes of about its bit rate. Units are asked which number was said: those of a
cardinal number are all that is known, and its ordinal is asked, as `seven` and `seventh`. A Whisper transcribes what
was decoded; words are counted against what it hears in the original.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from rich.progress import track
from torch import Tensor

from benchmarks.record import Record, Row, claim
from benchmarks.speech import PACKAGE, RATE, prompts, rows, spoken
from benchmarks.tables import Result, Table, fixed, percent, show
from tokenry.core.registry import parse
from tokenry.core.sequence import TokenSequence
from tokenry.data.sound import Sound, read_sound
from tokenry.models.signals.encoders import load_speech
from tokenry.signal.audio_frames import AudioFrames
from tokenry.signal.coding.spectral_loss import spectral_loss
from tokenry.signal.sounds.griffin_lim import griffin_lim
from tokenry.signal.sounds.mel import Mel, mel

TITLE = "Sound as tokens"
SUBJECTS = ("signal/audio_frames",)
ABOUT = (
    "Clips of one voice at 8 kHz. `codes` compares 64 log-mel frames of 32 ms every 16 ms with what the codes "
    "say of them, `sound` with the frames of the sound that is made of the codes; `log-mel, not quantized` is "
    "what Griffin-Lim alone loses. All levels are the first ones of one tokenizer. `SI-SNR` is of the wave itself, "
    "up to a factor, `log-mel` the mean distance of natural logarithms, `spectra` the distance that the codec "
    "learns from, at four windows; all three are means over clips, of one seed. `delay` is by how many samples the "
    "sounds come out later than they went in. The codec keeps the wave and log-mel codes the spectra: each is "
    "better in its own. Numbers: one clip of each "
    "cardinal is all that is known; its ordinal is asked, and the nearest histogram of how long each of 200 "
    "units lasts answers; three seeds. That features of Whisper are standardized and compared by their angles "
    "was decided after a look at these questions: as they are, they gave a third of the answers. `random units` "
    "are drawn for every frame. Words are counted against what the same Whisper hears in the original, so that "
    "its own errors do not count; `units of Whisper` were found in the same encoder. A share above 100 % is that "
    "of a listener who repeats himself."
)

EVERY, SEED = 10, 0
"""Of every so many clips one is held out."""
HOW = mel(RATE, 256, 128, 64)
"""Where distortion is measured: windows of 32 ms every 16 ms."""
LONGEST = 20
"""Seconds that a row of clips has for Whisper, which reads 30."""
TRAINING, ASKED = 160, 40
"""Seconds of clips that units are learnt from, and that are transcribed."""
LENGTHS = (1.5, 5.0)
"""Seconds of clips that are transcribed."""

MEL = "audio_frames:rate=8000,content=mel_codes[window_ms=32,hop_ms=16,quantizer={}]"
LEVELS = (1, 2, 4, 8)
VQ, RVQ, SHUFFLED, UNQUANTIZED = "vq", "rvq, levels: {}", "rvq, levels: 8, codes shuffled", "log-mel, not quantized"
SAMPLES = {"mu-law": "mu_law"} | {f"pcm, {bits} bits": f"pcm[bits={bits}]" for bits in (2, 4, 6, 8, 12)}
UNITS, MEL_UNITS, RANDOM = "units of Whisper", "units of log-mel frames", "random units"
CODES, SEEDS = 200, (0, 1, 2)
WHISPER = f"audio_frames:content=units[quantizer=vq[codes={CODES},metric=cosine]]"
CODEC, DRAWN = "codec, levels: {}", "codec, levels: 8, random codes"
WAVES = (3, 4)
"""Levels of log-mel codes beside the codec: a little less and a little more than its bits."""
FARTHEST = 400
"""Samples before and behind within which a delay is looked for."""
NUMBERS = (*range(4, 21), *range(30, 100, 10), "hundred", "thousand", "million", "billion")
"""Whose ordinal begins as they do; first, second and third do not."""
ORIGINAL = "original"


def main() -> None:
    """Measure all four, or some, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="+", choices=["spectrum", "wave", "numbers", "words"], help="these parts")
    given = options.parse_args()
    torch.set_num_threads(1)
    settings = {
        "package": PACKAGE, "held_out": f"every {EVERY}th clip", "window": HOW.window, "hop": HOW.hop,
        "bands": HOW.bands, "codes": CODES, "training_s": TRAINING, "asked_s": ASKED,
        "seed": SEED, "seeds": SEEDS,
    }  # fmt: skip
    record = Record("signal/audio_frames", dtype="float32", settings=settings, save=given.only is None)
    files = prompts()
    known = {name: spoken(file) for i, (name, file) in enumerate(files.items()) if i % EVERY}
    held_out = [spoken(file) for file in list(files.values())[::EVERY]]
    fitted: dict[str, AudioFrames] = {}
    for part, measure in (
        ("spectrum", lambda: spectrum(list(known.values()), held_out, fitted)),
        ("wave", lambda: wave(list(known.values()), held_out, fitted)),
        ("numbers", lambda: numbers(varied(known))),
        ("words", lambda: words(held_out, fitted, known)),
    ):
        if (given.only is None or part in given.only) and record.find(part=part) is None:
            record.add(*measure())
    show(record.finish(claims(record) if given.only is None else []), tables)


# What is left of the spectrum.


def spectrum(known: Sequence[Sound], held_out: Sequence[Sound], fitted: dict[str, AudioFrames]) -> list[Row]:
    """SQNR of log-mel frames: of what codes say, and of the sounds that are made of them."""
    wanted = [HOW.frames(HOW.framed(s.samples)) for s in held_out]
    mean = torch.cat([HOW.frames(HOW.framed(s.samples)) for s in known]).mean(0)
    found = [row_of(UNQUANTIZED, None, wanted, None, mean, [restored(w) for w in wanted])]
    for arm, levels in ((VQ, 1), *((RVQ.format(n), n) for n in LEVELS)):
        method = mel_codes(VQ if arm == VQ else RVQ, known, fitted)
        found.append(of_codes(method, arm, levels, held_out, wanted, mean))
    found.append(of_codes(mel_codes(RVQ, known, fitted), SHUFFLED, 8, held_out, wanted, mean, shuffled=True))
    for arm, content in track(SAMPLES.items(), "samples"):
        method = AudioFrames(rate=RATE, content=content)
        made = [method.decode(method.encode(sound)).samples for sound in held_out]
        found.append(row_of(arm, math.log2(method.vocab_size) * RATE, wanted, None, mean, made))
    return found


def mel_codes(arm: str, known: Sequence[Sound], fitted: dict[str, AudioFrames]) -> AudioFrames:
    """The fitted tokenizer of one kind."""
    if arm not in fitted:
        quantizer = "vq[codes=256]" if arm == VQ else "rvq[of=vq[codes=256],levels=8]"
        fitted[arm] = parse(MEL.format(quantizer)).fit(known, seed=SEED)
    return fitted[arm]


def of_codes(
    method: AudioFrames, arm: str, levels: int, held_out: Sequence[Sound], wanted: Sequence[Tensor], mean: Tensor, *,
    shuffled: bool = False,
) -> Row:  # fmt: skip
    """A row of some levels of mel codes."""
    tokens = [leading(method, method.encode(sound), levels) for sound in held_out]
    if shuffled:
        tokens = [mixed(method, each) for each in tokens]
    books = len(method.content.codebook_sizes)
    first = torch.arange(books) * 256
    said = []
    for each in tokens:
        codes = torch.full((len(each) // levels, books), -1)
        codes[:, :levels] = each.ids.view(-1, levels) - first[:levels]
        said.append(method.content.quantizer.dequantize(codes) + method.content.mean)
    made = [method.decode(each).samples for each in tokens]
    return row_of(arm, 8 * levels * RATE / HOW.hop, wanted, said, mean, made)


def row_of(
    arm: str, bits: float | None, wanted: Sequence[Tensor], said: Sequence[Tensor] | None, mean: Tensor,
    made: Sequence[Tensor],
) -> Row:  # fmt: skip
    heard = [HOW.frames(HOW.framed(samples)) for samples in made]
    return {
        "part": "spectrum", "arm": arm, "bits_s": bits, "frames": sum(map(len, wanted)),
        "said_db": None if said is None else round(sqnr(wanted, said, mean), 3),
        "heard_db": round(sqnr(wanted, heard, mean), 3),
    }  # fmt: skip


def sqnr(wanted: Sequence[Tensor], found: Sequence[Tensor], mean: Tensor) -> float:
    """Of log-mel frames about their mean, in dB."""
    true, made = torch.cat(list(wanted)), torch.cat(list(found))
    return float(10 * torch.log10((true - mean).square().mean() / (true - made).square().mean()))


def restored(frames: Tensor, how: Mel = HOW) -> Tensor:
    """A sound of log-mel frames that nothing quantized."""
    return griffin_lim(how.magnitudes(frames), how, 32)


def leading(method: AudioFrames, tokens: TokenSequence, levels: int) -> TokenSequence:
    """The first levels of each frame."""
    books = len(method.content.codebook_sizes)
    return picked(tokens, (torch.arange(len(tokens)) % books < levels).nonzero()[:, 0])


def mixed(method: AudioFrames, tokens: TokenSequence) -> TokenSequence:
    """The same codes at other times."""
    books = len(method.content.codebook_sizes)
    order = torch.randperm(len(tokens) // books, generator=torch.Generator().manual_seed(SEED))
    return replace(tokens, ids=tokens.ids.view(-1, books)[order].flatten())


def picked(tokens: TokenSequence, which: Tensor) -> TokenSequence:
    return replace(tokens, **{name: getattr(tokens, name)[which] for name in ("ids", "source", "spans", "modality")})


# What is left of the wave.


def wave(known: Sequence[Sound], held_out: Sequence[Sound], fitted: dict[str, AudioFrames]) -> list[Row]:
    """How near sounds are that the codec gives back, and those of log-mel codes; one seed."""
    began = time.process_time()
    codec = parse(f"audio_frames:rate={RATE},content=codec").fit(known, seed=SEED)
    seconds = round(time.process_time() - began)
    mels = mel_codes(RVQ, known, fitted)
    arms = {CODEC.format(n): (codec, n) for n in LEVELS} | {DRAWN: (codec, 8)}
    arms |= {RVQ.format(n): (mels, n) for n in WAVES}
    found = []
    for arm, (method, levels) in track(arms.items(), "wave"):
        tokens = [leading(method, method.encode(sound), levels) for sound in held_out]
        if arm == DRAWN:
            generator = torch.Generator().manual_seed(SEED)
            tokens = [replace(t, ids=t.ids // 256 * 256 + torch.randint(256, t.ids.shape, generator=generator))
                      for t in tokens]  # fmt: skip
        made = [method.decode(each).samples for each in tokens]
        hop = method.content.hop(RATE)
        found.append(
            near(arm, 8 * levels * RATE / hop, held_out, made) | ({"fit_s": seconds} if method is codec else {})
        )
    return found


def near(arm: str, bits: float, wanted: Sequence[Sound], made: Sequence[Tensor]) -> Row:
    """Means over clips, and the delay of all of them together."""
    pairs = [(sound.samples, samples) for sound, samples in zip(wanted, made, strict=True)]
    frames = [[HOW.frames(HOW.framed(samples)) for samples in pair] for pair in pairs]
    return {
        "part": "wave", "arm": arm, "bits_s": bits, "clips": len(pairs),
        "si_snr_db": round(average(si_snr(*pair) for pair in pairs), 3),
        "log_mel": round(average(float((a - b).abs().mean()) for a, b in frames), 3),
        "stft": round(average(float(spectral_loss(b, a)) for a, b in pairs), 3),
        "delay": delay(pairs),
    }  # fmt: skip


def si_snr(wanted: Tensor, made: Tensor) -> float:
    """In dB, of sounds without their mean, up to a factor."""
    wanted, made = wanted - wanted.mean(), made - made.mean()
    scaled = wanted * (made @ wanted) / (wanted @ wanted)
    return float(10 * torch.log10(scaled.square().sum() / (made - scaled).square().sum()))


def delay(pairs: Sequence[tuple[Tensor, Tensor]]) -> int:
    """How many samples later sounds come out, by where they are most like what went in."""
    like = torch.zeros(2 * FARTHEST + 1)
    for wanted, made in pairs:
        size = len(wanted) + 2 * FARTHEST
        both = torch.fft.irfft(torch.fft.rfft(made, size) * torch.fft.rfft(wanted, size).conj(), size)
        like += torch.cat((both[-FARTHEST:], both[: FARTHEST + 1]))
    return int(like.argmax()) - FARTHEST


def average(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held)


# Which number was said.


def numbers(training: Sequence[Sound]) -> list[Row]:
    """Share of ordinals whose histogram of units is nearest to that of their own cardinal."""
    files = prompts()
    said = [[spoken(files[f"digits/{mark}{number}"]) for number in NUMBERS] for mark in ("", "h-")]
    arms = {UNITS: WHISPER, MEL_UNITS: MEL.format(f"vq[codes={CODES}]"), RANDOM: None}
    found = []
    for arm, spec in track(arms.items(), "numbers"):
        right = 0
        for seed in SEEDS:
            if spec is None:
                generator = torch.Generator().manual_seed(seed)
                counts = [torch.stack([drawn(sound, generator) for sound in sounds]) for sounds in said]
            else:
                method = parse(spec).fit(training, seed=seed)
                counts = [histograms(method, sounds) for sounds in said]
            right += known_by(*counts)
        found.append({"part": "numbers", "arm": arm, "spec": spec, "asked": len(NUMBERS) * len(SEEDS), "right": right})
    return found


def varied(known: Mapping[str, Sound]) -> list[Sound]:
    """Rows of clips in an order of chance, without the numbers, which are asked for."""
    names = [name for name in known if not name.startswith("digits/")]
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(SEED)).tolist()
    return [row for row, _ in rows((known[names[i]] for i in order), LONGEST)][: TRAINING // LONGEST]


def histograms(method: AudioFrames, sounds: Sequence[Sound]) -> Tensor:
    """How long each unit lasts in each sound; sounds follow each other, as the encoder reads 30 seconds at once."""
    found = []
    for row, places in rows(sounds, LONGEST):
        tokens = method.encode(row)
        starts, ends = tokens.spans[:, 0], tokens.spans[:, 1]
        for begin, end in places:
            inside = (torch.minimum(ends, torch.tensor(end)) - torch.maximum(starts, torch.tensor(begin))).clamp_min(0)
            found.append(torch.zeros(CODES).index_add_(0, tokens.ids, inside.float()))
    return torch.stack(found)


def drawn(sound: Sound, generator: torch.Generator) -> Tensor:
    """A histogram of units that have nothing to do with the sound."""
    codes = torch.randint(CODES, (math.ceil(50 * sound.seconds),), generator=generator)
    return torch.bincount(codes, minlength=CODES).float()


def known_by(cardinals: Tensor, ordinals: Tensor) -> int:
    """How many ordinals are nearest to their own cardinal, by the angle between square roots of shares."""
    near, far = ((h / h.sum(1, keepdim=True)).sqrt() for h in (cardinals, ordinals))
    return int(((far @ near.T).argmax(1) == torch.arange(len(near))).sum())


# What a listener reads.


def words(held_out: Sequence[Sound], fitted: dict[str, AudioFrames], known: Mapping[str, Sound]) -> list[Row]:
    """Words that Whisper hears otherwise than in the original."""
    listener = load_speech("whisper", dtype="float32", device="cpu")
    asked = [row for row, _ in rows([s for s in held_out if LENGTHS[0] <= s.seconds <= LENGTHS[1]], LONGEST)]
    asked = asked[: ASKED // LONGEST]
    rvq = mel_codes(RVQ, list(known.values()), fitted)
    units = parse(WHISPER).fit(varied(known), seed=SEED)
    arms: dict[str, Callable[[Sound], Sound]] = {
        ORIGINAL: lambda sound: sound,
        "mu-law": lambda sound: back(AudioFrames(rate=RATE, content="mu_law"), sound),
        UNQUANTIZED: lambda sound: Sound(restored(HOW.frames(HOW.framed(sound.samples))), RATE),
        **{RVQ.format(n): lambda sound, n=n: rvq.decode(leading(rvq, rvq.encode(sound), n)) for n in LEVELS[::-1]},
        SHUFFLED: lambda sound: rvq.decode(mixed(rvq, rvq.encode(sound))),
        UNITS: lambda sound: back(units, sound),
    }
    found, reference = [], []
    for arm, change in track(arms.items(), "words"):
        texts = []
        for sound in asked:
            made = change(sound)
            texts.append(plain(listener.transcribe(read_sound((made.samples, made.rate), listener.rate).samples)))
        reference = reference or texts
        wrong = sum(map(distance, reference, texts))
        found.append({"part": "words", "arm": arm, "words": sum(map(len, reference)), "wrong": wrong})
    return found


def back(method: AudioFrames, sound: Sound) -> Sound:
    return method.decode(method.encode(sound))


def plain(text: str) -> list[str]:
    """Words without case and marks."""
    return "".join(c if c.isalnum() or c == "'" else " " for c in text.lower()).split()


def distance(wanted: Sequence[str], found: Sequence[str]) -> int:
    """Words to insert, drop or replace."""
    costs = list(range(len(found) + 1))
    for i, word in enumerate(wanted):
        before, costs[0] = costs[0], i + 1
        for j, other in enumerate(found):
            before, costs[j + 1] = costs[j + 1], min(costs[j + 1] + 1, costs[j] + 1, before + (word != other))
    return costs[-1]


def claims(record: Record) -> list[dict[str, Any]]:
    """What was to be shown."""
    spectra = {r["arm"]: r for r in record.rows if r["part"] == "spectrum"}
    asked = {r["arm"]: r for r in record.rows if r["part"] == "numbers"}
    heard = {r["arm"]: r["wrong"] / r["words"] for r in record.rows if r["part"] == "words"}
    said = {n: spectra[RVQ.format(n)]["said_db"] for n in LEVELS}
    waves = {r["arm"]: r for r in record.rows if r["part"] == "wave"}
    codec, beside = waves[CODEC.format(8)], waves[RVQ.format(4)]
    share = {arm: r["right"] / r["asked"] for arm, r in asked.items()}
    return [
        claim("rvq of 8 levels: SQNR of log-mel frames in dB", said[8], at_least=17.3),
        claim(
            "rvq: dB that twice as many levels add, at least",
            min(said[2 * n] - said[n] for n in (1, 2, 4)),
            at_least=1.5,
        ),
        claim(
            "rvq of 8 levels: dB better than with shuffled codes", said[8] - spectra[SHUFFLED]["said_db"], at_least=10
        ),
        claim("codec: SI-SNR in dB above rvq of 4 levels", codec["si_snr_db"] - beside["si_snr_db"], at_least=10),
        claim(
            "codec: distance of spectra as a share of that of rvq of 4 levels",
            codec["stft"] / beside["stft"],
            at_most=1,
        ),
        claim("codec: SI-SNR in dB above random codes", codec["si_snr_db"] - waves[DRAWN]["si_snr_db"], at_least=10),
        claim(
            "codec: dB that twice as many levels add, at least",
            min(waves[CODEC.format(2 * n)]["si_snr_db"] - waves[CODEC.format(n)]["si_snr_db"] for n in (1, 2, 4)),
            at_least=0.1,
        ),
        claim("codec: samples of delay", abs(codec["delay"]), at_most=0),
        claim(f"{UNITS}: share of numbers known", share[UNITS], at_least=0.5),
        claim(f"{UNITS}: share above {MEL_UNITS}", share[UNITS] - share[MEL_UNITS], at_least=0.1),
        claim(f"{UNITS}: share above {RANDOM}", share[UNITS] - share[RANDOM], at_least=0.3),
        claim("rvq of 8 levels: share of words wrong", heard[RVQ.format(8)], at_most=0.1),
        claim(f"{SHUFFLED}: share of words wrong", heard[SHUFFLED], at_least=0.8),
    ]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    parts: dict[str, list[Row]] = {}
    for r in document["rows"]:
        parts.setdefault(r["part"], []).append(r)
    spectrum = [
        (
            r["arm"],
            "" if r["bits_s"] is None else f"{r['bits_s']:,.0f}",
            fixed(r["said_db"], 2),
            fixed(r["heard_db"], 2),
        )
        for r in parts["spectrum"]
    ]
    numbers = [(r["arm"], f"{r['right']} of {r['asked']}") for r in parts["numbers"]]
    words = [(r["arm"], f"{r['wrong']} of {r['words']}", percent(r["wrong"] / r["words"])) for r in parts["words"]]
    frames = parts["spectrum"][0]["frames"]
    waves = [
        (
            r["arm"],
            f"{r['bits_s']:,.0f}",
            fixed(r["si_snr_db"], 1),
            fixed(r["log_mel"], 2),
            fixed(r["stft"], 2),
            str(r["delay"]),
        )
        for r in parts["wave"]
    ]
    return [
        Table(
            f"SQNR of {frames:,} log-mel frames of held-out clips", ("content", "bits/s", "codes, dB", "sound, dB"),
            spectrum,
        ),
        Table(
            f"The wave of {parts['wave'][0]['clips']} held-out clips",
            ("content", "bits/s", "SI-SNR, dB", "log-mel", "spectra", "delay"), waves,
        ),
        Table("Ordinal numbers known by their cardinals", ("units", "right"), numbers),
        Table("Words that Whisper hears otherwise than in the original", ("sound", "words", "share"), words),
    ]  # fmt: skip


if __name__ == "__main__":
    main()
