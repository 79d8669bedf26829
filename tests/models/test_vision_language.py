"""Pictures and questions as tokens: the same numbers as transformers' own way, and places of every token."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Dinov2Config,
    Dinov2Model,
    LlavaForConditionalGeneration,
)  # fmt: skip

from tests.embed.embed_models import model as tiny_language
from tests.embed.embed_models import trained
from tokenry.core.errors import InvalidValue, UnknownModel, UnsupportedModel
from tokenry.core.sequence import Modality
from tokenry.data.image import Image
from tokenry.models.signals.encoders import VisionEncoder
from tokenry.models.signals.llava import joined, write
from tokenry.models.signals.vision_language import Framing, load_vision_language

SIDE, PATCH = 4, 8
ASKS = ["What is at the top left?", "And below?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny model that sees, as the recipe writes them."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Dinov2Config(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE * PATCH, patch_size=PATCH
        )
        vision = VisionEncoder(Dinov2Model(config).eval(), PATCH, 1 / 255, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
        text = "What is at the top left? And below? User: Assistant: cat coffee " * 9
        language = tiny_language("llama", trained(text, eos_token="<eos>"))
        model = joined(vision, language, layer=2, side=SIDE)
    at = tmp_path_factory.mktemp("models") / "seeing"
    at.mkdir()
    write(model, vision, language, at)
    return at


@pytest.fixture(scope="module")
def seeing(folder):
    return load_vision_language(str(folder), dtype="float32", device="cpu")


def pictures(*sizes):
    rng = np.random.default_rng(0)
    return [Image(torch.from_numpy(rng.integers(0, 256, (*size, 3), dtype=np.uint8)), "noise") for size in sizes]


@torch.no_grad()
def logits(model, batch):
    return model(**batch.model_inputs(), logits_to_keep=1).logits[:, -1]


def test_it_is_a_plain_llava(folder, seeing):
    """transformers' image processor and model, fed a picture and a text, give the same numbers."""
    picture = pictures((45, 70))[0]
    plain = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": ASKS[0]}]}]
    text = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(text.replace("<image>", "<image>" * SIDE * SIDE), return_tensors="pt")["input_ids"]
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(
        PIL.Image.fromarray(picture.pixels.numpy()), return_tensors="pt"
    )["pixel_values"]
    with torch.no_grad():
        expected = plain(input_ids=ids, pixel_values=pixels).logits[:, -1]
    assert torch.allclose(logits(seeing.model, seeing.read([picture], [ASKS[0]])), expected, atol=1e-4)


def test_tokens_know_their_pixels_and_their_bytes(seeing):
    picture = pictures((40, 80))[0]
    batch = seeing.read([picture], [ASKS[0]])
    seen = batch.modality[0] == Modality.IMAGE
    assert seen.sum() == SIDE * SIDE
    assert (batch.ids[0, seen] == -1).all()
    assert torch.equal(batch.protected[0], ~seen)
    boxes = batch.spans()[0, seen]
    assert boxes[0].tolist()[2:] == [0, 1, 0, 10, 0, 20]
    assert boxes[-1].tolist()[2:] == [0, 1, 30, 40, 60, 80]
    kinds = [source.kind for source in batch.origin.sources]
    assert kinds.count("image") == kinds.count("question") == 1
    asked = kinds.index("question")
    bytes_of = [s[2:4].tolist() for s in batch.spans()[0] if s[0] == s[1] == asked]
    assert bytes_of[-1][1] == len(ASKS[0].encode())


def test_a_question_that_spells_the_mark_of_a_picture_is_text(seeing):
    ask = "And <image> below?"
    batch = seeing.read(pictures((40, 80)), [ask])
    assert (batch.modality[0] == Modality.IMAGE).sum() == SIDE * SIDE
    assert seeing.model.config.image_token_id not in batch.ids[0].tolist()
    said = next(s.data for s in batch.origin.sources if s.kind == "question")
    assert said == ask


def test_a_batch_is_its_rows(seeing):
    """Rows of different lengths: the shorter question is padded on the left."""
    several = pictures((40, 80), (31, 17))
    batch = seeing.read(several, ASKS)
    assert batch.lengths.tolist()[0] > batch.lengths.tolist()[1]
    together = logits(seeing.model, batch)
    for row, (picture, ask) in enumerate(zip(several, ASKS, strict=True)):
        assert torch.allclose(together[row], logits(seeing.model, seeing.read([picture], [ask]))[0], atol=1e-5)


