"""SmolLM2 learns new ids: LoRA matrices and new rows, from pairs of streams and a little plain text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from benchmarks.signal.digits.streams import SIZES, WORDS, Data, Digits, row_of
from tokenry.core.errors import InvalidValue
from tokenry.data import read
from tokenry.learn.training.checkpoint import Checkpoint
from tokenry.learn.training.lora import adapted
from tokenry.models.files.load import LanguageModel
from tokenry.signal.streams.new_rows import NewRows
from tokenry.signal.streams.stream import Segment
from tokenry.signal.streams.stream_loss import stream_loss
from tokenry.signal.unified_stream import AUDIO, IMAGE, TEXT

Way = tuple[str, str]
"""From one kind to another."""

TURNS: Sequence[Mapping[Way, int]] = (
    {(IMAGE, AUDIO): 10, (TEXT, AUDIO): 4},
    {(AUDIO, IMAGE): 10, (AUDIO, TEXT): 14},
    {(IMAGE, TEXT): 12, (TEXT, IMAGE): 4},
)
"""Pairs of a step; these steps take turns."""
WAYS = tuple(way for pairs in TURNS for way in pairs)
WEIGHTS = {TEXT: 2.0, IMAGE: 1.0, AUDIO: 1.0}
RANK, LORA_RATE, ROW_RATE, RISE, CLIP, BETAS = 16, 1.5e-3, 1e-3, 10, 1.0, (0.9, 0.95)
OFTEN, PLACE, NOISE = 1.5, 0.7, 0.3
"""Of a new row: the words of the digits that it is seen with, its place in the signal, and noise."""
UNSEEN = 0.05
"""How often a code counts as seen with every digit before it is."""
TEXTS: Mapping[str, Any] = {
    "kept": {"documents": ["constitution", "in_the_year_2889", "sotu_1930"], "length": 48, "windows": 40},
    "read": {"documents": ["moby_dick", "sotu_1975"], "length": 256, "windows": 8},
}
"""Windows of plain text, so many of each document: those that are to be foretold as the model did before, one a step,
and those whose perplexity is measured."""
KEPT_WEIGHT = 3.0
DROPPED = 0.1
"""How often a picture or a sound is learned without what was given for it."""
DRAWN, GUIDED = 0.3, 2.0
"""Temperature, and how far what is said of pictures and sounds moves away from what is said where nothing is given."""
NOTHING = -100
HOW = {
    "pairs": [{f"{a} to {b}": count for (a, b), count in pairs.items()} for pairs in TURNS], "weights": WEIGHTS,
    "rank": RANK, "rates": [LORA_RATE, ROW_RATE], "rise": RISE, "clip": CLIP, "betas": BETAS,
    "rows": [OFTEN, PLACE, NOISE, UNSEEN], "texts": TEXTS, "kept": KEPT_WEIGHT,
    "dropped": DROPPED,
}  # fmt: skip
"""Everything that decides a training besides its steps, its pairs and its seed."""


@dataclass
class Pupil:
    """A model with what is learned of it."""

    model: Any
    rows: NewRows
    data: Data

    @property
    def weights(self) -> dict[str, torch.nn.Parameter]:
        """Everything that learns, by name."""
        lora = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        return {f"rows.{name}": p for name, p in self.rows.named_parameters()} | lora


@contextmanager
def pupil(language: LanguageModel, data: Data, seed: int, *, wrong: bool) -> Iterator[Pupil]:
    """The model with new rows and matrices that have learned nothing; afterwards it is as it was."""
    language.model.requires_grad_(False)
    rows = NewRows(language.model, len(data.stream.tokenizer))
    _begin(rows, data, language, seed, wrong)
    torch.manual_seed(seed)
    with adapted(language.model, RANK) as wrapped, rows.learning():
        yield Pupil(wrapped.eval(), rows, data)
    wrapped.unload()
    if hasattr(language.model, "peft_config"):
        del language.model.peft_config


@torch.no_grad()
def _begin(rows: NewRows, data: Data, language: LanguageModel, seed: int, wrong: bool) -> None:
    """Codes begin as the words of the digits that they are seen with, in signals that are learned from.

    A row is the mean of the ten words' embeddings, moved by the digits that the code stands for and by where in a
    signal it stands; with `wrong` the digits of signals are drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    table = language.model.get_input_embeddings().weight.float()
    words = torch.cat([table[language.tokenizer.encode(w, add_special_tokens=False)] for w in WORDS])
    size = float(table.square().mean().sqrt())
    for kind in (IMAGE, AUDIO):
        held = data.stream.stream.vocabulary.ranges[kind]
        codes = [(digit, segment.ids) for digit, segments in enumerate(data.known[kind].of) for segment in segments]
        longest = max(len(ids) for _, ids in codes)
        seen = torch.full((len(held), len(words)), UNSEEN)
        stands = torch.full((len(held), longest), UNSEEN)
        for digit, ids in codes:
            named = int(torch.randint(len(words), (), generator=generator)) if wrong else digit
            seen[:, named].index_add_(0, ids, torch.ones(len(ids)))
            stands[ids, torch.arange(len(ids))] += 1
        places = torch.randn(longest, words.shape[1], generator=generator) * size * PLACE
        moved = (seen / seen.sum(1, keepdim=True)) @ (words - words.mean(0)) * OFTEN
        moved += (stands / stands.sum(1, keepdim=True)) @ places
        noise = torch.randn(len(held), words.shape[1], generator=generator) * size * NOISE
        first = held.first - rows.first
        rows.input[first : first + len(held)] = words.mean(0) + moved + noise


