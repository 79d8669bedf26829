"""One arm of a comparison in a process of its own, so that its peak memory is its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from tokenry.core import errors
from tokenry.core.errors import TokenryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What one arm does.

    Args:
        model, device, dtype, trust_remote_code: as `models.load.load` takes them.
        documents: `text`, `name` and `protect` of each document.
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
    documents = [Document(d["text"], d["name"], tuple((a, b) for a, b in d["protect"])) for d in job.documents]
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
    """Do the job in a new process.

    Raises:
        TokenryError: what the job raised there, with its class and sentence.
    """
    command = [sys.executable, "-m", "tokenry.pipeline.arm"]
    child = subprocess.run(command, input=json.dumps(asdict(job)), capture_output=True, text=True, check=False)
    try:
        result: Mapping[str, Any] = json.loads(child.stdout)
    except ValueError:
        raise TokenryError(
            f"arm: must end with a result; got {child.stderr.strip()[-500:] or child.returncode}."
        ) from None
    if "error" in result:
        raise getattr(errors, result["kind"], TokenryError)(result["error"])
    return dict(result)


def main() -> None:
    """Read a job from standard input and write its result to standard output."""
    job = Job(**json.loads(sys.stdin.read()))
    try:
        result = run(job)
    except TokenryError as error:
        result = {"error": str(error), "kind": type(error).__name__}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
