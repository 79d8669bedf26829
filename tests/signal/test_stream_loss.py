"""The loss of streams: each kind by itself, among what may stand in it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from tokenry.core.errors import InvalidValue
from tokenry.signal.streams.stream import Segment, Stream
from tokenry.signal.streams.stream_loss import stream_loss

STREAM = Stream((("text", 20), ("control", 30), ("image", 8), ("audio", 12)), {"image": 2, "audio": 1})
ROW = STREAM.pack([Segment("image", torch.tensor([1, 7, 3]), (1, 3)), Segment("text", torch.tensor([4]))])


def logits(row):
    return torch.randn(*row.shape, len(STREAM.vocabulary), generator=torch.Generator().manual_seed(0))


def test_it_is_the_cross_entropy_under_the_grammar():
    scores = logits(ROW)
    wanted = {}
    for kind in ("image", "text"):
        may = STREAM.vocabulary.allowed(kind)
        may[STREAM.end(kind)] = True
        here = may[ROW]
        wanted[kind] = cross_entropy(scores.masked_fill(~may, -torch.inf)[here], ROW[here])
    found = stream_loss(scores, ROW, STREAM, {"image": 0.25, "text": 2.0})
    torch.testing.assert_close(found, 0.25 * wanted["image"] + 2 * wanted["text"])


def test_a_kind_counts_the_same_however_long_it_is():
    scores = logits(ROW)
    image = (STREAM.vocabulary.ranges["image"].first <= ROW) | (STREAM.end("image") == ROW)
    once = stream_loss(scores, ROW, STREAM, {"image": 1.0, "text": 1.0})
    more = torch.cat((torch.arange(len(ROW)), *[image.nonzero()[:, 0]] * 9))
    torch.testing.assert_close(stream_loss(scores[more], ROW[more], STREAM, {"image": 1.0, "text": 1.0}), once)


def test_padding_and_rows():
    rows = torch.stack((torch.cat((torch.full((4,), -100), ROW)), torch.cat((ROW, torch.full((4,), -100)))))
    scores = logits(ROW)
    batch = torch.stack((torch.cat((scores[:4] * 0, scores)), torch.cat((scores, scores[:4] * 0))))
    weights = {"image": 1.0, "text": 0.5, "audio": 1.0}
    torch.testing.assert_close(stream_loss(batch, rows, STREAM, weights), stream_loss(scores, ROW, STREAM, weights))


def test_gradients_reach_only_what_may_stand_there():
    scores = logits(ROW).requires_grad_()
    stream_loss(scores, ROW, STREAM, {"text": 1.0, "image": 0.0}).backward()
    may = STREAM.vocabulary.allowed("text")
    may[STREAM.end("text")] = True
    places = may[ROW]
    assert not scores.grad[~places].any()
    assert not scores.grad[:, ~may].any()
    assert scores.grad[places][:, may].all()


def test_half_precision_and_nothing_to_learn():
    low = stream_loss(logits(ROW).bfloat16(), ROW, STREAM, {"image": 1.0})
    torch.testing.assert_close(low, stream_loss(logits(ROW), ROW, STREAM, {"image": 1.0}), rtol=0.02, atol=0.02)
    assert low.dtype == torch.float32
    assert float(stream_loss(logits(ROW), torch.full_like(ROW, -100), STREAM, {"image": 1.0})) == 0


def test_what_does_not_fit():
    with pytest.raises(InvalidValue, match=r"weights must be of text, image, audio; got smell"):
        stream_loss(logits(ROW), ROW, STREAM, {"smell": 1.0})
    for scores in (logits(ROW)[1:], logits(ROW)[:, :40]):
        with pytest.raises(InvalidValue, match="logits must be of shape"):
            stream_loss(scores, ROW, STREAM, {"text": 1.0})


def test_codebooks_take_turns():
    stream = Stream((("text", 5), ("control", 30), ("audio", 12)), {"audio": 1}, {"audio": (4, 8)})
    row = stream.pack([Segment("audio", torch.tensor([1, 9, 0, 4]), (2,))])
    scores = torch.randn(len(row), len(stream.vocabulary), generator=torch.Generator().manual_seed(0))
    first, end = stream.vocabulary.ranges["audio"].first, stream.end("audio")
    books = (range(first, first + 4), range(first + 4, first + 12))
    wanted = []
    for place, label in list(enumerate(row.tolist()))[-5:]:
        ids = [*books[(place - len(row) + 5) % 2], end]
        wanted.append(cross_entropy(scores[place, ids], torch.tensor(ids.index(label))))
    torch.testing.assert_close(stream_loss(scores, row, stream, {"audio": 1.0}), torch.stack(wanted).mean())
