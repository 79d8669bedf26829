"""Seeded logs of builds and services in which one thing goes wrong among much that does not."""

from __future__ import annotations

import random

Made = tuple[str, str, str, tuple[str, ...], str]
"""Text, form, question, needles and path of a part."""

NAMES = ("cache", "queue", "router", "parser", "ledger", "mailer", "worker", "session", "billing", "search", "upload",
         "import", "export", "retry", "metrics", "token", "schema", "storage")  # fmt: skip
VERBS = ("returns", "keeps", "rejects", "merges", "splits", "orders", "counts", "closes")


def log(rng: random.Random, i: int) -> Made:
    """A log of one of six tools."""
    return (_pytest, _make, _npm, _maven, _service, _cargo)[i % 6](rng)


def _with(rng: random.Random, lines: list[str], hit: list[str]) -> str:
    """What goes wrong, somewhere in the middle."""
    at = rng.randrange(len(lines) // 4, 3 * len(lines) // 4)
    return "\n".join([*lines[:at], *hit, *lines[at:]]) + "\n"


def _pytest(rng: random.Random) -> Made:
    tests = [f"tests/test_{rng.choice(NAMES)}.py::test_{rng.choice(VERBS)}_{rng.choice(NAMES)}_{n}" for n in range(260)]
    failed = rng.randrange(60, 200)
    lines = [f"{t} {'FAILED' if n == failed else 'PASSED'} [{100 * n // 260:3d}%]" for n, t in enumerate(tests)]
    name, want, got = tests[failed].rpartition("::")[2], rng.randrange(99), rng.randrange(100, 999)
    error = f"E       assert {got} == {want}"
    where = f"{tests[failed].partition('::')[0]}:{rng.randrange(20, 400)}: AssertionError"
    lines += ["", "=================== FAILURES ===================", f"__________ {name} __________", "",
              f"    def {name}():", f"        found = total({rng.randrange(9)})", f"        assert found == {want}",
              error, "", where,
              f"=== 1 failed, {len(tests) - 1} passed in {rng.randrange(20, 90)}.31s ==="]  # fmt: skip
    head = ["============ test session starts ============", "platform linux -- Python 3.11.7, pytest-8.3.3", ""]
    return (
        "\n".join(head + lines) + "\n",
        "",
        "Which test failed, where, and with which values?",
        (error, where),
        "ci.log",
    )


def _make(rng: random.Random) -> Made:
    lines = []
    for n in range(240):
        name = f"{rng.choice(NAMES)}_{rng.choice(NAMES)}"
        lines.append(f"[{n * 100 // 240:3d}%] Building CXX object src/CMakeFiles/core.dir/{name}.cpp.o")
        if rng.random() < 0.12:
            lines += [
                f"src/{name}.cpp:{rng.randrange(900)}:{rng.randrange(60)}: warning: unused variable 'error_{n}' "
                "[-Wunused-variable]",
                f"  {rng.randrange(900)} |   int error_{n} = 0;", "      |       ^~~~~~~",
            ]  # fmt: skip
    name, line = rng.choice(NAMES), rng.randrange(900)
    error = f"src/{name}.cpp:{line}:14: error: no matching function for call to 'Pool::take(int, bool)'"
    hit = [error, f"  {line} |   auto slot = pool.take({line}, true);", "      |               ~~~~~~~~~^~~~~~~~~~~~",
           f"src/pool.h:41:9: note: candidate: 'Slot Pool::take(int)' at {line}",
           f"make[2]: *** [build.make:{line}: src/CMakeFiles/core.dir/{name}.cpp.o] Error 1"]  # fmt: skip
    return _with(rng, lines, hit), "", "Why does the build break?", (error, hit[3]), "build.log"


def _npm(rng: random.Random) -> Made:
    lines, second = [], 0
    for _ in range(260):
        second += rng.randrange(3)
        size = rng.randrange(10**6)
        lines.append(
            f"2026-11-{rng.randrange(28, 30)}T08:{second // 60:02}:{second % 60:02}.{rng.randrange(999):03}Z "
            + rng.choice((f"npm http fetch GET 200 https://registry.example/{rng.choice(NAMES)} {size % 900}ms",
                          f"asset {rng.choice(NAMES)}.{size:x}.js {size} bytes [emitted]",
                          f"npm warn deprecated {rng.choice(NAMES)}@{size % 9}.0.{size % 7}: failed audits are retried",
                          f"Lint: 0 errors, {size % 5} warnings in src/{rng.choice(NAMES)}.ts"))
        )  # fmt: skip
    name = f"./{rng.choice(NAMES)}/{rng.choice(NAMES)}"
    stamp = f"2026-11-29T08:09:{rng.randrange(10, 59)}.100Z"
    error = f"{stamp} Error: Cannot find module '{name}'"
    hit = [error, f"{stamp} Require stack:", f"{stamp} - /app/src/{rng.choice(NAMES)}/index.js",
           f"{stamp}     at Module._resolveFilename (node:internal/modules/cjs/loader:1144:15)",
           f"{stamp} npm ERR! code ELIFECYCLE"]  # fmt: skip
    return _with(rng, lines, hit), "", "What made the deployment stop?", (error, hit[2]), "deploy.log"


def _maven(rng: random.Random) -> Made:
    lines = []
    for _ in range(250):
        a, b = rng.choice(NAMES), rng.choice(NAMES)
        lines.append(rng.choice((
            f"[INFO] Downloading from central: https://repo.example/{a}/{b}/{rng.randrange(9)}.jar",
            f"[INFO] Tests run: {rng.randrange(90)}, Failures: 0, Errors: 0, Skipped: 0 - in {a}.{b.title()}Test",
            f"[WARNING] {a}.{b} is deprecated and will fail in a later version",
            f"[INFO] --- compiler:3.13.0:compile (default-compile) @ {a}-{b} ---",
        )))  # fmt: skip
    a, b = rng.choice(NAMES), rng.choice(NAMES).title()
    place = f"{rng.randrange(400)},{rng.randrange(80)}"
    error = f"[ERROR] /build/src/main/java/org/shop/{a}/{b}.java:[{place}] cannot find symbol"
    hit = [error, f"[ERROR]   symbol:   method settle{b}(java.lang.String)",
           f"[ERROR]   location: class org.shop.{a}.{b}", "[INFO] BUILD FAILURE"]  # fmt: skip
    return _with(rng, lines, hit), "", "What has to be fixed so that this compiles?", (error, hit[1]), "maven.log"


def _service(rng: random.Random) -> Made:
    lines = []
    for n in range(300):
        stamp = f"2026-11-30 {9 + n // 120:02}:{n // 2 % 60:02}:{rng.randrange(60):02},{rng.randrange(999):03}"
        name = rng.choice(NAMES)
        lines.append(f"{stamp} INFO [{name}] " + rng.choice((
            f"GET /v1/{rng.choice(NAMES)}/{rng.randrange(9999)} 200 {rng.randrange(90)} ms",
            f"job {rng.randrange(10**6):06x} done in {rng.randrange(900)} ms, retries 0",
            f"pool has {rng.randrange(30)} idle connections",
        )))  # fmt: skip
    job, size = f"{rng.randrange(10**6):06x}", rng.randrange(9, 99)
    error = f"IndexError: slot {size} of {size - 2} for job {job}"
    where = f'  File "/srv/{rng.choice(NAMES)}.py", line {rng.randrange(400)}, in take_next'
    hit = [f"2026-11-30 10:14:07,{rng.randrange(999):03} ERROR [worker] job {job} gave up",
           "Traceback (most recent call last):", f'  File "/srv/run.py", line {size}, in main', "    pool.take_next()",
           where, "    return self.slots[at]", error]  # fmt: skip
    return (
        _with(rng, lines, hit),
        "",
        "Which exception was raised in the night, and where?",
        (error, where),
        "service.log",
    )


def _cargo(rng: random.Random) -> Made:
    lines = [f"   Compiling {rng.choice(NAMES)}-{rng.choice(NAMES)} v{rng.randrange(3)}.{rng.randrange(20)}.{n % 9}"
             for n in range(320)]  # fmt: skip
    name, line = rng.choice(NAMES), rng.randrange(50, 700)
    kind = rng.choice(("u64", "usize", "i32"))
    hit = ["error[E0308]: mismatched types", f"  --> src/{name}.rs:{line}:28", "   |",
           f"{line} |     let left: {kind} = budget.remaining();",
           f"   |               ---   ^^^^^^^^^^^^^^^^^^ expected `{kind}`, found `Option<{kind}>`", "",
           f"error: could not compile `{name}` (lib) due to 1 previous error"]  # fmt: skip
    return _with(rng, lines, hit), "", "Why is the crate not compiled?", (hit[1], hit[4]), "cargo.log"
