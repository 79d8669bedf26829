"""`generate` with a step of one's own: what is said next, how much at once, and what the model reads of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedTokenizerBase, StoppingCriteriaList, StopStringCriteria
from transformers.generation.utils import GenerateDecoderOnlyOutput

from tokenry.core.errors import Incompatible, InvalidValue, UnsupportedModel
from tokenry.models import private
from tokenry.models.attention.adapter import unwrap
from tokenry.models.cache.name import renamed, with_cache
from tokenry.models.generate.session import Session
from tokenry.models.generate.step import Notes, Step, Stepper, View
from tokenry.models.text.lookup import prove


@dataclass
class Decoded(GenerateDecoderOnlyOutput):
    """What `generate` returns with `return_dict_in_generate`, and the decoder's notes of every step."""

    notes: tuple[Notes, ...] | None = None


def generate(
    model: Any,
    stepper: Stepper,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    streamer: Any = None,
    seed: int = 0,
    **options: Any,
) -> Any:
    """`model.generate` in which every next token comes from `stepper`.

    Args:
        model: a transformers model, perhaps inside a wrapper.
        tokenizer: of the model, for marks and for `stop_strings`.
        streamer: gets the ids as they are said.
        seed: of row 0; row i draws from seed + i.
        options: everything else that `generate` takes.

    Raises:
        Incompatible: beam search, sampling by `generate` for a decoder that draws by itself, or no cache.
        UnsupportedModel: an encoder-decoder, or a model that cannot read embeddings, where the decoder mixes them.
    """
    base = unwrap(model)
    if base.config.is_encoder_decoder:
        raise UnsupportedModel(f"{stepper.name()}: {type(base).__name__} must have no encoder; it has one.")
    if stepper.feeds_embeds:
        prove(base)
    if "generation_config" not in options and not stepper.draws:
        options.setdefault("do_sample", False)
    if not stepper.draws and options.get("num_return_sequences", 1) > 1:
        raise Incompatible(f"{stepper.name()}: says one text per row; for more, repeat the rows.")
    stop = options.pop("stop_strings", None)
    if stop is not None:
        # generate drops the tokenizer on its way to custom loops.
        if tokenizer is None:
            raise InvalidValue("stop_strings: need the model's tokenizer; got none; pass tokenizer=.")
        criteria = options.get("stopping_criteria") or []
        options["stopping_criteria"] = StoppingCriteriaList([*criteria, StopStringCriteria(tokenizer, stop)])
    loop = _loop(stepper, tokenizer, streamer, seed)
    return model.generate(**renamed(options), streamer=streamer, custom_generate=loop)


def _loop(
    stepper: Stepper, tokenizer: PreTrainedTokenizerBase | None, streamer: Any, seed: int
) -> Callable[..., Decoded | Tensor]:
    """What `generate` calls once its inputs are prepared; a streamer given to `generate` does not reach it."""

    def run(
        model: Any, input_ids: Tensor, logits_processor: LogitsProcessorList, stopping_criteria: StoppingCriteriaList,
        generation_config: Any, **model_kwargs: Any,
    ) -> Decoded | Tensor:  # fmt: skip
        _check(stepper, generation_config)
        with stepper.attached(model):
            session = Session(
                model, input_ids, model_kwargs, generation_config, tokenizer=tokenizer, crops=stepper.reads_ahead,
                hidden=stepper.needs_hidden,
            )  # fmt: skip
            ends = any(hasattr(c, "eos_token_id") for c in stopping_criteria)
            said = _Said(session, logits_processor, stopping_criteria, ends, generation_config, streamer)
            generators = tuple(torch.Generator().manual_seed(seed + i) for i in range(len(input_ids)))
            state = stepper.start(session)
            session.begin()
            with private.optimised(model):
                while not said.over:
                    step = stepper.step(said.view(state, generators))
                    said.enter(step)
                    if not said.over:
                        said.feed(step)
        return said.result()

    return run


