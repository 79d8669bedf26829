"""A language model that tokenry trained, as a model of transformers: it generates, is saved and loaded as any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, Self, cast

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from tokenry.core.errors import InvalidValue, UnsupportedModel
from tokenry.core.learned import Learned
from tokenry.core.registry import load
from tokenry.models.cache.name import NAMES, with_cache

ABSENT = ("inputs_embeds", "output_hidden_states", "output_attentions")
"""What other models read or give, and these do not."""


class LanguageModel(Protocol):
    """What is learned and predicts ids: whole rows, and on top of what was read."""

    def __call__(self, ids: Tensor, real: Tensor | None = None) -> Tensor: ...

    def begin(self, sequences: int) -> Any: ...

    def read(self, ids: Tensor, reading: Any, real: Tensor | None = None) -> Tensor: ...


class LearnedConfig(PreTrainedConfig):
    """The method with its fields, and the sizes it was built with."""

    model_type = "tokenry"

    def __init__(
        self, method: Mapping[str, Any] | None = None, sizes: Mapping[str, int] | None = None, vocab_size: int = 257,
        **more: Any,
    ) -> None:  # fmt: skip
        self.method, self.sizes, self.vocab_size = dict(method or {}), dict(sizes or {}), vocab_size
        # No id of its own is padding: generating would take it for padding wherever it stands.
        super().__init__(**({"bos_token_id": vocab_size - 1, "tie_word_embeddings": False} | more))


class Remembered:
    """What a model remembers of the rows it generates, with what generating asks of a cache."""

    is_compileable = False

    def __init__(self, reading: Any) -> None:
        self.reading, self.seen = reading, 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns that were read, padding among them."""
        return self.seen

    def reorder_cache(self, rows: Tensor) -> None:
        """Go on with these rows, some perhaps more than once."""
        self.reading = taken(self.reading, rows)


class LearnedForCausalLM(PreTrainedModel, GenerationMixin):
    """A learned method of tokenry that is a language model.

    Its loss is that of the ids alone, without a price of cuts: train with the method's own command.

    Importing this module registers it: `AutoModelForCausalLM.from_pretrained(folder)` then opens what
    `save_pretrained` wrote, without code from the folder.
    """

    config_class = LearnedConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"

    def __init__(self, config: LearnedConfig) -> None:
        super().__init__(config)
        kind: Any = load(str(config.method.get("method")))
        if not (issubclass(kind, Learned) and hasattr(kind, "begin") and hasattr(kind, "read")):
            raise UnsupportedModel(
                f"{config.method.get('method')}: must be a language model that is learned; it predicts no ids."
            )
        self.model = kind.from_dict(config.method).build(**config.sizes)
        self.post_init()

    @classmethod
    def of(cls, model: Learned) -> Self:
        """A model that was trained, with the same parameters.

        Raises:
            InvalidValue: it is not built, or predicts no ids.
        """
        if model._sizes is None or not hasattr(model, "read"):
            raise InvalidValue(
                f"{model.name()}: must be a language model that is built; got {model}; load or build it."
            )
        vocabulary = cast(Any, model).embed.num_embeddings
        made = cls(LearnedConfig(method=model.to_dict(), sizes=model._sizes, vocab_size=vocabulary))
        made.model = model
        return made.eval()

    @property
    def method(self) -> Learned:
        """The model as tokenry knows it."""
        return cast(Learned, self.model)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None,
        use_cache: bool | None = None, num_items_in_batch: Tensor | int | None = None, **options: Any,
    ) -> CausalLMOutputWithPast:  # fmt: skip
        """Logits of the id after each, and the mean loss where there are labels, -100 for none.

        Args:
            num_items_in_batch: labels of the whole optimiser step, where the batch is only a part of it.

        Raises:
            InvalidValue: embeddings in place of ids, or a wish for states or attention; or what the model refuses.
        """
        asked = [name for name in ABSENT if options.get(name) is not None and options[name] is not False]
        if asked:
            raise InvalidValue(
                f"{self.method.name()}: must be given ids and gives logits; got {', '.join(asked)}; leave it out."
            )
        model = cast(LanguageModel, self.model)
        real = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :].bool()
        held = next((options[name] for name in NAMES if options.get(name) is not None), None)
        if held is None and not use_cache:
            logits = model(input_ids, real)
        else:
            held = Remembered(model.begin(len(input_ids))) if held is None else held
            logits = model.read(input_ids, held.reading, real)
            held.seen += input_ids.shape[1]
        loss = None
        if labels is not None:
            wanted = labels[:, 1:].flatten()
            count = (wanted != -100).sum() if num_items_in_batch is None else num_items_in_batch
            loss = cross_entropy(logits[:, :-1].flatten(0, 1).float(), wanted, reduction="sum") / count
        return CausalLMOutputWithPast(loss=loss, logits=logits, **with_cache(held))  # type: ignore[arg-type]

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, use_cache: bool | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The ids that were not read yet.

        Raises:
            InvalidValue: a row that ends with padding.
        """
        if attention_mask is not None and not bool(attention_mask[:, -1].all()):
            raise InvalidValue(
                f"{self.method.name()}: rows must be padded in front, since text goes on behind their last column; "
                "got a row that ends with padding; pad on the left."
            )
        held = next((kwargs[name] for name in NAMES if kwargs.get(name) is not None), None)
        read = 0 if held is None else held.seen
        wanted = {"attention_mask": attention_mask, "use_cache": use_cache}
        return {"input_ids": input_ids[:, read:], **wanted, **with_cache(held)}

    def get_input_embeddings(self) -> nn.Module:
        return cast(Any, self.model).embed

    def _init_weights(self, module: nn.Module) -> None:
        """Weights come with `build`."""

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False


def taken(memory: Any, rows: Tensor) -> Any:
    """The same memory of other rows: the first axis of all its tensors is theirs."""
    if isinstance(memory, Tensor):
        return memory.index_select(0, rows.to(memory.device))
    if isinstance(memory, list | tuple):
        return type(memory)(taken(part, rows) for part in memory)
    if dataclasses.is_dataclass(memory) and not isinstance(memory, type):
        found = {f.name: taken(getattr(memory, f.name), rows) for f in dataclasses.fields(memory)}
        return type(memory)(**found)
    if hasattr(memory, "__dict__"):
        for name, value in vars(memory).items():
            setattr(memory, name, taken(value, rows))
    return memory


AutoConfig.register(LearnedConfig.model_type, LearnedConfig)
AutoModelForCausalLM.register(LearnedConfig, LearnedForCausalLM)
