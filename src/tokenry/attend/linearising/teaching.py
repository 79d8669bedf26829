"""Teach linearised layers: first their maps, from what attention says, then the model around them, with LoRA.

`python -m tokenry.attend.linearising.teaching OUT --layer 12` does the first for a model and a text.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from tokenry.attend.linearising.folded import Folded, without_gradient
from tokenry.attend.still import Still
from tokenry.core.errors import InvalidValue, TokenryError
from tokenry.core.needs import need
from tokenry.core.schooling import Entry, Schooling, school
from tokenry.data import documents
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.attention.site import Site
from tokenry.models.files.load import load

Lesson = dict[int, tuple[Site, Float[Tensor, "B H N Dv"]]]
"""What attention saw and said in each layer that is linearised, for some rows."""


def lessons(method: Still, model: Any, rows: Sequence[Int[Tensor, "B N"]]) -> list[Lesson]:
    """One lesson for each batch of rows without padding; the model runs once, as it is."""
    adapter = ModelAdapter.of(model)
    found: list[Lesson] = []

    def look(site: Site) -> Tensor:
        out = site.dense()
        if site.kind == "self" and site.layer in method.layers:
            found[-1][site.layer] = replace(without_gradient(site), cache=None, model=None, reads=None), out
        return out

    with torch.no_grad(), adapter.attached_to(lambda _: look):
        for ids in rows:
            found.append({})
            adapter.model(input_ids=ids.to(adapter.model.device), use_cache=False)
    return found


def distance(method: Still, lesson: Lesson) -> Float[Tensor, ""]:
    """The mean squared distance of the outputs of all heads from those of attention, mean over layers."""
    parts = [mse_loss(method.read(site, Folded()).float(), out.float()) for site, out in lesson.values()]
    return torch.stack(parts).mean()


def _refuse_short(method: Still, tokens: int) -> None:
    """Refuse rows that never leave the window, of which nothing is folded."""
    if tokens <= 2 * method.chunk:
        raise InvalidValue(
            f"still: rows must be longer than two chunks, {2 * method.chunk} tokens, before which nothing is folded; "
            f"got {tokens}; take longer rows or a smaller chunk."
        )


def distil(
    method: Still,
    taught: Sequence[Lesson],
    steps: int,
    *,
    how: Schooling | None = None,
    folder: Path | None = None,
    test: Sequence[Lesson] = (),
    tell: Callable[[int], None] | None = None,
) -> tuple[Still, list[Entry]]:
    """The first stage: the maps of queries and keys learn to give what attention gives; nothing else changes.

    Args:
        how: by default AdamW at a rate of 0.01, as published.
        folder: where the state is kept; the same call goes on from there.
        test: lessons that an entry of the log says the distance of.
        tell: called with the number of every step that is done.
    """
    if not taught:
        raise InvalidValue("still: lessons must be at least one; got none; make some with lessons().")
    _refuse_short(method, min(site.k.shape[2] for lesson in taught for site, _ in lesson.values()))
    how = how or Schooling(rate=1e-2, decay=0.0, clip=1.0)

    def loss(method: Still, generator: torch.Generator) -> Tensor:
        return distance(method, taught[int(torch.randint(len(taught), (), generator=generator))])

    @torch.no_grad()
    def measure(method: Still) -> Entry:
        return {"distance": sum(float(distance(method, one)) for one in test) / max(1, len(test))}

    _gates(method, False)
    try:
        method, log = school(method, steps, loss, how, measure=measure, folder=folder, called="still", tell=tell)
    finally:
        _gates(method, True)
    return method, log


def tune(
    method: Still, model: Any, rows: Sequence[Int[Tensor, "B N"]], steps: int, *, rank: int = 8, rate: float = 1e-4,
    seed: int = 0,
) -> tuple[Any, list[float]]:  # fmt: skip
    """The second stage: the model predicts text through its linearised layers, and learns to.

    LoRA matrices at the projections of these layers learn, the gates and the maps. `merge_and_unload` of the model
    that is given back adds the matrices to its weights.

    Returns:
        The model with PEFT's matrices, and the loss of every step in nats.

    Raises:
        InvalidValue: peft is not installed, or no rows.
    """
    peft = need("peft", "still: tuning")
    if not rows:
        raise InvalidValue("still: rows must be at least one batch; got none.")
    _refuse_short(method, min(ids.shape[1] for ids in rows))
    adapter = ModelAdapter.of(model)
    names = {m: n for n, m in adapter.model.named_modules()}
    targets = [
        f"{names[module]}.{name}"
        for module, place in adapter.sites.items()
        if place.kind == "self" and place.layer in method.layers
        for name, part in module.named_modules()
        if isinstance(part, nn.Linear)
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        settings = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
        wrapped = peft.get_peft_model(adapter.model, settings)
    learning = [*(p for p in wrapped.parameters() if p.requires_grad), *method.parameters()]
    optimizer = torch.optim.AdamW(learning, lr=rate, weight_decay=0.0)
    losses = []

    def through(site: Site) -> Tensor:
        return method.read(site, Folded()) if site.layer in method.layers and site.kind == "self" else site.dense()

    with torch.enable_grad(), adapter.attached_to(lambda _: through):
        for step in range(steps):
            ids = rows[step % len(rows)].to(adapter.model.device)
            logits = adapter.model(input_ids=ids, use_cache=False).logits
            loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimizer.step()
            losses.append(float(loss.detach()))
    return wrapped, losses


def _gates(method: Still, learn: bool) -> None:
    """Let the gates learn, or rest."""
    for own in method.of_layer.values():
        own["gate"].requires_grad_(learn)


def main() -> None:
    """Linearise layers of a model, and print the last entry of the log as JSON."""
    options = argparse.ArgumentParser(prog="python -m tokenry.attend.linearising.teaching", description=__doc__)
    options.add_argument("out", type=Path, help="folder of the method and its checkpoint")
    options.add_argument("--model", default="smollm2", help="an alias, a name or a folder")
    options.add_argument("--layer", type=int, action="append", required=True, help="a layer; again for another one")
    options.add_argument("--text", type=Path, action="append", help="UTF-8 text; the sample documents where not given")
    options.add_argument("--length", type=int, default=512, help="tokens of a row")
    options.add_argument("--rows", type=int, default=2, help="rows of a step")
    options.add_argument("--steps", type=int, default=200)
    given = options.parse_args()
    try:
        for name in ("length", "rows", "steps"):
            if getattr(given, name) < 1:
                raise InvalidValue(f"still: {name} must be at least 1; got {getattr(given, name)}.")
        language = load(given.model, dtype="float32", device="cpu")
        texts = [path.read_text(encoding="utf-8") for path in given.text or documents().values()]
        ids = torch.tensor([i for text in texts for i in language.tokenizer(text, verbose=False)["input_ids"]])
        each = given.length * given.rows
        if len(ids) < 2 * each:
            raise InvalidValue(f"still: text must have at least {2 * each} tokens; got {len(ids)}; give a longer one.")
        batches = list(ids[: len(ids) // each * each].view(-1, given.rows, given.length))
        method = Still.begun(language, tuple(given.layer))
        taught = lessons(method, language.model, batches)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            shown = bar.add_task("distil", total=given.steps)
            _, log = distil(
                method, taught[:-1], given.steps, folder=given.out, test=taught[-1:],
                tell=lambda step: bar.update(shown, completed=step),
            )  # fmt: skip
    except (TokenryError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from the last checkpoint")
    sys.stdout.write(json.dumps(log[-1]) + "\n")


if __name__ == "__main__":
    main()