class _Said:
    """The text as it grows, and what `generate` is to return about it."""

    def __init__(
        self, session: Session, processors: Callable[[Any, Any], Tensor], criteria: Callable[..., Tensor],
        ends: bool, config: Any, streamer: Any,
    ) -> None:  # fmt: skip
        self.session, self.processors, self.criteria, self.streamer = session, processors, criteria, streamer
        self.ids, self.prompt = session.ids, session.ids.shape[1]
        self.unfinished = torch.ones(len(self.ids), dtype=torch.bool, device=self.ids.device)
        self.padded = ~self.unfinished
        self.ends = ends
        self.end_of_text, self.pad = private.end_marks(config), private.padding_mark(config)
        self.steps = 0
        self._dict = bool(config.return_dict_in_generate)
        self._kept: dict[str, list[Any]] = {
            name: [] for name in ("scores", "logits", "attentions", "hidden_states")
            if self._dict and getattr(config, f"output_{name}")
        }  # fmt: skip
        self._notes: list[Notes] = []

    def view(self, state: Any, generators: tuple[torch.Generator, ...]) -> View:
        session = self.session
        self._keep_pass()
        hidden = session.hidden
        session.settle()
        # Processors may write into what they are given.
        logits = session.logits[:, -1]
        self.logits, self.scores = logits, self.processors(self.ids, logits.clone())
        return View(
            scores=self.scores, logits=logits, ids=self.ids, prompt=self.prompt, step=self.steps,
            finished=~self.unfinished, end_of_text=self.end_of_text, hidden=hidden, state=state, session=session,
            generators=generators, processors=self.processors,
        )  # fmt: skip

    def enter(self, step: Step) -> None:
        """Say the ids of a step one by one, until all rows have ended."""
        ids = step.ids if step.ids.ndim == 2 else step.ids[:, None]
        if ids.shape[1] - 1 > step.read:
            # Their logits are wanted, and the stopping criteria may end the text among them.
            self.session.read(ids[:, step.read : -1])
        for i, column in enumerate(ids.T):
            self._keep_scores(i)
            if self.ends:
                self.padded = ~self.unfinished
                column = torch.where(self.padded, self.pad.to(column.device), column)
            self.ids = torch.cat((self.ids, column[:, None]), 1)
            scores = self._kept.get("scores")
            self.unfinished = self.unfinished & ~self.criteria(self.ids, None if scores is None else tuple(scores))
            if self.streamer is not None:
                self.streamer.put(column.cpu())
            if self.over:
                break
        self.steps += 1
        self._notes.append(step.notes)

    def feed(self, step: Step) -> None:
        """Read what the decoder has not read of its own ids: nothing, or the last one."""
        m = 1 if step.ids.ndim == 1 else step.ids.shape[1]
        if step.read == m:
            return
        last, embeds = self.ids[:, -1:], step.embeds
        if embeds is not None:
            # Rows that have ended read padding, as they do in plain generation.
            embeds = torch.where(self.padded[:, None], self.session.lookup(last[:, 0]), embeds)[:, None]
        self.session.read(last, embeds)

    @property
    def over(self) -> bool:
        return not bool(self.unfinished.any())

    def result(self) -> Decoded | Tensor:
        session, kept = self.session, {name: tuple(values) for name, values in self._kept.items()}
        # As after plain generation, the cache holds everything but the last token.
        surplus = session.read_since_prompt - (self.ids.shape[1] - self.prompt - 1)
        session.crop(surplus)
        session.close()
        if self.streamer is not None:
            self.streamer.end()
        if not self._dict:
            return self.ids
        found: dict[str, Any] = {"sequences": self.ids, **with_cache(session.cache), **kept}
        return Decoded(**found, notes=tuple(self._notes))

    def _keep_scores(self, i: int) -> None:
        """The scores and logits of the i-th id of this step."""
        if "logits" in self._kept:
            self._kept["logits"].append(self.session.logits[:, i] if i else self.logits)
        if "scores" in self._kept:
            self._kept["scores"].append(
                self.processors(self.ids, self.session.logits[:, i].clone()) if i else self.scores
            )

    def _keep_pass(self) -> None:
        for name in ("attentions", "hidden_states"):
            if name in self._kept:
                self._kept[name].append(self.session.last(name))


def _check(stepper: Stepper, config: Any) -> None:
    if config.num_beams and config.num_beams > 1:
        raise Incompatible(f"{stepper.name()}: says one text per row; got num_beams={config.num_beams}; leave it out.")
    if config.do_sample and not stepper.draws:
        raise Incompatible(
            f"{stepper.name()}: draws by settings of its own; got do_sample=True; leave it and temperature out, and "
            "set the fields of the decoder."
        )
