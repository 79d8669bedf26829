"""Recipe `collages`: a small model that sees, made of DINOv2 and SmolLM2, which names what is where in a collage.

It is a plain LLaVA of transformers. First its projector learns to say each patch in words, which needs no language
model. Then projector and low-rank changes of the attention are trained on questions and answers, and the changes are
added to the weights.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tokenry.core.needs import need
from tokenry.data.collages import QUARTER
from tokenry.data.image import read_image
from tokenry.data.photographs import photographs
from tokenry.models.files import store
from tokenry.models.files.catalog import ALIASES
from tokenry.models.files.load import load
from tokenry.models.signals.encoders import load_vision
from tokenry.models.signals.llava import ATTENTION, joined, write
from tokenry.recipes.collage_lessons import LAYER, LOOKED_AT, Lessons, Projector
from tokenry.recipes.training_file import TrainingFile

STEPS, BATCH, RANK = 200, 8, 16
RATE_WORDS, RATE_PROJECTOR, RATE_ATTENTION = 2e-3, 5e-4, 1e-3
WARM, LONGEST = 10, 1.0
"""Steps until the rates are whole, and the longest gradient."""
WORDS_STEPS, WORDS_BATCH, WORDS_COLLAGES = 300, 16, 320
EVERY = 20
"""Steps between the times that the training is written down."""
HELD_OUT = 1 << 40
"""Seeds from here on are for those who look at how well it learned."""
Tell = Callable[[str, int, int, float], None]
"""Called with what is learned, how many steps of it are over, of how many, and the last loss."""


def make(*, steps: int = STEPS, tell: Tell | None = None) -> None:
    """Train the model into the folder of models; an interrupted training goes on where it was written down last.

    It takes about a quarter of an hour on two cores that compute in bfloat16. `load_vision_language("collages")` and
    plain transformers read the folder.

    Args:
        steps: of the second part; fewer make a worse model, sooner.
        tell: is told of every step.

    Raises:
        UnknownModel: DINOv2 or SmolLM2 is not there.
        InvalidValue: peft, or the packages of the photographs, are not installed.
        StorageError: the folder cannot be written.
    """
    vision, language = load_vision("dinov2"), load("smollm2")
    lessons = Lessons(vision, language, {name: read_image(file) for name, file in photographs().items()})
    with store.training("collages") as (draft, file):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _with_changes(joined(vision, language, layer=LAYER, side=2 * QUARTER))
            projector = _standing(lessons)
        kept = TrainingFile(file, {"recipe": ALIASES["collages"].recipe, "steps": steps})
        _train(model, projector, lessons, steps, kept, tell or (lambda *_: None))
        merged = model.merge_and_unload()
        merged.model.multi_modal_projector.load_state_dict(projector.folded())
        write(merged, vision, language, draft)
        kept.remove()


def _train(model: Any, projector: Projector, lessons: Lessons, steps: int, kept: TrainingFile, tell: Tell) -> None:
    """Learn words, unless that is over, and then questions."""
    changes = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": projector.parameters(), "lr": RATE_PROJECTOR}, {"params": changes, "lr": RATE_ATTENTION}],
        weight_decay=0.0,
    )
    done = kept.read(optimizer)
    if not done:
        _learn_words(projector, lessons, tell)
    for step in range(done, steps):
        for group, rate in zip(optimizer.param_groups, (RATE_PROJECTOR, RATE_ATTENTION), strict=True):
            group["lr"] = rate * min(1.0, (step + 1) / WARM) * 0.5 * (1 + math.cos(math.pi * step / steps))
        loss = _loss(model, projector, lessons, step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*projector.parameters(), *changes], LONGEST)
        optimizer.step()
        tell("questions", step + 1, steps, loss.item())
        if (step + 1) % EVERY == 0:
            kept.write(optimizer, step + 1)


def _learn_words(projector: Projector, lessons: Lessons, tell: Tell) -> None:
    """Bring the projection of each patch to the words for what it shows and for its place."""
    drawn = lessons.draw(WORDS_COLLAGES, HELD_OUT - 1)
    features = torch.cat([lessons.features(drawn[i : i + BATCH]) for i in range(0, len(drawn), BATCH)])
    wanted = lessons.words(drawn)
    scale = wanted.square().mean().sqrt()
    optimizer = torch.optim.AdamW(projector.parameters(), lr=RATE_WORDS)
    generator = torch.Generator().manual_seed(0)
    for step in range(WORDS_STEPS):
        some = torch.randint(len(drawn), (WORDS_BATCH,), generator=generator)
        loss = ((projector(features[some]) - wanted[some]) / scale).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tell("words", step + 1, WORDS_STEPS, loss.item())


def _loss(model: Any, projector: Projector, lessons: Lessons, step: int) -> Tensor:
    """Cross-entropy of the answers about new collages."""
    drawn = lessons.draw(BATCH, step)
    talks = lessons.talks(drawn)
    embeds = model.get_input_embeddings()(talks.ids)
    seen = (talks.ids == model.config.image_token_id).unsqueeze(-1)
    embeds = embeds.masked_scatter(seen, projector(lessons.features(drawn)).to(embeds))
    # The logits of a position are about the next one.
    asked = (talks.labels != -100).any(0).nonzero()[:, 0]
    logits = model(
        inputs_embeds=embeds, attention_mask=talks.sees, position_ids=talks.positions, logits_to_keep=asked - 1
    ).logits
    return cross_entropy(logits.flatten(0, 1).float(), talks.labels[:, asked].flatten(), ignore_index=-100)


def _standing(lessons: Lessons) -> Projector:
    """A new projector that knows how large features are."""
    features = lessons.features(lessons.draw(LOOKED_AT, HELD_OUT - 2)).flatten(0, 1)
    projector = Projector(features.shape[1], lessons.language.model.config.hidden_size)
    projector.mean.copy_(features.mean(0))
    projector.std.copy_(features.std(0))
    return projector


def _with_changes(model: Any) -> Any:
    """The model with low-rank changes of its attention, which alone are learned."""
    peft = need("peft", "collages")
    with warnings.catch_warnings():
        # peft asks transformers for a name that it will drop.
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(model, peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=ATTENTION))
