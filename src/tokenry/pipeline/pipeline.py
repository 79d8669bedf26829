"""An ordered list of methods that answers a question over documents."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from tokenry.compress.kept.shortening import Compressed
from tokenry.core.errors import ContextOverflow, InvalidValue
from tokenry.core.learned import Learned
from tokenry.core.method import Method
from tokenry.core.registry import load as load_method
from tokenry.core.registry import parse
from tokenry.core.tokens import TokenBatch
from tokenry.models.files.load import LanguageModel, load
from tokenry.models.generate.answer import Answer, Attach, Sampling, answer, follow
from tokenry.models.text.document import Document
from tokenry.models.text.prompt import prompt
from tokenry.pipeline.accounting import account
from tokenry.pipeline.preparing import Change, Prepared, cache_of, prepare
from tokenry.pipeline.reading import Reading
from tokenry.pipeline.stages import Stages
from tokenry.pipeline.texts import shorten_all
from tokenry.pipeline.trace import Step, Trace

Documents = str | Document | Sequence[str | Document]


class Pipeline:
    """Methods in the order of a token's life, from its spelling to what comes next.

    Args:
        methods: methods, their one-line forms such as `"dense_relevance:budget=0.25"`, or folders of saved ones.

    Raises:
        Incompatible: an order or a combination that cannot work.
    """

    def __init__(self, methods: Iterable[Method | str] = ()) -> None:
        self.stages = Stages(tuple(parse(m) if isinstance(m, str) else m for m in methods))

    @property
    def methods(self) -> tuple[Method, ...]:
        return self.stages.methods

    def to_dict(self) -> dict[str, Any]:
        """The pipeline as plain values for JSON; of a learned method the folder it is saved in.

        Raises:
            InvalidValue: a learned method that is not saved.
        """
        return {"methods": [_described(m) for m in self.methods]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Pipeline:
        """The inverse of `to_dict`.

        Raises:
            InvalidValue: no list of methods, or one that is not described rightly.
            StorageError: the folder of a learned method is not whole.
        """
        methods = values.get("methods")
        if not isinstance(methods, list) or not all(isinstance(m, Mapping) and "method" in m for m in methods):
            raise InvalidValue(f"pipeline: must be a list of methods by name, under `methods`; got {methods!r}.")
        return cls(map(_revived, methods))

    def compress(
        self, documents: Documents, tokenizer: Any, ask: str | None = None, model: LanguageModel | None = None
    ) -> str:
        """The compressed text itself, for models behind an API; see `shorten`."""
        return self.shorten(documents, tokenizer, ask, model).text

    def shorten(
        self, documents: Documents, tokenizer: Any, ask: str | None = None, model: LanguageModel | None = None
    ) -> Compressed:
        """The compressed text, with marks where something is left out; budgets are ceilings in tokens of `tokenizer`.

        Args:
            tokenizer: whose tokens are counted: a name, a file or an object, see `Counter.of`.

        Raises:
            Incompatible: the pipeline holds something else than compressors, which no text can carry.
        """
        return shorten_all(self.methods, _documents(documents), tokenizer, ask, model)

    def generate(
        self,
        documents: Documents,
        model: str | LanguageModel | Any,
        ask: str | None = None,
        *,
        tokenizer: Any = None,
        system: str | None = None,
        max_new: int = 64,
        sampling: Sampling | None = None,
        tell: Callable[[str], None] | None = None,
        record: bool = False,
    ) -> Trace:
        """Answer `ask` over the documents.

        Args:
            documents: one text or several; `Document` names them and marks spans to protect.
            model: an alias, folder, GGUF file or hub id, or a model object.
            ask: the question; it and the chat template are never compressed.
            tokenizer: of a model object, when it cannot be found by the model's name.
            max_new: most tokens to generate; `sampling` says more.
            tell: called with pieces of the answer as they arrive.
            record: count every read of every token, for the report.

        Raises:
            ContextOverflow: what remains does not fit; the sentence says how many tokens do.
        """
        started = time.perf_counter()
        language = language_of(model, tokenizer)
        loaded = time.perf_counter() - started
        sampling = sampling or Sampling(max_new_tokens=max_new)
        return self.run(documents, language, ask, sampling, system=system, tell=tell, record=record, loaded=loaded)[0]

    def read(
        self,
        documents: Documents,
        model: str | LanguageModel | Any,
        ask: str | None = None,
        *,
        tokenizer: Any = None,
        system: str | None = None,
        max_new: int = 64,
    ) -> Reading:
        """Read the documents once, to answer any number of questions.

        Args:
            ask: what the questions will be about, for compressors that need it.
            max_new: tokens of room that must be left for an answer.

        Raises:
            ContextOverflow: what remains does not fit; the sentence says how many tokens do.
        """
        language = language_of(model, tokenizer)
        final = self.prepare(documents, language, ask, system=system, max_new=max_new).final
        return Reading.of(
            language, final, self.stages.attention, system=system, decoder=self.stages.decoder,
            cache=cache_of(final, self.stages, language),
        )  # fmt: skip

    def prepare(
        self, documents: Documents, language: LanguageModel, ask: str | None, *, system: str | None = None, max_new: int
    ) -> Prepared:
        """What the model is going to read, and how it came about.

        Args:
            max_new: tokens of room that must be left for an answer.

        Raises:
            ContextOverflow: what remains does not fit; the sentence says how many tokens do.
        """
        prepared = prepare(prompt(language.tokenizer, _documents(documents), ask, system), self.stages, ask, language)
        if self.stages.attention is None or not self.stages.attention.extends:
            check_fit(language, prepared.final, max_new)
        return prepared

    def run(
        self,
        documents: Documents,
        language: LanguageModel,
        ask: str | None,
        sampling: Sampling,
        *,
        system: str | None = None,
        tell: Callable[[str], None] | None = None,
        record: bool = False,
        logits: bool = False,
        loaded: float = 0.0,
    ) -> tuple[Trace, Answer]:
        """`generate` with a loaded model, also giving the answer's ids and, when asked for, its logits."""
        prepared = self.prepare(documents, language, ask, system=system, max_new=sampling.max_new_tokens)
        final = prepared.final
        cache = cache_of(final, self.stages, language)
        given = 0 if cache is None else cache.get_seq_length()
        said = answer(
            language, final, sampling, self.attach(language, final, record), tell=tell, logits=logits, cache=cache,
            decoder=self.stages.decoder,
        )  # fmt: skip
        trace = Trace(
            ask=ask or "",
            answer=said.text,
            receipt=account(language, self.stages, prepared, said, loaded=loaded, given=given),
            prompt=prepared.spelled,
            steps=tuple(map(step_of, prepared.changes)),
            pipeline=tuple(map(str, self.methods)),
            model=describe(language),
            reads=said.run.reads if record and said.run is not None else None,
            notes=said.notes,
        )
        return trace, said

    def follow(self, language: LanguageModel, batch: TokenBatch, ids: Int[Tensor, "N"]) -> Float[Tensor, "N V"]:
        """Logits for every token of a given answer to a prepared prompt.

        A decoder has no part in it, since it would choose and read tokens of its own.
        """
        cache = cache_of(batch, self.stages, language)
        return follow(language, batch, ids, self.attach(language, batch), cache=cache)

    def attach(self, language: LanguageModel, batch: TokenBatch, record: bool = False) -> Attach:
        """How to open the block in which the model generates."""
        method = self.stages.attention
        if method is None:
            return nullcontext
        return lambda: method(language.model, prompt_tokens=batch.shape[1], by_column=record)


