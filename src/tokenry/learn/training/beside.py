"""What learns beside a model, in one file of a folder."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tokenry.core.errors import StorageError
from tokenry.core.saving import whole_file


def save_beside(module: nn.Module, folder: str | Path, name: str) -> None:
    """Write the parameters of a module, whole or not at all."""
    tensors = {n: t.detach().cpu().clone().contiguous() for n, t in module.state_dict().items()}
    with whole_file(Path(folder) / f"{name}.safetensors") as draft:
        save_file(tensors, draft)


def fill_beside(module: nn.Module, folder: str | Path, name: str) -> None:
    """Take what `save_beside` wrote.

    Raises:
        StorageError: the file is missing, damaged, or does not fit.
    """
    file = Path(folder) / f"{name}.safetensors"
    try:
        found = load_file(file)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{file}: must hold {name}; {error}; train it first.") from error
    mine = module.state_dict()
    wrong = next((n for n in sorted(mine.keys() ^ found.keys())), None)
    wrong = wrong or next((n for n, t in mine.items() if found[n].shape != t.shape), None)
    if wrong is not None:
        raise StorageError(f"{file}: must hold {name} of this model and size; {wrong!r} does not fit.")
    module.load_state_dict(found)
