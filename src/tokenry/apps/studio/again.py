"""The command line and the Python that do again what a page did."""

from __future__ import annotations

import shlex

from tokenry.apps.studio.task import Task

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
        more = ["--max-new", str(task.max_new), "--report", "trace.html"]
        words = ["run", file, "--ask", task.ask, "--model", task.reader, *use, *more]
    elif task.methods:
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
            f"messages = json.load(open({FILES['messages']!r}))\n"
            f"shorter = compress_messages(messages{use}{asked}, tokenizer={task.reader!r})\n"
        )
    read = f"text = Path({file!r}).read_text(encoding='utf-8')\n"
    if task.answer or task.methods:
        head = f"from pathlib import Path\n\nfrom tokenry import Pipeline\n\n{read}"
        head += f"pipeline = Pipeline({list(task.methods)!r})\n"
        given = f"text, {task.reader!r}, ask={ask!r}"
        if task.answer:
            return f"{head}trace = pipeline.generate({given}, max_new={task.max_new}, record=True)\n"
        return f"{head}shorter = pipeline.compress({given})\n"
    return (
        "from pathlib import Path\n\nfrom tokenry.segment.engines.opening import open_tokenizer\n\n"
        f"{read}tokens = open_tokenizer({task.reader!r}).encode(text)\n"
    )


def usual(task: Task) -> str:
    """The method of a picture or a sound, where none is chosen: nothing must be learnt for it."""
    alone = "patches" if task.kind == "picture" else "audio_frames:content=mu_law"
    return task.methods[0] if task.methods else alone
