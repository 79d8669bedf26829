"""Room: compress. Fewer tokens before the first layer: score units of the text, keep the best, never above budget."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float

from tokenry.compress.parts.kind import Kind, Sentence
from tokenry.compress.units.keepsakes import KINDS
from tokenry.core.budget import Budget
from tokenry.core.errors import InvalidValue
from tokenry.core.fields import part, setting, size, some_of
from tokenry.core.method import Method

if TYPE_CHECKING:
    from tokenry.compress.kept.shortening import Compressed
    from tokenry.compress.scores.ranking import Ranking
    from tokenry.compress.units.document import Document
    from tokenry.compress.units.page import Page
    from tokenry.core.tokens import TokenBatch
    from tokenry.models.files.load import LanguageModel


@dataclass(frozen=True, kw_only=True)
class Compressor(Method):
    """A method that leaves out units of a text by their score. It says only how much a unit is worth: `score`.

    It has two doors. `shorten` takes a text and gives a text, for models behind an API: units stay or go as a whole,
    what is left out is marked in its place, and the budget, counted in the tokens of any vocabulary, is a ceiling.
    `compress` takes and gives tokens, for a model at hand. Of tokens, words and sentences exactly the budget is kept
    there, and nothing is marked, since every token's fate is known; a kind that reads a format is written anew as in
    a text, with its marks.

    The budget counts the document tokens of each row: real ones that are not protected. Protected tokens always stay
    and are never counted.
    """

    room: ClassVar[str] = "compress"
    needs_query: ClassVar[bool] = False

    budget: Budget = size(Budget(share=0.5), doc="document tokens that stay")
    units: Kind = part(Sentence(), doc="what is kept or dropped as a whole")
    force: tuple[str, ...] = some_of(*KINDS, default=(), doc="kinds of words that stay whatever their score")
    guard: bool = setting(
        True,
        doc="of a text, whether lines with errors stay, and with words the numbers and negations of their sentence",
    )
    fill: bool = setting(False, doc="of a text, whether units that are worth nothing fill the budget up")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget.sink or self.budget.recent or self.budget.per != "sequence":
            raise InvalidValue(
                f"{type(self).__name__}: budget must have no sink, no recent and per=sequence, since text is chosen "
                f"before there are keys; got {self.budget}; protect what must stay."
            )

    @abstractmethod
    def score(self, document: Page, query: str | None, model: LanguageModel | None) -> Any:
        """How much each unit of `document.units` is worth, (U), at least one unit; higher stays."""

    def worth(self, scores: Float[np.ndarray, "U"]) -> Bool[np.ndarray, "U"]:
        """Units whose score is more than chance; others are not kept to fill a budget."""
        return np.ones(len(scores), dtype=bool)

    def spelled(self, text: str, count: Callable[[str], int]) -> str:
        """The same text in fewer tokens, of which units are then left out; itself, but for methods that fold it.

        Args:
            count: how many tokens a text has.
        """
        return text

    def shorten(
        self, text: str, tokenizer: Any, query: str | None = None, *, model: LanguageModel | None = None
    ) -> Compressed:
        """A text with its best units and marks where others stood, of at most the budget's tokens.

        Args:
            tokenizer: whose tokens are counted: a name, a file or an object, see `Counter.of`.
            query: what will be asked about the text.
            model: the model that will answer, for methods that score with it.

        Raises:
            InvalidValue: no text, no question where one is needed, or a budget that cannot hold what `force` keeps.
        """
        from tokenry.compress.kept.shortening import shorten

        if not isinstance(text, str):
            raise InvalidValue(
                f"{self.name()}: text must be a str; got {type(text).__name__}; join texts to one, and shorten chat "
                "messages with compress_messages."
            )
        return shorten(self, text, tokenizer, query, model=model)

    def compress(
        self, batch: TokenBatch, query: str | None = None, *, model: LanguageModel | None = None
    ) -> TokenBatch:
        """Drop tokens of every row down to the budget.

        Args:
            query: what will be asked about the text.
            model: the model that will answer, for methods that score with it and for kinds that write marks.

        Raises:
            Incompatible: a token that may be dropped comes from no text.
            InvalidValue: the query is missing and needed, or `force` needs more tokens than the budget has.
        """
        return self.fit(batch, self.rank(batch, query, model=model), model=model)

    def rank(self, batch: TokenBatch, query: str | None = None, *, model: LanguageModel | None = None) -> Ranking:
        """Score the units of every row, each row by itself, and change nothing."""
        from tokenry.compress.units.document import documents

        self.check_query(query)
        return self.judge(batch, documents(batch, self.units, self.name()), query, model)

    def check_query(self, query: str | None) -> None:
        """Refuse to go on without a question where one is needed."""
        if self.needs_query and not (query and query.strip()):
            raise InvalidValue(
                f"{self.name()}: ask must be given, since relevance is relevance to it; got {query!r}; "
                f"pass the question, or use self_information:scorer=smollm2, which needs none."
            )

    def judge(
        self, batch: TokenBatch, found: list[Document], query: str | None, model: LanguageModel | None
    ) -> Ranking:
        """Score rows as documents; a method that ranks the sources of a row against each other does it here."""
        import torch

        from tokenry.compress.scores.ranking import Ranking

        with torch.no_grad():
            return Ranking(tuple(found), tuple(torch.from_numpy(self.scores(d, query, model)).float() for d in found))

    def choose(self, ranking: Ranking, row: int, count: int, forced: Bool[np.ndarray, "W"]) -> Bool[np.ndarray, "T"]:
        """Which tokens of a row stay, `count` free ones; a method that gives each source a budget does it here."""
        from tokenry.compress.kept.fit import fit

        return fit(ranking.documents[row], ranking.scores[row], count, forced)

    def fit(self, batch: TokenBatch, ranking: Ranking, *, model: LanguageModel | None = None) -> TokenBatch:
        """Keep the best of a ranking of this batch; a batch of which everything stays is returned as it is."""
        from tokenry.compress.kept.batches import fitted

        return fitted(self, batch, ranking, model)

    def scores(self, document: Page, query: str | None, model: LanguageModel | None) -> Float[np.ndarray, "U"]:
        """What `score` says, as numbers that can be put in order."""
        if not len(document.units):
            return np.zeros(0)
        found = self.score(document, query, model)
        found = found.detach().float().cpu().numpy() if hasattr(found, "detach") else np.asarray(found)
        return np.nan_to_num(found.astype(np.float64))