def learn(
    of: Pupil, steps: int, *, until: int, wrong: bool, seed: int, texts: Tensor, before: Tensor, folder: Path,
    told: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> list[float]:  # fmt: skip
    """Adam over pairs of signals of the same digit, or of any two digits, up to a step of a schedule of `steps`."""
    weights = of.weights
    groups = [
        {"params": [p for name, p in weights.items() if name.startswith("rows.") == new], "lr": rate, "base": rate}
        for new, rate in ((True, ROW_RATE), (False, LORA_RATE))
    ]
    optimizer = torch.optim.Adam(groups, betas=BETAS)
    state = Checkpoint(folder, {"steps": steps, "wrong": wrong, "seed": seed} | HOW)
    losses = state.load(weights, optimizer, _Nothing())  # type: ignore[arg-type]
    for step in track(range(len(losses), until), f"learn to {until}"):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        for group in optimizer.param_groups:
            group["lr"] = group["base"] * min((step + 1) / RISE, (steps - step) / (steps - RISE))
        found = _step(of, TURNS[step % len(TURNS)], generator, wrong, texts, before)
        if not math.isfinite(sum(found.values())):
            raise InvalidValue(f"learn: losses must be finite; got {found} at step {step}.")
        torch.nn.utils.clip_grad_norm_(weights.values(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(round(found["pairs"], 4))
        told(step, found)
        if (step + 1) % 30 == 0 or step + 1 == until:
            folder.mkdir(parents=True, exist_ok=True)
            state.save(weights, optimizer, _Nothing(), losses)  # type: ignore[arg-type]
    return losses


def _step(
    of: Pupil, pairs: Mapping[Way, int], generator: torch.Generator, wrong: bool, texts: Tensor, before: Tensor
) -> dict[str, float]:
    """Gradients of some pairs, and of a window of text that is to be foretold as before."""
    ids, mask, labels = _batch(of.data, pairs, generator, wrong)
    learnt = labels[:, 1:] != NOTHING
    with _saying(of.model, learnt):
        logits = of.model(input_ids=ids, attention_mask=mask).logits
    loss = stream_loss(logits, labels[:, 1:][learnt], of.data.stream.stream, WEIGHTS)
    loss.backward()
    found = {"pairs": float(loss.detach())}
    chosen = int(torch.randint(len(texts), (), generator=generator))
    said = of.model(input_ids=texts[chosen : chosen + 1]).logits[0, :, : before.shape[-1]].float().log_softmax(-1)
    loss = KEPT_WEIGHT * kl_div(said, before[chosen].float(), log_target=True, reduction="batchmean")
    loss.backward()
    return found | {"kept text": float(loss.detach())}


def _batch(
    data: Data, pairs: Mapping[Way, int], generator: torch.Generator, wrong: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Streams of two segments with padding before them, and labels where the second one's content stands.

    Of some pictures and sounds the first segment is left out.
    """
    rows, targets = [], []
    for (source, target), count in pairs.items():
        for _ in range(count):
            digit = int(torch.randint(len(WORDS), (), generator=generator))
            other = int(torch.randint(len(WORDS), (), generator=generator)) if wrong else digit
            pair = [data.known[source].draw(digit, generator), data.known[target].draw(other, generator)]
            alone = target != TEXT and float(torch.rand((), generator=generator)) < DROPPED
            rows.append(data.stream.stream.pack(pair[alone:]))
            targets.append(len(pair[1].ids) + 1)
    longest = max(map(len, rows))
    ids, mask = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(ids, NOTHING)
    for i, (row, target) in enumerate(zip(rows, targets, strict=True)):
        ids[i, longest - len(row) :], mask[i, longest - len(row) :] = row, 1
        labels[i, longest - target :] = row[-target:]
    return ids, mask, labels


@contextmanager
def _saying(model: Any, places: Tensor) -> Iterator[None]:
    """Logits of these places alone, one after the other, where a large vocabulary makes them dear."""

    def chosen(_: Any, given: tuple[Tensor]) -> tuple[Tensor]:
        return (given[0][:, : places.shape[1]][places],)

    hook = model.get_output_embeddings().register_forward_pre_hook(chosen)
    try:
        yield
    finally:
        hook.remove()


class _Nothing:
    """A checkpoint keeps what an objective remembers, and here is none."""

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        pass


@torch.no_grad()
def ask(of: Pupil, way: Way, sources: Digits, each: int, seed: int) -> dict[str, Any]:
    """How often what comes out shows the digit that went in, over so many signals of each digit.

    All ids are the likeliest ones, but for pictures and sounds of a word, which is the same each time: these are drawn
    at a temperature of `DRAWN`. Pictures and sounds are guided: what counts of an id is l + `GUIDED` (m - l), where m
    is the logarithm of how likely it is, and l of how likely it is where nothing is given. A word is right when it is
    the digit's and nothing follows.
    """
    source, target = way
    stream, size = of.data.stream.stream, SIZES.get(target, ())
    given = [(digit, s) for digit, segments in enumerate(sources.of) for s in _some(segments, each)]
    begin = torch.tensor([stream.begin(target), *stream.header(target, size)])
    prompts = torch.stack([torch.cat((stream.pack([s]), begin)) for _, s in given])
    longest = 1 + max(len(s.ids) for segments in of.data.known[target].of for s in segments)
    how = {"do_sample": True, "temperature": DRAWN, "top_k": 0} if source == TEXT else {"do_sample": False}
    if target != TEXT:
        nothing = begin.expand(len(prompts), -1)
        how |= {
            "guidance_scale": GUIDED, "negative_prompt_ids": nothing,
            "negative_prompt_attention_mask": torch.ones_like(nothing),
        }  # fmt: skip
    torch.manual_seed(seed)
    out = of.model.generate(
        input_ids=prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=longest,
        **how, logits_processor=[of.data.stream.grammar((target,), sizes=SIZES, stop=(stream.end(target),))],
        eos_token_id=stream.end(target), pad_token_id=stream.end(target),
    )  # fmt: skip
    digits = [digit for digit, _ in given]
    said = [_content(row, prompts.shape[1], stream.end(target)) for row in out]
    real = {}
    if target == TEXT:
        found = [WORDS.index(word) if (word := _word(of.data, row)) in WORDS else None for row in said]
    else:
        start = prompts.shape[1] - len(begin)
        whole = [row[start : prompts.shape[1] + longest] for row in out]
        shown = [of.data.stream.decode(row_of(ids))[0] for ids in whole]
        found = of.data.judge(target, shown)
        real["right_by_real"] = _equal(digits, of.data.judge(f"real {target}", shown))
    known = {tuple(stream.vocabulary.lift(target, s.ids).tolist()) for ss in of.data.known[target].of for s in ss}
    return {
        "from": source, "to": target, "asked": len(given),
        "right": _equal(digits, found), **real,
        "distinct": len(set(said)), "copies": sum(row in known for row in said),
    }  # fmt: skip


def counted(data: Data, kind: str) -> float:
    """How often the digit of a held-out signal is known from counts of its codes alone, by their logarithms' sum."""
    seen = torch.full((len(WORDS), len(data.stream.stream.vocabulary.ranges[kind])), UNSEEN)
    for digit, segments in enumerate(data.known[kind].of):
        for segment in segments:
            seen[digit].index_add_(0, segment.ids, torch.ones(len(segment.ids)))
    likely = (seen / seen.sum(1, keepdim=True)).log()
    right = [
        int(likely[:, segment.ids].sum(1).argmax()) == digit
        for digit, segments in enumerate(data.asked[kind].of)
        for segment in segments
    ]
    return sum(right) / len(right)


def _equal(wanted: Sequence[int], found: Sequence[int | None]) -> int:
    return sum(a == b for a, b in zip(wanted, found, strict=True))


def _some(segments: list[Segment], each: int) -> list[Segment]:
    """As many as are asked for, the same ones again where there are not so many."""
    return [segments[i % len(segments)] for i in range(each)]


def _content(row: Tensor, start: int, end: int) -> tuple[int, ...]:
    """What was said up to the mark that ends it."""
    said = row[start:].tolist()
    return tuple(said[: said.index(end)] if end in said else said)


def _word(data: Data, row: tuple[int, ...]) -> str:
    return str(data.stream.tokenizer.decode(row))


def windows(language: LanguageModel, use: str, most: int | None = None) -> Tensor:
    """Windows of documents, one after the other."""
    how, rows = TEXTS[use], []
    for name in how["documents"]:
        ids = torch.tensor(language.tokenizer(read(name), add_special_tokens=False).input_ids)
        length = how["length"]
        rows.append(ids[: len(ids) // length * length].view(-1, length)[: most or how["windows"]])
    return torch.cat(rows)


@torch.no_grad()
def foretold(model: Any, texts: Tensor, ids: int) -> Tensor:
    """Logarithms of what a model foretells of windows, among its first ids, in half precision."""
    found = [model(input_ids=row.unsqueeze(0)).logits[0, :, :ids].float().log_softmax(-1).half() for row in texts]
    return torch.stack(found)


@torch.no_grad()
def perplexity(model: Any, texts: Tensor, ids: int) -> tuple[float, float]:
    """Of windows of plain text: with new ids masked, and with all."""
    masked = whole = 0.0
    for row in texts:
        logits = model(input_ids=row.unsqueeze(0)).logits[0, :-1].float()
        masked += float(cross_entropy(logits[:, :ids], row[1:], reduction="sum"))
        whole += float(cross_entropy(logits, row[1:], reduction="sum"))
    count = len(texts) * (texts.shape[1] - 1)
    return math.exp(masked / count), math.exp(whole / count)