def test_what_is_dropped_is_gone_and_the_rest_stays_where_it_was(seeing):
    """Fewer tokens with their old positions: the same as all tokens of which some are masked."""
    batch = seeing.read(pictures((40, 80)), ASKS[:1])
    seen = (batch.modality[0] == Modality.IMAGE).nonzero()[:, 0]
    gone = seen[::3]
    keep = torch.tensor([[c for c in range(batch.shape[1]) if c not in gone.tolist()]])
    fewer = batch.take(keep)
    assert fewer.shape[1] == batch.shape[1] - len(gone)
    masked = batch.model_inputs()
    masked["attention_mask"][0, gone] = 0
    with torch.no_grad():
        expected = seeing.model(**masked, position_ids=torch.arange(batch.shape[1])[None], logits_to_keep=1).logits[
            :, -1
        ]
    assert torch.allclose(logits(seeing.model, fewer), expected, atol=1e-5)


def test_it_answers_every_row(seeing):
    several = pictures((40, 80), (31, 17))
    batch = seeing.read(several, ASKS)
    said = seeing.say(batch, most=3)
    for row in range(2):
        first = seeing.tokenizer.decode(logits(seeing.model, batch)[row].argmax(), skip_special_tokens=True).strip()
        assert said[row].startswith(first)
    assert said[1] == seeing.say(seeing.read(several[1:], ASKS[1:]), most=3)[0]


def test_a_middle_is_cut_out_where_the_folder_says_so():
    """As LLaVA-1.5 does: the shorter side is scaled, and the middle is seen."""
    framing = Framing(32, 32, 40, PIL.Image.BICUBIC, 1 / 255, (0.0,) * 3, (1.0,) * 3)
    picture = pictures((80, 160))[0]
    boxes = framing.boxes(picture, 4, 4)
    assert boxes[0, 2:].tolist() == [8, 24, 48, 64]
    assert boxes[-1, 2:].tolist() == [56, 72, 96, 112]
    scaled = PIL.Image.fromarray(picture.pixels.numpy()).resize((80, 40), PIL.Image.BICUBIC)
    expected = torch.from_numpy(np.array(scaled)[4:36, 24:56]).movedim(2, 0) / 255
    assert torch.allclose(framing.pixels(picture), expected)
    with pytest.raises(InvalidValue, match="at most 64 times as long as wide"):
        framing.pixels(pictures((2, 130))[0])


@pytest.mark.parametrize("size", [(45, 70), (5, 3), (33, 32)])
def test_boxes_leave_no_pixel_out(size):
    """Also where patches share a pixel, or are smaller than one."""
    framing = Framing(32, 32, None, PIL.Image.BICUBIC, 1.0, (0.0,) * 3, (1.0,) * 3)
    boxes = framing.boxes(pictures(size)[0], 4, 4)
    covered = torch.zeros(size)
    for y0, y1, x0, x1 in boxes[:, 2:].tolist():
        assert 0 <= y0 < y1 <= size[0]
        assert 0 <= x0 < x1 <= size[1]
        covered[y0:y1, x0:x1] = 1
    assert covered.all()
    assert boxes[5, 2:].tolist()[1] * 4 >= size[0] * 2


def test_bad_input(seeing, folder, tmp_path):
    with pytest.raises(InvalidValue, match="one for each picture; got 1 for 2"):
        seeing.read(pictures((9, 9), (9, 9)), ASKS[:1])
    with pytest.raises(InvalidValue, match="one for each picture; got 0 for 0"):
        seeing.read([], [])
    with pytest.raises(UnknownModel):
        load_vision_language(str(tmp_path))
    with pytest.raises(UnsupportedModel, match="it is causal"):
        load_vision_language("smollm2")
    said = json.loads((folder / "preprocessor_config.json").read_text())
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said | {"size": {"longest_edge": 9}}))
    with pytest.raises(UnsupportedModel, match="must say size"):
        load_vision_language(str(tmp_path), dtype="float32")
