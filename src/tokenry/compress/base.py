"""Room: compress. Fewer tokens before the first layer: score units of the text, keep the best, exactly to budget."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tokenry.compress.kept.fit import fit
from tokenry.compress.scores.ranking import Ranking
from tokenry.compress.units.document import Document, documents
from tokenry.compress.units.keepsakes import KINDS, keepsakes
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import size, some_of
from tokenry.core.method import Method
from tokenry.core.tokens import TokenBatch

if TYPE_CHECKING:
    from tokenry.models.files.load import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Compressor(Method):
    """A method that drops tokens of the text by the score of the word or sentence they stand in.

    The budget counts the document tokens of each row: real ones that are not protected. Protected tokens always stay
    and are never counted. Exactly the budget is kept, in the order of the text, whatever the units are; words of the
    kinds in `force` stay first. A method says only how much a unit is worth: `score`.
    """

    room: ClassVar[str] = "compress"
    needs_query: ClassVar[bool] = False

    budget: Budget = size(Budget(share=0.5), doc="document tokens that stay")
    units: str
    force: tuple[str, ...] = some_of(*KINDS, default=(), doc="kinds of words that stay whatever their score")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget.sink or self.budget.recent or self.budget.per != "sequence":
            raise InvalidValue(
                f"{type(self).__name__}: budget must have no sink, no recent and per=sequence, since text is chosen "
                f"before there are keys; got {self.budget}; protect what must stay."
            )

    @abstractmethod
    def score(self, document: Document, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        """How much each unit of `document.units` is worth, at least one unit; higher stays."""

    def compress(
        self, batch: TokenBatch, query: str | None = None, *, model: LanguageModel | None = None
    ) -> TokenBatch:
        """Drop tokens of every row down to the budget.

        Args:
            query: what will be asked about the text.
            model: the model that will answer, for methods that score with it.

        Raises:
            Incompatible: a token that may be dropped comes from no text.
            InvalidValue: the query is missing and needed, or `force` needs more tokens than the budget has.
        """
        return self.fit(batch, self.rank(batch, query, model=model))

    @torch.no_grad()
    def rank(self, batch: TokenBatch, query: str | None = None, *, model: LanguageModel | None = None) -> Ranking:
        """Score the units of every row, each row by itself, and change nothing."""
        if self.needs_query and not (query and query.strip()):
            raise InvalidValue(
                f"{self.name()}: ask must be given, since relevance is relevance to it; got {query!r}; "
                f"pass the question, or use self_information."
            )
        return self.judge(batch, documents(batch, self.units, self.name()), query, model)

    def judge(
        self, batch: TokenBatch, found: list[Document], query: str | None, model: LanguageModel | None
    ) -> Ranking:
        """Score rows as documents; a method that ranks the sources of a row against each other does it here."""
        return Ranking(tuple(found), tuple(self._scores(d, query, model) for d in found))

    def choose(self, ranking: Ranking, row: int, count: int, forced: Bool[np.ndarray, "W"]) -> Bool[np.ndarray, "T"]:
        """Which tokens of a row stay, `count` free ones; a method that gives each source a budget does it here."""
        return fit(ranking.documents[row], ranking.scores[row], count, forced)

    def fit(self, batch: TokenBatch, ranking: Ranking) -> TokenBatch:
        """Keep the best of a ranking of this batch; a batch of which everything stays is returned as it is."""
        stays = batch.mask.cpu().clone()
        for row, document in enumerate(ranking.documents):
            count = self.budget.count(document.size)
            forced = keepsakes(document, self.force)
            needed = int((forced[document.words.of] & document.free).sum())
            if needed > count:
                raise InvalidValue(
                    f"{self.name()}: budget must hold the {needed} tokens of row {row} that "
                    f"force={'+'.join(self.force)} keeps; got {self.budget}, which is {count} of {document.size}; "
                    f"raise the budget or force less."
                )
            stays[row, document.columns] = torch.from_numpy(self.choose(ranking, row, count, forced))
        if torch.equal(stays, batch.mask.cpu()):
            return batch
        return batch.only(stays).renumbered()

    def _scores(self, document: Document, query: str | None, model: LanguageModel | None) -> Float[Tensor, "U"]:
        if not len(document.units):
            return torch.zeros(0)
        return self.score(document, query, model).float().cpu().nan_to_num()
