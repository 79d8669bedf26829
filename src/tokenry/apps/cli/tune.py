"""`tokenry tune`: learn soft tokens for a model that stays as it is."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenry.apps.cli import complete
from tokenry.apps.cli import options as o
from tokenry.apps.cli.status import Tell, bars, warn, working
from tokenry.core.errors import InvalidValue

if TYPE_CHECKING:
    from tokenry.models.files.load import LanguageModel
    from tokenry.soft.base import SoftTokens
    from tokenry.soft.training.examples import Example

TUNE_SCHEMA = "tokenry.tune/0"


def tune(
    method: Annotated[
        str,
        typer.Argument(
            metavar="SPEC",
            help="prompt_tuning:tokens=8 …, or the folder of a tuned one.",
            autocompletion=complete.methods,
        ),
    ],
    data: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="Objects with the texts prompt and answer.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for what is learned; --use DIR reads it.")],
    model: o.Model = "smollm2",
    start: Annotated[
        str | None, typer.Option(help="text, vocabulary, labels or random; vocabulary where nothing else is given.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="An instruction to start from.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="A class label to start from; repeat it.")] = None,
    held_out: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Examples that say when to stop: the best is kept.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of Adam.")] = 100,
    batch: Annotated[int, typer.Option(min=1, help="Examples in a step.")] = 8,
    rate: Annotated[float | None, typer.Option(help="Learning rate; the method's own where none is given.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints and looks at held-out examples.")] = 10,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    marks: Annotated[
        bool, typer.Option("--marks", help="Read marks that the examples spell, such as <tool_call>, as these marks.")
    ] = False,
    peft: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write a folder for PEFT.")] = None,
    seed: Annotated[int, typer.Option(help="Of the start and of the order of the examples.")] = 0,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.Trust = False,
    as_json: o.Json = False,
) -> None:
    """Learn soft tokens from examples; an interrupted training goes on when the command is given again."""
    [entry] = o.check(use=[method], dtype=dtype)
    if entry is not None and entry.room != "soft":
        raise InvalidValue(f"tune: must be a method of room soft; got {entry.full_name}; see `tokenry list`.")
    for folder in filter(None, (out, peft)):
        _check_free(folder)

    from tokenry.core.registry import parse
    from tokenry.soft.base import SoftTokens
    from tokenry.soft.training.examples import read_examples
    from tokenry.soft.training.tuning import Course
    from tokenry.soft.training.tuning import tune as learn

    chosen = parse(method)
    if not isinstance(chosen, SoftTokens):
        raise InvalidValue(f"tune: must be a method of room soft; got {chosen}; see `tokenry list`.")
    how = None if chosen.built else start or ("text" if text else "labels" if label else "vocabulary")
    if chosen.built and (start or text or label):
        raise InvalidValue(f"tune: start, text and label must be left out for {method}, which has begun already.")
    examples, judges = read_examples(data), read_examples(held_out) if held_out else []
    o.check(model=model)

    from tokenry.models.files.load import load

    with working():
        language = load(model, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    if how is not None:
        chosen.start(language, how, text=text, labels=label or (), seed=seed)
    chosen.to(language.device)
    if not marks:
        _say_marks(language, [*examples, *judges])
    kept = out.with_name(f".{out.name}.training.safetensors")
    with bars() as bar:
        course: Course = learn(
            chosen, language, examples, held_out=judges, steps=steps, batch=batch, rate=rate, seed=seed,
            system=system, every=every, marks=marks, checkpoint=kept, tell=partial(_show, bar, steps),
        )  # fmt: skip
    folded = chosen.fold()
    folded.save(out)
    if peft is not None:
        from tokenry.soft.prompts.peft_format import write_peft

        write_peft(folded, peft, language)
    kept.unlink(missing_ok=True)
    _print(folded, out, model, how, course, as_json)


def _say_marks(language: LanguageModel, examples: list[Example]) -> None:
    """Say that marks are read as text; whoever teaches a model to call tools wants them to be marks."""
    from tokenry.models.text.as_text import mark_names

    text = "\n".join(f"{e.prompt}\n{e.answer}" for e in examples)
    spelled = [name for name in mark_names(language.tokenizer).values() if name in text]
    if spelled:
        warn(f"the examples spell {', '.join(spelled)}, which is read as text; --marks reads them as marks")


def _show(bar: Tell, steps: int, course: Any) -> None:
    """Steps and loss, as they come."""
    said = f"loss {course.losses[-1]:.3f}"
    if course.held_out:
        said += f", held out {course.held_out[-1][1]:.3f}"
    bar("tune", course.steps, steps, said)


def _check_free(folder: Path) -> None:
    """Refuse to replace a folder that holds something else than a learned method."""
    own = any((folder / name).is_file() for name in ("method.json", "adapter_config.json"))
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not own):
        raise InvalidValue(f"out: {folder} must be a new folder or hold a learned method; it holds something else.")


def _print(method: SoftTokens, out: Path, model: str, how: str | None, course: Any, as_json: bool) -> None:
    found = {
        "schema": TUNE_SCHEMA,
        "method": str(method),
        "model": model,
        "out": str(out),
        "start": how,
        "parameters": sum(p.numel() for p in method.parameters()),
        "steps": course.steps,
        "best_step": course.best,
        "seconds": round(course.seconds, 3),
        "losses": [round(value, 5) for value in course.losses],
        "held_out": [{"step": step, "loss": round(value, 5)} for step, value in course.held_out],
    }
    if as_json:
        sys.stdout.write(json.dumps(found) + "\n")
        return
    line = f"{method}: loss {course.losses[0]:.3f} -> {course.losses[-1]:.3f} in {course.steps} steps"
    if course.held_out:
        line += f"; held out {course.held_out[0][1]:.3f} -> {min(v for _, v in course.held_out):.3f}"
    sys.stdout.write(f"{line}, taken after {course.best}\n{out}\n")
