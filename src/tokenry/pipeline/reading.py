"""Documents that were read once, and answer one question after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache

from tokenry.attend.base import Attention
from tokenry.attend.running.run import Run
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.method import Method
from tokenry.core.registry import load as load_method
from tokenry.core.tokens import TokenBatch
from tokenry.decode.base import Decoder
from tokenry.models.attention.adapter import ModelAdapter
from tokenry.models.cache.frozen import FrozenCache
from tokenry.models.cache.name import with_cache
from tokenry.models.cache.own import own_buffers
from tokenry.models.files.load import LanguageModel
from tokenry.models.generate.answer import Answer, Sampling, after, answer
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import prompt


class Reading:
    """What a model holds of documents it has read: a cache, perhaps compressed, and how their prompt goes on.

    `Pipeline.read` makes one. Every question starts from the same cache, as if it were the first; the documents are
    not read again. `save` and `load` carry it into another process.

    Args:
        language: the model that has read.
        method: the attention method that goes on, or None.
        frozen: the cache after the last token of the documents.
        ids: (N,) the tokens that were read: template and documents as they were left by compressors. A soft token has
            no id; 0 stands in its place.
        system: what stands before the user's text in a chat template.
        decoder: what chooses the tokens of answers, or None.
    """

    def __init__(
        self, language: LanguageModel, method: Attention | None, frozen: FrozenCache, ids: torch.Tensor,
        *, system: str | None = None, decoder: Decoder | None = None,
    ) -> None:  # fmt: skip
        self.language, self.method, self.frozen, self.ids, self.system = language, method, frozen, ids, system
        self.decoder = decoder

    @classmethod
    @torch.no_grad()
    def of(
        cls, language: LanguageModel, batch: TokenBatch, method: Attention | None, *, system: str | None = None,
        decoder: Decoder | None = None, cache: Cache | None = None,
    ) -> Reading:  # fmt: skip
        """Read the prompt `batch` up to the last token of its documents.

        Args:
            cache: of its first columns, which are then not read.
        """
        adapter, frozen, held = ModelAdapter.of(language.model), None, 0
        if cache is not None:
            own_buffers(cache)
            frozen, held = FrozenCache.of(cache, adapter.model), cache.get_seq_length()
        part = batch.take(torch.arange(_end_of_documents(batch), device=batch.mask.device)[None])
        ids = _row(part)
        cache, _ = _cache(language, method, len(ids), frozen)
        inputs = after(part.to(language.device).model_inputs(), held)
        with adapter.attached():
            language.model(**inputs, **with_cache(cache), use_cache=True, logits_to_keep=1)
        return cls(language, method, FrozenCache.of(cache, adapter.model), ids, system=system, decoder=decoder)

    @property
    def tokens(self) -> int:
        """Tokens that were read."""
        return len(self.ids)

    @property
    def kv_bytes(self) -> int:
        """Bytes that the cache holds."""
        return self.frozen.nbytes

    def ask(self, question: str, *, max_new: int = 64, sampling: Sampling | None = None, tell: Any = None) -> Answer:
        """Answer a question; only its own tokens are read.

        Raises:
            InvalidValue: an empty question.
        """
        if not question.strip():
            raise InvalidValue(f"ask: must hold a question; got {question!r}.")
        ids = torch.cat((self.ids, self._question(question)))
        cache, run = _cache(self.language, self.method, len(self.ids), self.frozen)
        batch = TokenBatch.from_ids(ids[None])
        said = answer(
            self.language, batch, sampling or Sampling(max_new_tokens=max_new),
            ModelAdapter.of(self.language.model).attached, tell=tell, cache=cache, decoder=self.decoder,
        )  # fmt: skip
        said.run = run
        return said

    def save(self, file: str | Path) -> None:
        """Write one file, whole or not at all.

        Raises:
            StorageError: it cannot be written.
        """
        self.frozen.save(
            file, ids=self.ids.tolist(), method=self.method.to_dict() if self.method else None, system=self.system,
            decoder=self.decoder.to_dict() if self.decoder else None,
        )  # fmt: skip

    @classmethod
    def load(cls, file: str | Path, language: LanguageModel) -> Reading:
        """Go on with a saved reading and the model it was made with.

        Raises:
            StorageError: the file is missing, damaged or holds something else.
            Incompatible: another model.
        """
        frozen, more = FrozenCache.load(file)
        ids = more.get("ids")
        if not isinstance(ids, list) or not all(isinstance(i, int) and i >= 0 for i in ids):
            raise StorageError(f"{file}: must hold the ids that were read; it does not.")
        method, decoder = (_revived(more.get(name)) for name in ("method", "decoder"))
        if not isinstance(method, Attention | None) or not isinstance(decoder, Decoder | None):
            raise StorageError(f"{file}: must hold an attention method and a decoder; got {method} and {decoder}.")
        frozen.thaw(ModelAdapter.of(language.model).model)
        return cls(language, method, frozen, torch.tensor(ids), system=more.get("system"), decoder=decoder)

    def _question(self, question: str) -> torch.Tensor:
        """What follows the documents in the prompt of a question."""
        batch = prompt(self.language.tokenizer, [Document("x")], question, self.system)
        return _row(batch)[_end_of_documents(batch) :]


def _cache(
    language: LanguageModel, method: Attention | None, prompt_tokens: int, frozen: FrozenCache | None
) -> tuple[Cache, Run | None]:
    if method is not None:
        return method.bound(language.model, prompt_tokens=prompt_tokens, frozen=frozen)
    model = ModelAdapter.of(language.model).model
    cache = DynamicCache(config=model.config) if frozen is None else frozen.thaw(model)
    own_buffers(cache)
    return cache, None


def _revived(values: Any) -> Method | None:
    return load_method(str(values.get("method"))).from_dict(values) if isinstance(values, dict) else None


def _row(batch: TokenBatch) -> torch.Tensor:
    assert batch.ids is not None
    return batch.ids[0][batch.mask[0]].clamp_min(0)


def _end_of_documents(batch: TokenBatch) -> int:
    """How many tokens come before the question: the last token that stands for a text, and all before it."""
    kinds = {i for i, source in enumerate(batch.origin.sources) if source.kind == "text"}
    spans = batch.spans()[0][batch.mask[0]]
    of_text = torch.tensor([int(first) in kinds for first in spans[:, 0]])
    return int(of_text.nonzero()[-1]) + 1 if bool(of_text.any()) else 0
