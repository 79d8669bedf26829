"""Exact bytes: a prompt that ends inside a token goes on as if it had been bytes all along."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokenry.core.card import Card
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import between, choice, natural, positive
from tokenry.decode.base import Decoder, Session, State, Step, View
from tokenry.decode.bytes.reader import ByteReader
from tokenry.decode.bytes.spelling import Ids, Spelling
from tokenry.decode.sampling.candidates import Candidates, Cut
from tokenry.models.files.load import LanguageModel


@dataclass
class Healed:
    """A row whose end the model reads in other tokens than were given.

    Args:
        session: the model as it reads the row.
        ids: what it has read behind the marks.
        left: ids that spell what the last of these says beyond the prompt.
    """

    session: Session
    ids: Ids
    left: list[int]


@dataclass
class Reading(State):
    """The rows that are read in other tokens, and how their bytes are spelled."""

    spelling: Spelling | None = None
    rows: dict[int, Healed] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ByteExact(Decoder):
    """Draw the token that covers the end of the prompt, among all that could, and go on in tokens.

    What it does
        With x the bytes of the prompt behind its last mark, cover(x) are the sequences of tokens that the tokenizer
        could write, whose text begins with x, and would not without their last token.
        P(x) = sum over s in cover(x) of P(s),  P(c | x) = P(xc) / P(x) for a next byte c.
        A cover is drawn with probability P(s) / P(x); the model reads it in place of the end of the prompt, what its
        last token says beyond x is said, and what follows is drawn token by token.
    Where it acts
        At the first generated tokens. The prompt is read a second time, so that the model's own cache stays as given.
    Shapes
        scores (B, V) -> ids (B,); rows are independent.
    Guarantees
        What is said has the distribution over bytes that the model has over texts: at temperature 1 the first byte is
        drawn from P(c | x). With `back=0` and `temperature=0` it is greedy decoding.
    Raises
        InvalidValue: no tokenizer is known, where `back` is not 0.
        UnsupportedModel: a tokenizer that is not a fast one, or does not spell text exactly.
    Deviations
        Sequences are valid step by step: each beginning is what the tokenizer writes for its own text. With
        `invalid=kept` covers are checked, but what the model gives to invalid tokens before them is not taken away.
    Relations
        `tokenry.decode.bytes` gives the distributions of bytes themselves: `ByteReader`, and `Together` for several
        models of different vocabularies. Token healing takes back one token and allows what begins with it.
    """

    card = Card(
        title="Exact Byte-Level Probabilities from Tokenized Language Models for FIM-Tasks and Model Ensembles",
        year=2024,
        url="https://arxiv.org/abs/2410.09303",
        summary="prompts that end inside a token go on by their exact distribution over bytes",
        identity_at={"back": 0, "temperature": 0.0},
        trial={"back": 0, "temperature": 1.0},
        claims=(
            "where a prompt ends inside a word, SmolLM2-135M knows the next byte to 0.7 bits, where it needs 6.7 after "
            "the tokens as given and 1.8 with token healing (40 prompts, benchmarks/decode/byte_exact.py)",
            "probabilities of next bytes are those of going through all sequences of a tiny model, to ten digits",
            "said bytes are drawn from this distribution",
        ),
        deviations=(
            "sequences are valid step by step, so that probabilities can be made to sum to one at each step",
            "instead of the last word, all ends that the longest piece could cover are searched",
            "tokens that end inside a character are valid where merging leaves them beside their neighbour",
        ),
    )

    back: int = natural(64, doc="bytes at the end of a prompt that other tokens may cover; 0 reads it as given")
    invalid: str = choice("kept", "removed", default="kept", doc="what models give to ids no tokenizer would write")
    temperature: float = between(0.0, 100.0, default=0.0, doc="divides the logits; 0 takes the likeliest")
    top_k: int = positive(1 << 20, doc="most tokens that one is drawn from")
    top_p: float = between(0.0, 1.0, default=1.0, doc="probability that these tokens reach")
    State = Reading

    def start(self, session: Session) -> Reading:
        if not self.back:
            return Reading()
        if session.tokenizer is None:
            raise InvalidValue("ByteExact: needs the model's tokenizer; got none; pass tokenizer=, or set back=0.")
        return Reading(Spelling.of(session.tokenizer))

    def step(self, view: View) -> Step:
        state = view.state
        if view.step == 0 and state.spelling is not None:
            for row, chance in enumerate(view.uniform().tolist()):
                self._heal(view, row, chance)
        scores = view.scores.clone()
        for row, healed in state.rows.items():
            if not healed.left:
                scores[row] = view.processors(view.ids[row : row + 1], self._logits(view, healed).to(scores))[0]
        ids = Candidates.of(scores, [self._cut] * len(scores)).draw(view.uniform())
        for row, healed in state.rows.items():
            if healed.left:
                ids[row] = healed.left.pop(0)
            elif not bool(view.finished[row]):
                healed.session.read(ids[row].reshape(1, 1))
                healed.session.settle()
                healed.ids = (*healed.ids, int(ids[row]))
        return Step(ids=ids)

    def _heal(self, view: View, row: int, chance: float) -> None:
        """Choose how the end of a row is read."""
        state = view.state
        mask = view.session.mask
        given = view.ids[row] if mask is None else view.ids[row][mask[row, : view.prompt].bool()]
        marks, text = _behind_marks(given.tolist(), state.spelling)
        if not text or not marks:
            return
        assert view.session.tokenizer is not None
        language = LanguageModel(view.session.model, view.session.tokenizer, "", None)
        reader = ByteReader(language, state.spelling, self.invalid == "removed", marks, self.back).push(text)
        ends, logs = [], []
        for cover in reader.covers():
            # What ends with the prompt is one choice, whatever follows it.
            found = [(i, log) for i, log in zip(cover.ids.tolist(), cover.logs.tolist(), strict=True) if cover.rest]
            found = found or [(-1, reader.log(cover.before))]
            ends += [(cover.before, cover.rest, i) for i, _ in found]
            logs += [log for _, log in found]
        before, rest, last = ends[self._pick(np.array(logs), chance)]
        ids = before if last < 0 else (*before, last)
        left = b"" if last < 0 else (state.spelling.vocabulary[last] or b"")[len(rest) :]
        state.rows[row] = Healed(reader.after(ids), ids, list(state.spelling.spell_out(left)))

    def _logits(self, view: View, healed: Healed) -> Float[Tensor, "1 V"]:
        """What follows, and with `invalid=removed` could be written."""
        logits = healed.session.logits[:, -1]
        if self.invalid == "kept":
            return logits
        keeps = torch.zeros(logits.shape[-1], dtype=torch.bool)
        keeps[list(view.end_of_text)] = True
        known = torch.from_numpy(view.state.spelling.may_follow(healed.ids))
        keeps[: len(known)] |= known
        return logits.masked_fill(~keeps, -torch.inf)

    def _pick(self, logs: np.ndarray, chance: float) -> int:
        if not self.temperature:
            return int(logs.argmax())
        p = np.exp((logs - logs.max()) / self.temperature)
        return min(int(np.searchsorted(p.cumsum(), chance * p.sum(), side="right")), len(p) - 1)

    @property
    def _cut(self) -> Cut:
        return Cut(self.temperature, self.top_k, self.top_p, 0.0)


def _behind_marks(ids: list[int], spelling: Spelling) -> tuple[Ids, bytes]:
    """The ids that stay as given, at least one, and the bytes behind them."""
    pieces = spelling.vocabulary
    stays = max((n + 1 for n, i in enumerate(ids) if pieces[i] is None), default=1)
    return tuple(ids[:stays]), pieces.spell(ids[stays:])
