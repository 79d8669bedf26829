"""Soft Thinking: while it thinks, the model reads the mixture of its next tokens instead of one of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, natural, positive, setting
from tokenry.decode.base import Decoder, Session, State, Step, View
from tokenry.decode.sampling.candidates import Candidates, Cut


@dataclass
class Thinking(State):
    """Which rows still think, and for how many steps each was certain."""

    soft: Bool[Tensor, "B"]
    certain: Int[Tensor, "B"]
    end: int | None


@dataclass(frozen=True, kw_only=True)
class SoftThinking(Decoder):
    """Think in mixtures of tokens, and answer in tokens.

    What it does
        p = softmax(logits / temperature);  H = entropy of p in nats;  pi = p cut by top_k, top_p and min_p in this
        order, then its `max_topk` largest, made to sum to 1 after each cut. The model reads x = sum over j of
        pi_j e_j, with e_j the embedding of token j. The id that is said is that of the largest pi_j.
        When that id is `end`, the row stops thinking: it reads `end` itself, and from then on tokens that are
        drawn from p cut by the answer's own settings.
        Cold Stop: after `certain_steps` steps in a row with H < `certain`, a row that thinks says `end`, and a row
        that answers says the end of the text.
    Where it acts
        At every generated token. The prompt is read as it is.
    Shapes
        scores (B, V) -> ids (B,), embeddings to read (B, E); rows stop thinking independently.
    Guarantees
        With `answer_temperature=0` and no Cold Stop (`certain=0`) it equals greedy decoding at `max_topk=1`, and with
        no steps to think in. Sums are made in 32-bit floats, so a mixture of one token is its embedding exactly.
    Raises
        InvalidValue: `end` is not one token of the model's tokenizer, or no tokenizer is known.
        UnsupportedModel: the model takes more from ids than their embeddings.
    Deviations
        With `end=none`, for models without such a mark, a row thinks for `soft_steps` tokens, and Cold Stop only ends
        the thinking. Without an id that ends the text, Cold Stop does not end an answer.
    Relations
        Nothing is trained, and nothing is random while a row thinks.
    """

    card = Card(
        title="Soft Thinking: Unlocking the Reasoning Potential of LLMs in Continuous Concept Space",
        year=2025,
        url="https://arxiv.org/abs/2505.15778",
        summary="thinking steps that read the weighted mixture of the likeliest next tokens",
        identity_at={"max_topk": 1, "answer_temperature": 0.0, "certain": 0.0},
        trial={"end": "none", "soft_steps": 6, "temperature": 1.0, "max_topk": 5, "answer_temperature": 1.0},
        claims=(
            "SmolLM2-135M solves fewer word problems in mixtures of ten than greedily: 1 of 36, not 8; gains "
            "in the paper are of models of 32 to 70 billion parameters (benchmarks/decode/soft_thinking.py)",
            "what follows a mixture of three is nearest to what follows its largest token in 9 of 10 places",
        ),
        deviations=(
            "`end=none` thinks for a fixed number of tokens; the original needs the mark",
            "the counter of certain steps starts anew where the answer begins",
            "the published code sums mixtures in the model's number type, here in 32-bit floats",
        ),
    )

    temperature: float = between(0.0, 100.0, default=0.6, doc="divides the logits while thinking; 0 is greedy")
    top_k: int = positive(30, doc="most tokens that stay in the distribution while thinking")
    top_p: float = between(0.0, 1.0, default=0.95, doc="probability that the tokens that stay reach while thinking")
    min_p: float = between(0.0, 1.0, default=0.001, doc="share of the largest probability below which a token goes")
    max_topk: int = positive(10, doc="tokens in a mixture")
    end: str = setting("</think>", doc="mark at which a row stops thinking; `none` for `soft_steps` instead")
    soft_steps: int = natural(256, doc="tokens of thinking where `end` is `none`")
    certain: float = between(0.0, 100.0, default=0.01, doc="entropy in nats below which a step is certain; 0 for never")
    certain_steps: int = positive(256, doc="certain steps in a row after which Cold Stop acts")
    answer_temperature: float = between(0.0, 100.0, default=0.6, doc="divides the logits of the answer; 0 is greedy")
    answer_top_k: int = positive(30, doc="most tokens that an answer's token is drawn from")
    answer_top_p: float = between(0.0, 1.0, default=0.95, doc="probability that these tokens reach")
    State = Thinking
    feeds_embeds = True

    def start(self, session: Session) -> Thinking:
        end = session.mark(self.end) if self._marked else None
        if self._marked and end is None:
            raise InvalidValue(
                f"SoftThinking: end must be one token of the model's tokenizer; got {self.end!r}, which is not; "
                "set end=none and soft_steps, and pass tokenizer= where the model comes without."
            )
        soft = torch.full((session.rows,), self._marked or self.soft_steps > 0, device=session.ids.device)
        return Thinking(soft, torch.zeros_like(soft, dtype=torch.long), end)

    def step(self, view: View) -> Step:
        state, soft = view.state, view.state.soft
        found = Candidates.of(view.scores, [self._thought if s else self._answer for s in soft.tolist()])
        thought = found.top(self.max_topk)
        state.certain = torch.where(found.entropy < self.certain, state.certain + 1, 0)
        cold = state.certain >= self.certain_steps
        ids = torch.where(soft, thought.ids[:, 0], found.draw(view.uniform()))
        if state.end is not None:
            ids = torch.where(cold & soft, state.end, ids)
        if view.end_of_text:
            ids = torch.where(cold & ~soft, view.end_of_text[0], ids)
        mixed = soft & ~cold & (ids != (-1 if state.end is None else state.end))
        state.soft = mixed if self._marked or view.step + 1 < self.soft_steps else torch.zeros_like(mixed)
        state.certain = torch.where(soft & ~state.soft, 0, state.certain)
        notes = {"ids": thought.ids, "weights": thought.weights, "entropy": found.entropy, "soft": soft}
        if self.max_topk == 1 or not bool(mixed.any()):
            return Step(ids=ids, notes=notes)
        embeds = torch.where(mixed[:, None], self.mix(thought, view), view.lookup(ids))
        return Step(ids=ids, embeds=embeds, notes=notes)

    def mix(self, thought: Candidates, view: View) -> Float[Tensor, "B E"]:
        """What a row that thinks reads."""
        return thought.embeds(view.lookup)

    @property
    def _marked(self) -> bool:
        return self.end != "none"

    @property
    def _thought(self) -> Cut:
        return Cut(self.temperature, self.top_k, self.top_p, self.min_p)

    @property
    def _answer(self) -> Cut:
        return Cut(self.answer_temperature, self.answer_top_k, self.answer_top_p, 0.0)
