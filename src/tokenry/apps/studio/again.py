"""The command line and the Python that do again what a page did."""

from __future__ import annotations

import shlex

from tokenry.apps.studio.task import Task
from tokenry.core.described import check, field_names, needs_of

FILES = {"text": "input.txt", "messages": "messages.json", "picture": "picture.png", "sound": "sound.wav"}
"""What the input is called where it has no file."""


def command(task: Task) -> str:
    """The line for a shell; the input stands in a file."""
    file = task.name if task.name.strip() and task.kind != "messages" else FILES[task.kind]
    file = f"./{file}" if file.startswith("-") else file
    use = [part for spec in task.methods for part in ("--use", spec)]
    ask = ["--ask", task.ask] if task.ask else []
    if task.kind in ("picture", "sound"):
        words = ["encode", file, *(["--tokenizer", task.methods[0]] if task.methods else []), "--html", "tokens.html"]
    elif task.kind == "messages":
        words = ["compress", "--messages", file, *use, *ask, "--tokenizer", task.reader]
    elif task.answer:
        more = ["--max-new", str(task.max_new), *(["--compare", "dense"] if task.beside and task.methods else [])]
        more += ["--report", "trace.html"]
        words = ["run", file, "--ask", task.ask, "--model", task.reader, *use, *more]
    elif task.methods:
        use = [part for spec in task.methods for part in ("--use", _with_scorer(spec, task.reader))]
        words = ["compress", file, *use, *ask, "--tokenizer", task.reader]
    else:
        words = ["encode", file, "--tokenizer", task.reader, "--html", "tokens.html"]
    return shlex.join(["tokenry", *words])


def python(task: Task) -> str:
    """A few lines of Python."""
    file, ask = task.name if task.name.strip() else FILES[task.kind], task.ask or None
    if task.kind in ("picture", "sound"):
        reader = "read_image" if task.kind == "picture" else "read_sound"
        module = "image" if task.kind == "picture" else "sound"
        return (
            f"from tokenry.core.registry import parse\nfrom tokenry.data.{module} import {reader}\n\n"
            f"tokens = parse({usual(task)!r}).encode({reader}({file!r}))\n"
        )
    if task.kind == "messages":
        use = f", use={task.methods!r}" if task.methods else ""
        asked = f", ask={ask!r}" if ask else ""
        return (
            "import json\n\nfrom tokenry import compress_messages\n\n"
            f"given = json.load(open({FILES['messages']!r}, encoding='utf-8'))\n"
            "messages = given if isinstance(given, list) else given.get('messages', given.get('input'))\n"
            f"shorter = compress_messages(messages{use}{asked}, tokenizer={task.reader!r})\n"
        )
    read = f"text = Path({file!r}).read_text(encoding='utf-8')\n"
    pipeline = f"pipeline = Pipeline({list(task.methods)!r})\n"
    if task.answer:
        return (
            f"from pathlib import Path\n\nfrom tokenry import Pipeline\n\n{read}{pipeline}"
            f"trace = pipeline.generate(text, {task.reader!r}, ask={ask!r}, max_new={task.max_new}, record=True)\n"
        )
    if task.methods:
        with_model = any(needs_of(entry).model for entry in map(check, task.methods) if entry is not None)
        opens, model, words = "load_tokenizer", "None", "words"
        if with_model:
            opens, model, words = "load", "model", "model.tokenizer"
        return (
            "from pathlib import Path\n\nfrom tokenry import Pipeline\n"
            f"from tokenry.models.files.load import {opens}\nfrom tokenry.models.text.document import Document\n"
            "from tokenry.models.text.prompt import plain\nfrom tokenry.pipeline.preparing import prepare\n\n"
            f"{read}{pipeline}{words.partition('.')[0]} = {opens}({task.reader!r})\n"
            f"prepared = prepare(plain({words}, [Document(text)]), pipeline.stages, {ask!r}, {model})\n"
            "ids = prepared.final.ids[0].tolist()\n"
        )
    return (
        "from pathlib import Path\n\nfrom tokenry.segment.engines.opening import open_tokenizer\n\n"
        f"{read}tokens = open_tokenizer({task.reader!r}).encode(text)\n"
    )


def _with_scorer(spec: str, reader: str) -> str:
    """A method that names its scorer: the reader where none is named, since none answers."""
    entry, (_, colon, given) = check(spec), spec.partition(":")
    if entry is None or "scorer" not in (field_names(entry) or ()) or "scorer=" in given:
        return spec
    return f"{spec}{',' if colon else ':'}scorer={reader}"


def usual(task: Task) -> str:
    """The method of a picture or a sound, where none is chosen: nothing must be learnt for it."""
    alone = "patches" if task.kind == "picture" else "audio_frames:content=mu_law"
    return task.methods[0] if task.methods else alone
