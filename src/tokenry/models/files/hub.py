"""Ask the hub once whether it has a model, before libraries ask it for a minute."""

from __future__ import annotations

from tokenry.core.errors import UnknownModel
from tokenry.core.progress import now

SECONDS = 10.0
"""After which the hub counts as out of reach."""


def check(name: str, what: str = "model") -> None:
    """Refuse a name under which the hub has nothing; what was fetched before is not asked for.

    Raises:
        UnknownModel: no such model, or no way to the hub.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    wanted = f"{what} {name!r}: must be an alias of `tokenry models list`, a folder, a file or a hub id"
    try:
        fetched = any(isinstance(try_to_load_from_cache(name, file), str) for file in ("config.json", "tokenizer.json"))
        if fetched:
            return
        if constants.HF_HUB_OFFLINE:
            raise UnknownModel(f"{wanted}; nothing is there, and HF_HUB_OFFLINE keeps the hub from being asked.")
        now(f"asking the hub for {name}")
        HfApi().model_info(name, timeout=SECONDS)
    except (HFValidationError, RepositoryNotFoundError) as error:
        raise UnknownModel(f"{wanted}; nothing is there, and the hub has none of this name.") from error
    except UnknownModel:
        raise
    except Exception as error:
        # Libraries for the network have exceptions of their own, which change with them.
        raise UnknownModel(
            f"{wanted}; nothing is there, and the hub cannot be asked ({type(error).__name__})."
        ) from error
