"""Give a tokenizer the marks that a model knows: by name, by role, and with the model's chat template."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tokenry.core.errors import InvalidValue, UnsupportedModel

ROLES = ("eos", "bos", "pad", "unk")
"""A mark with several roles takes the place of the first."""


@dataclass(frozen=True, slots=True, eq=False)
class Dressed:
    """A tokenizer with the marks of a model.

    Args:
        tokenizer: a new one; the given one stays as it was.
        marks: the model's own id of each mark that it knows, by its new id.
    """

    tokenizer: PreTrainedTokenizerBase
    marks: Mapping[int, int]


def dress(
    tokenizer: PreTrainedTokenizerBase,
    like: PreTrainedTokenizerBase,
    needed: Iterable[int] = (),
    rows: int | None = None,
) -> Dressed:
    """A tokenizer that cuts text as `tokenizer` does, and marks what is not text as `like` does.

    A mark of `like` keeps its name where the tokenizer has one of this name, and where the chat template writes it:
    then it is added. Else it takes the place of the tokenizer's mark in the same role. Before and behind a text stand
    the marks that `like` puts there.

    Args:
        needed: ids of marks of `like` that must not be lost.
        rows: ids from this one on are none that the model of `like` knows.

    Raises:
        UnsupportedModel: a tokenizer that is not a fast one.
        InvalidValue: a tokenizer without pieces.
    """
    for given in (tokenizer, like):
        if not given.is_fast:
            raise UnsupportedModel("tokenizer: must be a fast one, whose pieces are known; got a slow one.")
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    if not backend.get_vocab_size(with_added_tokens=False):
        raise InvalidValue("tokenizer: must have pieces; got an empty vocabulary; train it first.")
    known = {t.content: i for i, t in like.added_tokens_decoder.items() if t.special} | _named(like)
    known = {name: i for name, i in known.items() if rows is None or i < rows}
    names = {i: name for name, i in known.items()}
    begin, end = ([names[i] for i in ids if i in names] for ids in _around(like))
    needed_names = {*begin, *end, *(names[i] for i in needed if i in names)}
    renamed = _renamed(known, like, tokenizer, needed_names)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in renamed.values()])
    dressed = PreTrainedTokenizerFast(
        tokenizer_object=_wrap(backend, [renamed[n] for n in begin], [renamed[n] for n in end]),
        **_roles(renamed, like, tokenizer),
        model_max_length=like.model_max_length,
        padding_side=like.padding_side,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
    dressed.chat_template = like.chat_template
    ids = dressed.get_vocab()
    return Dressed(dressed, {ids[new]: known[old] for old, new in renamed.items()})


def _renamed(
    known: Mapping[str, int], like: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase, needed: set[str]
) -> dict[str, str]:
    """The new name of each mark that is carried over."""
    template: Any = like.chat_template or ""
    written = template if isinstance(template, str) else "\n".join(template.values())
    there = tokenizer.backend_tokenizer.token_to_id
    new = {name: name for name in known if name in written or there(name) is not None}
    for role in ROLES:
        name, partner = _mark(like, role), _mark(tokenizer, role)
        if name is None or name in new or name not in known:
            continue
        if re.search(rf"\b{role}_token\b", written) or partner in (None, *new.values()):
            # A text of unknown pieces is no mark: where the tokenizer has none, it needs none.
            new |= {name: name} if role != "unk" else {}
        elif partner is not None:
            new[name] = partner
    return new | {name: name for name in sorted(needed - new.keys())}


def _roles(
    renamed: Mapping[str, str], like: PreTrainedTokenizerBase, tokenizer: PreTrainedTokenizerBase
) -> dict[str, str]:
    """Who holds which role: as in `like`; padding and unknown pieces need a holder where the tokenizer has one."""
    held = {role: renamed.get(_mark(like, role) or "") for role in ROLES if role != "unk"}
    held["unk"] = _mark(tokenizer, "unk")
    held["pad"] = held["pad"] or _mark(tokenizer, "pad")
    return {f"{role}_token": name for role, name in held.items() if name is not None}


def _mark(tokenizer: PreTrainedTokenizerBase, role: str) -> str | None:
    name = getattr(tokenizer, f"{role}_token")
    return None if name is None else str(name)


def _named(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The marks that hold a role, which need not be marked as special."""
    held = {_mark(tokenizer, role): getattr(tokenizer, f"{role}_token_id") for role in ROLES}
    return {name: i for name, i in held.items() if name is not None and i is not None}


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The ids that stand before and behind a text."""
    backend = tokenizer.backend_tokenizer
    text = backend.encode("a", add_special_tokens=False).ids
    whole = backend.encode("a", add_special_tokens=True).ids
    begin = next(i for i in range(len(whole) + 1) if whole[i : i + len(text)] == text)
    return whole[:begin], whole[begin + len(text) :]


def _wrap(backend: Tokenizer, begin: list[str], end: list[str]) -> Tokenizer:
    """The same tokenizer with these marks around a text, in place of its own."""
    described = json.loads(backend.to_str())
    steps = [step for step in _steps(described["post_processor"]) if step["type"] == "ByteLevel"]
    if begin or end:
        single, pair = _around_each(begin, end, "A"), _around_each(begin, end, "A", "B")
        special = {n: {"id": n, "ids": [backend.token_to_id(n)], "tokens": [n]} for n in (*begin, *end)}
        steps.append({"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special})
    described["post_processor"] = {"type": "Sequence", "processors": steps} if steps else None
    return Tokenizer.from_str(json.dumps(described))


def _around_each(begin: list[str], end: list[str], *texts: str) -> list[dict[str, Any]]:
    before, after = ([{"SpecialToken": {"id": name, "type_id": 0}} for name in names] for names in (begin, end))
    return [step for text in texts for step in (*before, {"Sequence": {"id": text, "type_id": 0}}, *after)]


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A step, or the steps inside it."""
    if not step:
        return []
    return [s for inner in step["processors"] for s in _steps(inner)] if step["type"] == "Sequence" else [step]
