"""Code: what is left parses in every language, statements stand under what holds them, and marks are comments."""

from __future__ import annotations

import random
import subprocess
import sys
from textwrap import dedent

import numpy as np
import pytest

from tests.compress.test_shorten import Words
from tokenry.compress.kept.writing import pieces, written
from tokenry.compress.parts.auto import kind_of
from tokenry.compress.parts.code import Code
from tokenry.core.registry import parse

pytest.importorskip("tree_sitter", reason="the extra `code` is not installed")


def many(lines: str, n: int = 12) -> str:
    return "".join(lines.replace("~", str(i)) for i in range(n))


CODE = {
    "python": '"""Doc."""\nimport os\nfrom a import (\n    b,\n)\n\n\n@deco\nclass A(B):\n    """About A."""\n\n    x: int = 1\n\n'
    + many('    # why ~\n    def f~(self, a=(1,\n             2)):\n        """Say ~."""\n        if a:\n            return ~\n'
           "        for b in a:\n            g(b)\n\n        return s\n\n")
    + "\nasync def long(q):\n    match q:\n        case 1:\n            a()\n        case _:\n"
    + many("            b(~)\n") + "    try:\n" + many("        c(~)\n", 30)
    + "    except E:  # odd\n        d()\n    else:\n        e()\n\nif x:\n    pass\n",
    "javascript": "import a from 'a';\nconst {b} = require('b');\n\n/** About C. */\nexport class C extends D {\n  #x = 1;\n"
    + many("  async f~(a, b) {\n    if (a) { return b; }\n    const g = () => {\n      h(~);\n      i();\n      j();\n    };\n"
           "    return `t\n${~}`;\n  }\n\n")
    + "}\n\nmodule.exports = C;\n",
    "typescript": "import { a } from 'a';\n\nexport interface I {\n  a: string;\n  b?: number;\n}\n\ntype T = I | null;\n\n"
    + many("export async function f~(x: string): Promise<void> {\n  const y: number = ~;\n  if (!x) {\n    return;\n  }\n"
           "  await g(y as any);\n}\n\n"),
    "java": "package a.b;\n\nimport java.util.List;\nimport java.util.Map;\n\n/** About. */\npublic class A {\n"
    + many("    /** Does ~. */\n    @Override\n    public int f~(int a) {\n        if (a > 0) {\n            return a;\n        }\n"
           "        int b = ~;\n        return b;\n    }\n\n")
    + "}\n",
    "csharp": "using System;\nusing System.Linq;\n\nnamespace A.B\n{\n    public class C\n    {\n        public int X { get; set; }\n"
    + many("        /// <summary>~</summary>\n        public int F~(int a)\n        {\n            var b = a + ~;\n"
           "            if (b > 1)\n            {\n                return 1;\n            }\n            return b;\n        }\n\n")
    + "    }\n}\n",
    "go": 'package main\n\nimport (\n\t"fmt"\n\t"os"\n)\n\ntype T struct {\n\tA int\n}\n\n'
    + many("// F~ does it.\nfunc (t *T) F~(a int) (int, error) {\n\tb := a + ~\n\tif b > 1 {\n\t\treturn 0, fmt.Errorf(\"x\")\n\t}\n"
           "\tswitch {\n\tcase a > 1:\n\t\tb = 2\n\t}\n\treturn b, nil\n}\n\n"),
    "rust": "use std::io;\nuse std::fmt::{self, Display};\n\n#[derive(Debug)]\npub struct A {\n    a: i32,\n}\n\nimpl A {\n"
    + many("    /// Does ~.\n    pub fn f~(&self, a: i32) -> i32 {\n        let mut b = a + ~;\n        if b > 1 {\n            return 1;\n"
           "        }\n        match b {\n            1 => 2,\n            _ => 3,\n        }\n    }\n\n")
    + "}\n",
    "c": "#ifndef A_H\n#define A_H\n#include <stdio.h>\n#include <stdlib.h>\n\nstruct a {\n    int b;\n};\n\n"
    + many("/* Does ~. */\nstatic int f~(int a, char *b)\n{\n    int c = a + ~;\n    if (c > 1)\n        return 1;\n"
           "    while (*b) {\n        b++;\n    }\n    return c;\n}\n\n")
    + "#endif\n",
    "cpp": "#include <vector>\n#include <string>\n\nnamespace a {\n\ntemplate <typename T>\nclass B {\npublic:\n"
    + many("    int f~(const std::string& a) const {\n        auto b = a.size() + ~;\n        if (b > 1) {\n            return 1;\n"
           "        }\n        return b;\n    }\n\n")
    + "};\n\n}  // namespace a\n",
    "ruby": "require 'json'\nrequire_relative 'a'\n\nmodule A\n  class B < C\n    attr_reader :a\n\n"
    + many("    # Does ~.\n    def f~(a)\n      b = a + ~\n      return 1 if b > 1\n      a.each do |c|\n        puts c\n      end\n      b\n    end\n\n")
    + "  end\nend\n",
    "bash": "#!/usr/bin/env bash\nset -euo pipefail\n\n"
    + many("# does ~\nf~() {\n  local a=\"$1\"\n  if [ -z \"$a\" ]; then\n    return 1\n  fi\n  for b in $a; do\n    echo \"$b ~\"\n  done\n}\n\n")
    + 'f1 "$@"\n',
}  # fmt: skip


