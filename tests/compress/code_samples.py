"""Code of every language that is known, long enough that some of it may go."""

from __future__ import annotations


def many(lines: str, n: int = 12) -> str:
    """Lines once for each number, which stands where `~` stood."""
    return "".join(lines.replace("~", str(i)) for i in range(n))


CODE = {
    "python": '''\
"""Doc."""
import os
from a import (
    b,
)


@deco
class A(B):
    """About A."""

    x: int = 1

'''
    + many('''\
    # why ~
    def f~(self, a=(1,
             2)):
        """Say ~."""
        if a:
            return ~
        for b in a:
            g(b)

        return s

''')
    + """\

async def long(q):
    match q:
        case 1:
            a()
        case _:
"""
    + many("""\
            b(~)
""")
    + """\
    try:
"""
    + many("""\
        c(~)
""", 30)
    + """\
    except E:  # odd
        d()
    else:
        e()

if x:
    pass
""",
    "javascript": """\
import a from 'a';
const {b} = require('b');

/** About C. */
export class C extends D {
  #x = 1;
"""
    + many("""\
  async f~(a, b) {
    if (a) { return b; }
    const g = () => {
      h(~);
      i();
      j();
    };
    return `t
${~}`;
  }

""")
    + """\
}

module.exports = C;
""",
    "typescript": """\
import { a } from 'a';

export interface I {
  a: string;
  b?: number;
}

type T = I | null;

"""
    + many("""\
export async function f~(x: string): Promise<void> {
  const y: number = ~;
  if (!x) {
    return;
  }
  await g(y as any);
}

"""),
    "java": """\
package a.b;

import java.util.List;
import java.util.Map;

/** About. */
public class A {
"""
    + many("""\
    /** Does ~. */
    @Override
    public int f~(int a) {
        if (a > 0) {
            return a;
        }
        int b = ~;
        return b;
    }

""")
    + """\
}
""",
    "csharp": """\
using System;
using System.Linq;

namespace A.B
{
    public class C
    {
        public int X { get; set; }
"""
    + many("""\
        /// <summary>~</summary>
        public int F~(int a)
        {
            var b = a + ~;
            if (b > 1)
            {
                return 1;
            }
            return b;
        }

""")
    + """\
    }
}
""",
    "go": """\
package main

import (
	"fmt"
	"os"
)

type T struct {
	A int
}

"""
    + many("""\
// F~ does it.
func (t *T) F~(a int) (int, error) {
	b := a + ~
	if b > 1 {
		return 0, fmt.Errorf("x")
	}
	switch {
	case a > 1:
		b = 2
	}
	return b, nil
}

"""),
    "rust": """\
use std::io;
use std::fmt::{self, Display};

#[derive(Debug)]
pub struct A {
    a: i32,
}

impl A {
"""
    + many("""\
    /// Does ~.
    pub fn f~(&self, a: i32) -> i32 {
        let mut b = a + ~;
        if b > 1 {
            return 1;
        }
        match b {
            1 => 2,
            _ => 3,
        }
    }

""")
    + """\
}
""",
    "c": """\
#ifndef A_H
#define A_H
#include <stdio.h>
#include <stdlib.h>

struct a {
    int b;
};

"""
    + many("""\
/* Does ~. */
static int f~(int a, char *b)
{
    int c = a + ~;
    if (c > 1)
        return 1;
    while (*b) {
        b++;
    }
    return c;
}

""")
    + """\
#endif
""",
    "cpp": """\
#include <vector>
#include <string>

namespace a {

template <typename T>
class B {
public:
"""
    + many("""\
    int f~(const std::string& a) const {
        auto b = a.size() + ~;
        if (b > 1) {
            return 1;
        }
        return b;
    }

""")
    + """\
};

}  // namespace a
""",
    "ruby": """\
require 'json'
require_relative 'a'

module A
  class B < C
    attr_reader :a

"""
    + many("""\
    # Does ~.
    def f~(a)
      b = a + ~
      return 1 if b > 1
      a.each do |c|
        puts c
      end
      b
    end

""")
    + """\
  end
end
""",
    "bash": """\
#!/usr/bin/env bash
set -euo pipefail

"""
    + many("""\
# does ~
f~() {
  local a="$1"
  if [ -z "$a" ]; then
    return 1
  fi
  for b in $a; do
    echo "$b ~"
  done
}

""")
    + """\
f1 "$@"
""",
}  # fmt: skip
