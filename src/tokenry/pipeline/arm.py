"""One arm of a comparison in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from tokenry.core import errors
from tokenry.core.errors import TokenryError
from tokenry.core.progress import now, watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one arm does.

    Args:
        model, device, dtype, trust_remote_code: as `models.load.load` takes them.
        documents: fields of each `Document`.
        ask: the question.
        system: a system message.
        pipeline: `Pipeline.to_dict()`; an empty one is the model alone.
        sampling: fields of `Sampling`.
        write: where to leave the logits and ids of this arm's answer.
        follow: what another arm wrote; this arm is judged on that answer.
    """

    model: str
    documents: list[dict[str, Any]]
    ask: str | None = None
    system: str | None = None
    pipeline: dict[str, Any] = field(default_factory=lambda: {"methods": []})
    sampling: dict[str, Any] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    write: str | None = None
    follow: str | None = None


def run(job: Job) -> dict[str, Any]:
    """Do the job in this process: `{"answer", "receipt", "pipeline", "kl", "top1"}`."""
    import time

    from safetensors.torch import load_file, save_file

    from tokenry.models.files.load import load
    from tokenry.models.generate.answer import Sampling, divergence
    from tokenry.models.text.document import Document
    from tokenry.pipeline.pipeline import Pipeline

    started = time.perf_counter()
    language = load(job.model, device=job.device, dtype=job.dtype, trust_remote_code=job.trust_remote_code)
    loaded = time.perf_counter() - started
    documents = [Document(**d | {"protect": tuple((a, b) for a, b in d["protect"])}) for d in job.documents]
    pipeline = Pipeline.from_dict(job.pipeline)
    trace, said = pipeline.run(
        documents, language, job.ask, Sampling(**job.sampling),
        system=job.system, logits=job.write is not None, loaded=loaded,
    )  # fmt: skip
    result: dict[str, Any] = {
        "pipeline": list(trace.pipeline), "answer": trace.answer, "receipt": trace.receipt.to_dict(),
        "kl": None, "top1": None,
    }  # fmt: skip
    if job.write and said.logits is not None:
        save_file({"ids": said.ids.clone(), "logits": said.logits}, job.write)
    if job.follow:
        theirs = load_file(job.follow)
        logits = pipeline.follow(language, trace.final, theirs["ids"])
        kl, top1 = divergence(theirs["logits"], logits)
        result |= {"kl": kl.mean().item(), "top1": top1.mean().item()}
    return result


def spawn(job: Job) -> dict[str, Any]:
    """Do the job in a new process, which ends with this one; what goes on there goes on here.

    Raises:
        TokenryError: what the job raised there, with its class and sentence.
    """
    result: dict[str, Any] | None = None
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        command = [sys.executable, "-m", "tokenry.pipeline.arm"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True)
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            with suppress(BrokenPipeError):
                child.stdin.write(json.dumps(asdict(job)) + "\n")
                child.stdin.flush()
            for line in child.stdout:
                result = _heard(line) or result
            child.wait()
        finally:
            child.kill()
            child.wait()
        said.seek(0)
        words = said.read().strip()
    if result is None:
        raise TokenryError(f"arm: must end with a result; got {words[-500:] or child.returncode}.")
    if "error" in result:
        raise getattr(errors, result["kind"], TokenryError)(result["error"])
    return result


def _heard(line: str) -> dict[str, Any] | None:
    """The result that a line holds; other lines say what goes on."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if isinstance(found, dict) and "now" in found:
        now(str(found["now"]))
        return None
    return found if isinstance(found, dict) else None


def main() -> None:
    """Read a job from standard input and write to standard output, line by line, what goes on and its result."""
    line = sys.stdin.readline()
    if not line:
        # The process that asked was stopped before it could say what for.
        return
    job = Job(**json.loads(line))
    end_with_the_other()
    out = sys.stdout
    # A library that prints something must not stand between the lines.
    sys.stdout = sys.stderr
    try:
        with watched(lambda what: _say(out, {"now": what})):
            result = run(job)
    except TokenryError as error:
        result = {"error": str(error), "kind": type(error).__name__}
    _say(out, result)


def _say(out: TextIO, values: dict[str, Any]) -> None:
    out.write(json.dumps(values) + "\n")
    out.flush()


def end_with_the_other() -> None:
    """End this process when its standard input closes: when the process that asked ends, however it does."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def _wait_for_the_end() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    main()
