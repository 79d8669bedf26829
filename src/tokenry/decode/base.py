"""Room: decode. What comes next: `step` chooses the ids, and what the model reads of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from tokenry.core.method import Method
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate import decoding
from tokenry.models.generate.session import Session
from tokenry.models.generate.step import Step, View

__all__ = ["Decoder", "Session", "State", "Step", "View"]


@dataclass
class State:
    """What a decoder remembers of one generation; tensors have the rows as first axis."""


class Decoder(Method):
    """A method that chooses what comes next, inside the model's own `generate`.

    Caches, attached attention methods, streamers, stopping criteria and logits processors go on working, since only
    the choice of a token and what is read of it are replaced. A decoder may say one id per step or several, read a
    mixture in place of an id's embedding, read ahead and take it back, and keep other models in its state.
    """

    room: ClassVar[str] = "decode"
    State: ClassVar[type] = State
    draws: ClassVar[bool] = False
    """Whether scores shall come with the temperature, top-p and top-k given to `generate`."""
    feeds_embeds: ClassVar[bool] = False
    """Whether a step may have the model read a mixture of embeddings; models are proven to be able to."""
    reads_ahead: ClassVar[bool] = False
    """Whether a step reads and crops by itself."""
    needs_hidden: ClassVar[bool] = False
    """Whether a step looks at final hidden states."""

    def start(self, session: Session) -> Any:
        """The state of a new generation, before the prompt is read."""
        return self.State()

    @abstractmethod
    def step(self, view: View) -> Step:
        """What to say next."""

    @contextmanager
    def attached(self, model: Any) -> Iterator[None]:
        """What shall hold while the model generates, such as hooks; nothing by itself."""
        yield

    def generate(
        self, model: Any, *, tokenizer: Any = None, streamer: Any = None, seed: int = 0, **options: Any
    ) -> Any:
        """`model.generate` with this decoder; returns what that does, with `notes` where it is a dictionary.

        Args:
            model: a `LanguageModel`, or a transformers model.
            tokenizer: of a model that comes without, for marks and for `stop_strings`.
            streamer: gets the ids as they are said.
            seed: of row 0; row i draws from seed + i. The global random state is neither read nor changed.
            options: everything else that `generate` takes, such as `input_ids` and `max_new_tokens`.

        Raises:
            Incompatible: beam search, sampling by `generate`, or generation without a cache.
            UnsupportedModel: an encoder-decoder, or a model that cannot read embeddings.
        """
        if isinstance(model, LanguageModel):
            model, tokenizer = model.model, tokenizer or model.tokenizer
        return decoding.generate(model, self, tokenizer=tokenizer, streamer=streamer, seed=seed, **options)
