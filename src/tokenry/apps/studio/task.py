"""What a page asks the studio to do: one input, read by one reader through some methods."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tokenry.core.errors import InvalidValue

Kind = Literal["text", "messages", "picture", "sound"]
MOST_TEXT = 8 << 20
"""Bytes of a text; a page that held the tokens of more would be slow whatever it draws."""
MOST_DATA = 32 << 20
"""Bytes of a picture or a sound."""
MOST_NEW = 4096
MOST_METHODS = 16


@dataclass(frozen=True, kw_only=True)
class Task:
    """One way through the studio.

    Args:
        kind: what the input is; one of `text`, `messages` and `data` holds it.
        name: of the input, such as that of its file.
        ask: the question, if there is one.
        reader: the tokenizer that reads, or the model where `answer` is set.
        methods: in their one-line form.
        answer: whether the model answers.
        max_new: most tokens of the answer.
        beside: whether the answer is judged beside that of the model without methods.
    """

    kind: Kind
    text: str = ""
    messages: tuple[Any, ...] = ()
    data: bytes = b""
    name: str = ""
    ask: str = ""
    reader: str = ""
    methods: tuple[str, ...] = ()
    answer: bool = False
    max_new: int = 64
    beside: bool = False

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Task:
        """A task from the JSON that a page sent.

        Raises:
            InvalidValue: a value of another type, an empty input, or too much of something.
        """
        known = set(cls.__dataclass_fields__)
        for name in body:
            if name not in known:
                raise InvalidValue(f"studio: a task has no {name!r}; it has {', '.join(sorted(known))}.")
        kind, data = body.get("kind", "text"), _text(body, "data")
        if kind not in get_args(Kind):
            raise InvalidValue(f"kind: must be one of {', '.join(get_args(Kind))}; got {kind!r}.")
        task = cls(
            kind=kind, text=_text(body, "text"), messages=tuple(_list(body, "messages")), data=_bytes(data),
            name=_text(body, "name")[:200], ask=_text(body, "ask"), reader=_text(body, "reader"),
            methods=tuple(_list(body, "methods")), answer=body.get("answer", False), max_new=body.get("max_new", 64),
            beside=body.get("beside", False),
        )  # fmt: skip
        task._check()
        return task

    def _check(self) -> None:
        if not all(isinstance(m, str) for m in self.methods) or len(self.methods) > MOST_METHODS:
            raise InvalidValue(f"methods: must be at most {MOST_METHODS} one-line forms; got {self.methods!r:.200}.")
        for name, value in (("answer", self.answer), ("beside", self.beside)):
            if not isinstance(value, bool):
                raise InvalidValue(f"{name}: must be true or false; got {value!r}.")
        if type(self.max_new) is not int or not 1 <= self.max_new <= MOST_NEW:
            raise InvalidValue(f"max_new: must be a whole number in [1, {MOST_NEW}]; got {self.max_new!r}.")
        try:
            size = len(self.text.encode())
            (
                self.ask
                + self.name
                + self.reader
                + "".join(self.methods)
                + json.dumps(self.messages, ensure_ascii=False)
            ).encode()
        except UnicodeEncodeError as error:
            raise InvalidValue(
                f"text: must be text that UTF-8 can hold; got half of a surrogate pair at character {error.start}."
            ) from error
        if size > MOST_TEXT:
            raise InvalidValue(
                f"text: must be at most {MOST_TEXT >> 20} MB in the studio; got {size / (1 << 20):.1f} MB; take a part "
                "of it, or the command line."
            )
        held = {"text": self.text.strip(), "messages": self.messages}.get(self.kind, self.data)
        if not held:
            raise InvalidValue(f"{self.kind}: must hold something; got nothing; paste, type or drop it.")


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise InvalidValue(f"{name}: must be a text; got {type(value).__name__}.")
    return value


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name, [])
    if not isinstance(value, list):
        raise InvalidValue(f"{name}: must be a list; got {type(value).__name__}.")
    return value


def _bytes(data: str) -> bytes:
    if len(data) * 3 // 4 > MOST_DATA:
        raise InvalidValue(f"file: must be at most {MOST_DATA >> 20} MB; got {len(data) * 3 // 4 >> 20} MB; shrink it.")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValue(f"data: must be base64; {error}.") from error
