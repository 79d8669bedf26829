"""Programming languages: what a text is written in, and its syntax tree, where the grammars are installed."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any


@dataclass(frozen=True, slots=True)
class Grammar:
    """Where a grammar comes from, and the sign that begins a comment."""

    module: str
    language: str = "language"
    comment: str = "//"


GRAMMARS: Mapping[str, Grammar] = {
    "python": Grammar("tree_sitter_python", comment="#"),
    "javascript": Grammar("tree_sitter_javascript"),
    "typescript": Grammar("tree_sitter_typescript", "language_typescript"),
    "tsx": Grammar("tree_sitter_typescript", "language_tsx"),
    "java": Grammar("tree_sitter_java"),
    "csharp": Grammar("tree_sitter_c_sharp"),
    "go": Grammar("tree_sitter_go"),
    "rust": Grammar("tree_sitter_rust"),
    "c": Grammar("tree_sitter_c"),
    "cpp": Grammar("tree_sitter_cpp"),
    "ruby": Grammar("tree_sitter_ruby", comment="#"),
    "bash": Grammar("tree_sitter_bash", comment="#"),
}
_SEEN: Mapping[tuple[str, ...], str] = {
    ("python",): r"""^\s*(?:async\s+)?(?:def|class)\s+\w+.*[:(,]\s*(?:\#.*)?$ | ^\s*from\s+[\w.]+\s+import\s
        | ^import\s+[\w.]+(?:\s+as\s+\w+)?\s*$ | ^\s*(?:if|elif|else|for|while|with|try|except)\b.*:\s*$
        | ^\s*@\w+ | ^\s+self\.\w+ | ^\s*(?:return|raise|yield)\b(?!.*;\s*$)""",
    ("javascript", "typescript", "tsx"): r"""^\s*(?:const|let|var)\s+[\w{\[$] | ^\s*(?:export|import)\s.*(?:from|[{;])
        | =>\s*[{(\w] | \bfunction\s*\*?\s*\w*\s*\( | \brequire\( | \bmodule\.exports
        | ^\s*(?:export\s+)?(?:interface|type|declare)\s+\w+""",
    ("java",): r"""^\s*(?:public|private|protected)\s+[\w<>\[\], ]+[({;=] | ^package\s+[\w.]+;
        | ^import\s+(?:static\s+)?[\w.]+(?:\.\*)?; | ^\s*@(?:Override|Test)\b""",
    ("csharp",): r"""^\s*using\s+[\w.= ]+; | ^\s*namespace\s+[\w.]+ | \{\s*get;
        | ^\s*(?:public|private|internal|protected)\s+(?:static\s+|async\s+|readonly\s+|override\s+)*[\w<>\[\],? ]+""",
    ("go",): r"^package\s+\w+\s*$ | ^func\s | \s:=\s | ^import\s+[(\"] | ^type\s+\w+\s+(?:struct|interface|func)\b",
    ("rust",): r"""^\s*(?:pub(?:\(\w+\))?\s+)?(?:fn|struct|enum|impl|trait|mod|use)\b.*[{;(<,]\s*$
        | \blet\s+(?:mut\s+)?\w+.*[;{]$ | ^\s*\#!?\[\w | \)\s*->\s*[\w&<] | &mut\b""",
    ("c", "cpp"): r"""^\s*\#\s*(?:include|define|ifdef|ifndef|endif|pragma)\b | \w->\w | \bstd::
        | ^\s*(?:static|const|struct|unsigned|void|int|char|long|double|float|bool|size_t|auto)\s[\w*&\s]+\s*[(;={\[]
        | ^\s*(?:template\s*<|namespace\s|typedef\s|using\s+\w) | ^\s*(?:public|private|protected):\s*$""",
    ("ruby",): r"""^\s*def\s+[\w.?!=]+\s*(?:\(.*\))?\s*$ | ^\s*end\s*$ | ^\s*require(?:_relative)?\s+['"]
        | \bdo\s*(?:\|[^|]*\|)?\s*$ | ^\s*(?:module|class)\s+[A-Z]\w*(?:\s*<\s*[\w:]+)?\s*$ | ^\s*attr_\w+""",
    ("bash",): r"""\A\#!.*sh\b | ^\s*(?:fi|done|esac)\s*$ | ;\s*(?:then|do)\s*$ | ^\s*(?:function\s+)?\w+\s*\(\)\s*\{
        | ^\s*(?:if|while|elif)\s+\[ | ^\s*export\s+\w+= | ^\s*\w+=["$\w(] | ["\s]\$\{?[A-Za-z_@]\w*""",
}
"""Lines by which a language is told; of several in a row, the first that parses."""

_SIGNS = {names: re.compile(sign, re.VERBOSE | re.MULTILINE) for names, sign in _SEEN.items()}
_SIGNED = re.compile(r"^[^\n(){}\[\]=;]*+[(){}\[\]=;]", re.MULTILINE)
_SIGNED_SHARE = 0.2
"""Lines of code that hold a bracket, an equals sign or a semicolon, at least."""
_LOOKED_AT = 20_000
_SHARE = 0.04
"""Signs a line that a language shows at least."""
_TRIED = 3


@lru_cache(maxsize=16)
def language_of(text: str) -> str | None:
    """The programming language that a text is written in and parses as; None where there is none."""
    return next((name for name in _likely(text) if parses(text, name)), None)


@lru_cache(maxsize=16)
def parses(text: str, language: str) -> bool:
    """Whether a text is of a language, without an error."""
    root = tree(text, language)
    return root is not None and not root.has_error and root.named_child_count > 0


def tree(text: str, language: str) -> Any:
    """The root of the syntax tree; None where the grammar is not installed."""
    known = _grammar(language)
    if known is None:
        return None
    from tree_sitter import Parser

    return Parser(known).parse(text.encode("utf-8", "replace")).root_node


@lru_cache(maxsize=32)
def _grammar(language: str) -> Any:
    try:
        from tree_sitter import Language

        grammar = GRAMMARS[language]
        return Language(getattr(importlib.import_module(grammar.module), grammar.language)())
    except (ImportError, AttributeError, ValueError):
        return None


def _likely(text: str) -> Iterator[str]:
    """Languages of whose signs a text shows enough, those with most first."""
    begin = text[:_LOOKED_AT]
    lines = sum(not line.isspace() for line in begin.split("\n") if line)
    if sum(1 for _ in _SIGNED.finditer(begin)) < max(2, _SIGNED_SHARE * lines):
        return
    signs = {names: sum(1 for _ in sign.finditer(begin)) for names, sign in _SIGNS.items()}
    for names in sorted(signs, key=lambda n: -signs[n])[:_TRIED]:
        if signs[names] >= max(2, _SHARE * lines):
            yield from names