def language_of(model: str | LanguageModel | Any, tokenizer: Any = None) -> LanguageModel:
    """A loaded language model from whatever the user gave."""
    if isinstance(model, LanguageModel):
        return model
    return load(str(model)) if isinstance(model, str | Path) else LanguageModel.of(model, tokenizer)


def describe(language: LanguageModel) -> dict[str, Any]:
    """What reports say of a model."""
    return {
        "name": language.name,
        "context": language.context,
        "dtype": str(language.dtype).removeprefix("torch."),
        "device": str(language.device),
    }


def check_fit(language: LanguageModel, batch: TokenBatch, max_new: int) -> None:
    """Refuse a prompt that leaves no room for the answer.

    Raises:
        ContextOverflow: saying how many document tokens fit and which budget would.
    """
    n = int(batch.lengths.max())
    if language.context is None or n + max_new <= language.context:
        return
    protected = int((batch.mask & batch.protected).sum())
    room = language.context - max_new - protected
    if room < 1:
        raise ContextOverflow(
            f"prompt: template, question and protected spans must leave room in a context of {language.context} tokens "
            f"beside {max_new} new ones; they take {protected}; shorten the question or protect less."
        )
    whole = int(batch.fate.shape[2]) - protected
    share = int(room / whole * 100) / 100
    raise ContextOverflow(
        f"prompt: must fit into a context of {language.context} tokens with {max_new} new ones; got {n}; "
        f"{room} document tokens fit: use a compressor with budget={room}"
        + (f" or budget={share}." if share > 0 else ".")
    )


def step_of(change: Change) -> Step:
    """What a trace keeps of a change."""
    importance = None if change.ranking is None else change.ranking.originals(change.before)[0]
    return Step(change.batch, importance)


def _described(method: Method) -> dict[str, Any]:
    if not isinstance(method, Learned):
        return method.to_dict()
    if not method.saved:
        raise InvalidValue(f"{method.name()}: must be saved as it is before it is described; call save(folder) first.")
    return {"method": f"{method.room}/{method.name()}", "folder": str(method.folder)}


def _revived(values: Mapping[str, Any]) -> Method:
    kind = load_method(str(values["method"]))
    if "folder" in values:
        if not issubclass(kind, Learned):
            raise InvalidValue(f"{kind.name()}: has nothing to learn, so that no folder holds it; leave folder out.")
        return kind.load(str(values["folder"]))
    return kind.from_dict(values)


def _documents(documents: Documents) -> list[Document]:
    if isinstance(documents, str | Document | Mapping) or not isinstance(documents, Iterable):
        documents = [documents]
    documents = list(documents)
    for other in documents:
        if isinstance(other, Mapping) or hasattr(other, "role"):
            raise InvalidValue("documents: must be texts; got messages; shorten these with compress_messages.")
        if not isinstance(other, str | Document):
            raise InvalidValue(
                f"documents: must be texts; got {type(other).__name__}; decode or read it to a str first."
            )
    found = [Document(d) if isinstance(d, str) else d for d in documents]
    if not found:
        raise InvalidValue("documents: must hold at least one text; got none.")
    return found