@pytest.mark.parametrize("language", CODE)
def test_what_is_left_parses_in_every_language(language):
    text = CODE[language]
    kind = kind_of(text)
    assert isinstance(kind, Code)
    cut = kind.cut(text)
    assert cut.kinds[0].language == language
    assert cut.has_children.any()
    for ends in ("\n", "\r\n"):
        text = CODE[language].replace("\n", ends)
        cut = kind.cut(text)
        for seed in range(12):
            rng = random.Random(seed)
            kept = np.array([rng.random() < seed / 12 for _ in range(len(cut))], dtype=bool)
            left = written(pieces(text, cut, cut.with_parents(kept)))
            assert cut.kinds[0].valid(left), left
            assert ends == "\r\n" or "\r" not in left


def test_a_guard_is_never_left_out_without_a_mark():
    text = CODE["python"] + dedent('''
        def quote(s):
            """Return a shell-escaped version."""
            if not s:
                return "''"
            if find_unsafe(s) is None:
                return s

            # use single quotes
            return "'" + s.replace("'", "''") + "'"
        ''')
    found = parse("lexical_relevance:budget=0.1,units=auto,guard=false").shorten(text, Words(), "replace quotes in s")
    start = found.text.index("def quote(s):")
    quote = found.text[start:]
    number = text[: text.index("    if not s:")].count("\n") + 1
    assert quote.startswith(
        f'def quote(s):\n    """Return a shell-escaped version."""\n    # … lines {number}–{number + 4}\n'
    )
    compile(found.text, "left", "exec")


def test_what_stands_for_a_body_does_nothing():
    text = "import os\n\n\ndef f(a):\n    b = a + 1\n    c = b + 1\n    d = c + 1\n    return d\n\n\nx = f(1)\n"
    cut = Code().cut(text)
    kept = np.array([t.startswith(("def", "x")) for t in cut.texts(text)])
    assert written(pieces(text, cut, kept)) == (
        "# lines 1–3 left out; the source is unchanged\ndef f(a):\n    ...  # … lines 5–8\n\n\nx = f(1)\n"
    )


@pytest.mark.parametrize(
    "text", ["def f(:\n  x\nimport os\n" * 9, "class A {", "", "\ud800 def f(): pass", "fi\ndone\n(" * 9]
)
def test_what_does_not_parse_is_cut_by_lines(text):
    assert not Code().is_one(text)
    assert Code().cut(text).kinds[0].name() == "lines"
    assert kind_of(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "Import costs rose. Then we let it be.\n\nReturn to it? If so, for a while.\n" * 9,
        "for a while\nif it is\nwith me\n" * 9,
    ],
)
def test_prose_is_no_code(text):
    assert not Code().is_one(text)


def test_without_the_grammars_code_is_cut_by_lines():
    program = (
        "import sys; sys.modules['tree_sitter'] = None\n"
        "from tests.compress.test_code import CODE; from tokenry.compress.parts.auto import kind_of\n"
        "assert all(kind_of(t).name() != 'code' for t in CODE.values())"
    )
    program = program.replace("from tests", "import pytest; pytest.importorskip = lambda *a, **k: None\nfrom tests")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
