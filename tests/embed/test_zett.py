"""ZeTT: identity, rows that depend on their piece alone, vocabularies as they are drawn, and what both stages teach."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

from tests.embed.embed_models import HOSTILE, NEW_TEXT, OLD_TEXT, described, model, trained
from tokenry.core.errors import InvalidValue, StorageError
from tokenry.core.seeds import mixed
from tokenry.embed.hypernetwork.network import BYTES, Hypernetwork, source_of, spellings
from tokenry.embed.hypernetwork.sampling import SPACES, Sampler, Sampling
from tokenry.embed.hypernetwork.teacher import STRETCH, Teacher
from tokenry.embed.hypernetwork.training import MEASURED, Course, train
from tokenry.embed.mean_of_pieces import MeanOfPieces
from tokenry.embed.transfer.donor import Donor
from tokenry.embed.zett import Zett
from tokenry.models.text.embeddings import matrices_of, save

TEXTS = [" ".join(random.Random(i).choices(text.split(), k=700)) for i, text in enumerate((OLD_TEXT, NEW_TEXT))]
DRAWN = Sampling(pieces=420, texts=8)
SHORT = Course(steps=12, rows=2, tokens=16, negatives=30, every=5, rate=3e-3)


@pytest.fixture(params=["llama", "gemma2", "gpt2"])
def old(request):
    """Matrices apart, tied and scaled, and tied."""
    return model(request.param, trained(OLD_TEXT, bos_token="<s>", eos_token="</s>"))


def built(donor, **fields):
    network = Hypernetwork(layers=1, **fields).build(**Hypernetwork.sizes(donor))
    network.fit_scales(donor)
    return network.eval()


def test_what_has_learned_nothing_gives_its_own_vocabulary_back_bit_for_bit(old):
    """With the first position of one piece in place of all that is learned."""
    plan = Zett().plan(old, old.tokenizer)
    assert len(plan.pieces) > 300
    before, after = matrices_of(old.model), matrices_of(Zett().transfer(old, old.tokenizer).model)
    size = len(before.input)
    assert torch.equal(after.input[:size], before.input)
    assert before.output is None or torch.equal(after.output[:size], before.output)


def test_it_begins_at_the_mean_of_pieces(old):
    donor = Donor.of(old)
    pieces = [b" lightkeeper", b"darkened", b" Nobody"]
    for found, wanted in zip(Zett().table(pieces, donor), MeanOfPieces().table(pieces, donor), strict=True):
        if wanted is not None:
            torch.testing.assert_close(found, wanted)
    with_scales = built(donor).rows(source_of(donor), spellings(donor, pieces))
    torch.testing.assert_close(with_scales.input, MeanOfPieces().table(pieces, donor).input, rtol=1e-4, atol=1e-5)


def test_rows_depend_neither_on_company_nor_on_length(old):
    donor = Donor.of(old)
    network, source = built(donor, residual=0.0), source_of(donor)
    pieces = [b" lightkeeper", b"a", b"zzzzzzzzz", b" lamp", b"\xe6\x97", None]
    spelled = spellings(donor, pieces)
    with torch.no_grad():
        whole = network.rows(source, spelled)
        for i, ids in enumerate(spelled):
            torch.testing.assert_close(network.rows(source, [ids]).input[0], whole.input[i], rtol=1e-5, atol=1e-5)
        cut = network.rows(source, [spelled[2][: network.longest]])
        torch.testing.assert_close(cut.input[0], whole.input[2], rtol=1e-5, atol=1e-5)
    assert (whole.output is None) == (donor.output is None)


def test_bytes_without_a_piece_have_rows_that_are_learned():
    donor = Donor.of(model("llama", described({"▁": 0, "a": 1})))
    full = spellings(donor, [b"a\xe6", None])
    assert full[0] == [258, 1 + 0xE6]
    bare = replace(donor, vocabulary=type(donor.vocabulary)((None, b"a", b"aa")))
    rows = len(bare.input)
    assert spellings(bare, [b"\x04", b"a\x04aa", None]) == [[rows + 4], [1, rows + 4, 2], [rows + BYTES]]
    network = built(bare)
    made = network.rows(source_of(bare), [[rows + 4], [rows + 5], [rows + BYTES]])
    assert len({tuple(row.tolist()) for row in made.input}) == 3
    made.input.sum().backward()
    assert float(network.missing.grad.abs().sum()) > 0


def test_the_first_stage_gives_the_rows_back():
    language = model("llama", trained(OLD_TEXT, bos_token="<s>"))
    course = Course(first=250, first_rows=400, first_rate=3e-3, steps=0, rows=2, tokens=16, every=250)
    network, log = train(language, TEXTS, course, sampling=DRAWN, network=Hypernetwork(layers=1, residual=0.0))
    donor = Donor.of(language)
    ids = sorted(donor.ids.values())
    with torch.no_grad():
        made = network.rows(source_of(donor), [[i] for i in ids])
    near = cosine_similarity(made.input, donor.input[ids].float()).mean()
    assert near > 0.97
    assert log[-1]["cosine"] > log[0]["cosine"] + 0.5


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_second_stage_makes_the_model_predict_better(family, tmp_path):
    language = model(family, trained(OLD_TEXT, bos_token="<s>"))
    before = {n: p.clone() for n, p in language.model.state_dict().items()}
    network, log = train(language, TEXTS, replace(SHORT, steps=40), sampling=DRAWN, network=Hypernetwork(layers=1))
    assert log[-1]["bits_per_byte"] < log[0]["bits_per_byte"] - 0.2
    assert all(torch.equal(p, before[n]) for n, p in language.model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in language.model.parameters())
    network.save(tmp_path / "rows")
    method = Zett(hypernetwork=str(tmp_path / "rows"))
    done = method.transfer(language, trained(NEW_TEXT, 330))
    assert torch.isfinite(done.model(torch.tensor([done.tokenizer(HOSTILE)["input_ids"]])).logits).all()
    assert method.plan(language, language.tokenizer).counts["copied"] < 5


def test_an_interrupted_training_gives_the_same(tmp_path):
    language = model("llama", trained(OLD_TEXT, bos_token="<s>"))
    course = replace(SHORT, first=6, first_rows=20)

    def run(folder, stop=None):
        def tell(stage, step, _):
            if (stage, step) == stop:
                raise KeyboardInterrupt

        return train(language, TEXTS, course, sampling=DRAWN, network=Hypernetwork(layers=1), folder=folder, tell=tell)

    whole, log = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", ("second stage", 7))
    again, other = run(tmp_path / "cut")
    assert log == other
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    with pytest.raises(StorageError, match="trained in the same way"):
        train(language, TEXTS, replace(course, rate=1e-3), sampling=DRAWN, network=Hypernetwork(layers=1),
              folder=tmp_path / "cut")  # fmt: skip


def test_with_all_other_pieces_the_loss_is_that_of_the_whole_vocabulary(old):
    teacher = Teacher(old, TEXTS, DRAWN)
    lesson = teacher.lesson(2, 12, 10_000, torch.Generator().manual_seed(1))
    assert len(lesson.pieces) == lesson.held + lesson.others == DRAWN.pieces
    network = built(teacher.donor)
    with torch.no_grad():
        made, known = teacher.made(network, lesson)
        found = teacher.nats(made, lesson)
        language = Zett().transfer(old, old.tokenizer)
        table = language.model.get_input_embeddings()
        head = language.model.get_output_embeddings()
        begin = teacher.donor.input[[teacher.begin]]
        table.weight = torch.nn.Parameter(torch.cat((made.input, begin)).to(table.weight.dtype))
        table.padding_idx = None
        if made.output is None:
            head.weight = table.weight
        else:
            last = teacher.donor.output[[teacher.begin]]
            head.weight = torch.nn.Parameter(torch.cat((made.output, last)))
        ids = torch.cat((torch.full((2, 1), len(lesson.pieces)), lesson.ids), 1)
        logits = language.model(ids).logits[:, :-1, :-1].float()
    torch.testing.assert_close(found, cross_entropy(logits.flatten(0, 1), lesson.ids.flatten()), rtol=1e-4, atol=1e-4)
    assert float(teacher.distance(made, known)) < 1e-6
    few = teacher.lesson(2, 12, 100, torch.Generator().manual_seed(1))
    assert len(few.pieces) == few.held + 100
    assert abs(float(teacher.nats(teacher.made(network, few)[0], few)) - float(found)) < 0.5


def test_a_model_that_was_tuned_takes_the_rows_of_its_base(tmp_path):
    tokenizer = trained(OLD_TEXT, bos_token="<s>")
    base, tuned = model("llama", tokenizer), model("llama", tokenizer)
    with torch.no_grad():
        tuned.model.get_input_embeddings().weight.add_(1.0)
    save(base, tmp_path / "base")
    pieces = [b" lightkeeper"]
    found = Zett(base=str(tmp_path / "base")).table(pieces, Donor.of(tuned))
    torch.testing.assert_close(found.input, Zett().table(pieces, Donor.of(base)).input, rtol=1e-2, atol=1e-2)


def test_a_network_for_other_widths_is_refused(tmp_path):
    language = model("llama", trained(OLD_TEXT))
    Hypernetwork(layers=1).build(width=32, outputs=1).save(tmp_path / "rows")
    with pytest.raises(InvalidValue, match="hypernetwork must be one for rows of"):
        Zett(hypernetwork=str(tmp_path / "rows")).transfer(language, trained(NEW_TEXT, 330))


def test_vocabularies_hold_what_the_paper_says():
    sampler = Sampler(TEXTS, DRAWN)
    chance = torch.Generator().manual_seed(3)
    drawn = sampler.draw(chance)
    same = sampler.draw(torch.Generator().manual_seed(3))
    assert drawn.pieces == same.pieces != sampler.draw(torch.Generator().manual_seed(4)).pieces
    assert len(drawn.pieces) == len(set(drawn.pieces)) == DRAWN.pieces
    assert {bytes([b]) for b in range(256)} <= set(drawn.pieces)
    assert b" " * 16 in drawn.pieces
    for text in (HOSTILE, "\n\t  \n" * 5, ""):
        assert b"".join(drawn.pieces[i] for i in drawn.tokenizer.encode(text).ids) == text.encode()
    assert len(SPACES) == 3


def test_substrings_score_by_how_often_and_how_long():
    sampler = Sampler(["keep keep lamp"], Sampling(stride=4, length=5))
    scores = dict(zip(sampler._names, sampler.scores([0]).tolist(), strict=True))
    words, wanted = [" keep", " keep", " lamp"], Counter()
    for word in words:
        for start in range(0, len(word), 4):
            for end in range(start + 2, min(len(word), start + 5) + 1):
                wanted[word[start:end].replace(" ", "Ġ")] += end - start
    assert scores == dict(wanted)


@pytest.mark.parametrize("wrong", [{"tokens": 1}, {"rows": 0}, {"negatives": -1}])
def test_a_course_must_be_possible(wrong):
    with pytest.raises(InvalidValue, match="hypernetwork: "):
        Course(**wrong)


def test_nothing_that_is_measured_on_was_trained_on():
    """Neither in a text that is there twice, nor in one whose parts begin elsewhere; not for vocabularies either."""
    draw = random.Random(0)
    long = "".join(draw.choices("abcdefgh ", k=20_000))
    note = "A short note that stands in many files.\n"
    texts = [note, long, long[3_000:9_000], *[note] * 40, long[77:]]
    teacher = Teacher(model("llama", trained(OLD_TEXT)), texts, DRAWN)
    assert note in teacher.test
    assert note not in teacher.train
    assert teacher.sampler.texts == teacher.train
    stretches = {part[at : at + 2 * STRETCH] for part in teacher.train for at in range(len(part) - 2 * STRETCH + 1)}
    assert len(stretches) > 5_000
    for part in teacher.test:
        assert all(part[at : at + 2 * STRETCH] not in stretches for at in range(len(part) - 2 * STRETCH + 1))


def test_what_is_measured_on_is_drawn_by_no_step():
    for seed in (0, 1, 256):
        assert mixed(seed << 32 | MEASURED) not in {mixed(seed << 32 | step) for step in range(1000)}


def test_texts_that_only_repeat_themselves_are_refused():
    with pytest.raises(InvalidValue, match="more than what is measured on"):
        Teacher(model("llama", trained(OLD_TEXT)), [OLD_TEXT * 12], DRAWN)


def test_a_training_goes_on_with_the_same_texts_alone(tmp_path):
    language = model("llama", trained(OLD_TEXT, bos_token="<s>"))
    course = replace(SHORT, steps=2, every=1)
    train(language, TEXTS, course, sampling=DRAWN, network=Hypernetwork(layers=1), folder=tmp_path)
    with pytest.raises(StorageError, match="trained in the same way"):
        train(language, TEXTS[::-1], course, sampling=DRAWN, network=Hypernetwork(layers=1), folder=tmp_path)


def test_texts_must_be_long_enough():
    language = model("llama", trained(OLD_TEXT))
    with pytest.raises(InvalidValue, match="texts must be longer"):
        train(
            language,
            [f"short {i}" for i in range(20)],
            replace(SHORT, tokens=500),
            sampling=DRAWN,
            network=Hypernetwork(layers=1),
        )
    with pytest.raises(InvalidValue, match="texts must hold some text"):
        Sampler([""], DRAWN)
