"""What a small encoder learns from replaced tokens, beside masked language modelling on the same text for as long.

Encoders of two layers read passages of the sample documents and of what Python says of its own language. Afterwards
they rest, and a linear probe over the mean of their states says from which of the texts an unseen passage is.
"""

from __future__ import annotations

import time
from pydoc_data.topics import topics
from statistics import mean, stdev
from typing import Any

import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedTokenizerFast

from benchmarks.learn.options import options
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, percent, show
from tokenry.core.registry import parse
from tokenry.data import documents, read
from tokenry.learn.base import Objective
from tokenry.learn.electra import Electra, ElectraWatch
from tokenry.learn.training.examples import Example, collate
from tokenry.learn.training.fit import Schedule, fit
from tokenry.measure.statistics import intervals
from tokenry.models.files.load import LanguageModel

TITLE = "Learning from replaced tokens"
SUBJECTS = ("learn/electra",)
ABOUT = (
    "Encoders of two layers, 64 wide, read 10,240 passages of 32 tokens once, batches of 16: sample documents and "
    "Python's own help topics, in byte pairs of 512 trained on the same text. Then a linear probe over the mean of the "
    "last states, fitted on 600 passages, tells of 600 others which of six texts they are from. `found` is how well "
    "replaced tokens are told from originals in 20 batches that were read, area under the curve. The paper's small "
    "encoder has 14 million weights, these 0.1, and reads ten thousand times as much."
)

PIECES, LENGTH, TRAINED, PROBED, BATCH = 512, 32, 10240, 1200, 16
WIDTH, LAYERS, RATE = 64, 2, 2e-3
SEEDS = (0, 1, 2)
MARK, MLM, DETECT, HIDDEN = 1, "masked language modelling", "electra", "electra, hidden tokens only"
ARMS = {
    "untrained": "",
    MLM: f"electra:task=mlm,mark={MARK}",
    DETECT: "electra",
    HIDDEN: "electra:task=detect_hidden",
}


def main() -> None:
    """All arms and seeds; `--arm` and `--seed` for a quick look, which is not recorded."""
    given = options(__doc__, ARMS)
    record = Record(
        "learn/electra", dtype="float32", save=not given.arm and not given.seed,
        settings={
            "pieces": PIECES, "length": LENGTH, "trained": TRAINED, "probed": PROBED, "batch": BATCH, "width": WIDTH,
            "layers": LAYERS, "rate": RATE, "seeds": SEEDS, "arms": ARMS,
        },
    )  # fmt: skip
    training, probing, labels = passages()
    for seed in given.seed or SEEDS:
        for arm in given.arm or ARMS:
            if record.find(arm=arm, seed=seed) is None:
                record.add(run(arm, seed, training, probing, labels))
                print(record.rows[-1], flush=True)
    show(record.finish(claims(record) if record.save else []), tables)


def passages() -> tuple[list[Tensor], Int[Tensor, "P N"], Int[Tensor, "P"]]:
    """Passages to learn from, others to probe, and which text each of these is from."""
    texts = [*map(read, documents()), "\n".join(topics.values())]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=PIECES, show_progress=False, special_tokens=["[PAD]", "[MASK]", "[CLS]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    generator = torch.Generator().manual_seed(0)
    training, probing, labels = [], [], []
    each = PROBED // len(texts)
    for label, text in enumerate(texts):
        ids = torch.tensor(PreTrainedTokenizerFast(tokenizer_object=tokenizer)(text, verbose=False)["input_ids"])
        size = LENGTH - 1
        pieces = ids[: len(ids) // size * size].view(-1, size)
        pieces = torch.cat((torch.full((len(pieces), 1), 2), pieces), 1)
        order = torch.randperm(len(pieces), generator=generator)
        probing.append(pieces[order[:each]])
        labels += [label] * len(probing[-1])
        training += list(pieces[order[each:]])
    order = torch.randperm(len(training), generator=generator)[:TRAINED].tolist()
    return [training[i] for i in order], torch.cat(probing), torch.tensor(labels)


def run(arm: str, seed: int, training: list[Tensor], probing: Int[Tensor, "P N"], labels: Int[Tensor, "P"]) -> Row:
    """One encoder: trained, then probed."""
    language = encoder(seed)
    start, found = time.process_time(), None
    if ARMS[arm]:
        objective = parse(f"{ARMS[arm]}{',' if ':' in ARMS[arm] else ':'}seed={seed}")
        assert isinstance(objective, Objective)
        examples = [Example(ids, torch.where(torch.arange(LENGTH) == 0, -100, ids)) for ids in training]
        schedule = Schedule(rank=0, batch=BATCH, rows=BATCH, rate=RATE, seed=seed, rise=0.1)
        fitted = fit(objective, language, examples, schedule=schedule, progress=False)
        if isinstance(objective, Electra) and objective.task == "detect":
            found = area(objective, fitted, examples[-20 * BATCH :])
    seconds = time.process_time() - start
    return {
        "arm": arm, "spec": ARMS[arm], "seed": seed, "seconds": round(seconds, 1), "found": found,
        "right": round(probed(language, probing, labels), 4),
    }  # fmt: skip


@torch.no_grad()
def area(objective: Electra, fitted: Any, examples: list[Example]) -> float:
    """How well replaced tokens are told from originals, by the generator and the detector that were trained."""
    model = fitted.language.model.eval()
    scores, truth = [], []
    with objective(model) as watch:
        assert isinstance(watch, ElectraWatch)
        watch.prepare([collate(examples)])
        watch.detector.load_state_dict(fitted.learned["detector"].state_dict())
        if watch.guesser.module is not None:
            watch.guesser.module.load_state_dict(fitted.learned["generator"].state_dict())
        for at in range(0, len(examples), BATCH):
            batch = collate(examples[at : at + BATCH])
            model(**watch.inputs(batch))
            assert watch.asked is not None
            judged = batch["labels"] != -100
            scores.append(watch.detector(judged))
            truth.append(watch.asked.replaced[judged])
    return round(float(roc_auc_score(torch.cat(truth), torch.cat(scores))), 4)


def encoder(seed: int) -> LanguageModel:
    """A new small encoder."""
    config = AutoConfig.for_model(
        "bert", vocab_size=PIECES, hidden_size=WIDTH, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=4 * WIDTH, max_position_embeddings=64, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForMaskedLM.from_config(config)
    return LanguageModel(model, None, "a small encoder", 64)  # type: ignore[arg-type]


@torch.no_grad()
def probed(language: LanguageModel, passages: Int[Tensor, "P N"], labels: Int[Tensor, "P"]) -> float:
    """How many of the second half a probe of the first half is right about."""
    model = language.model.eval()
    found = [model.base_model(input_ids=part).last_hidden_state[:, 1:].mean(1) for part in passages.split(64)]
    states: Float[Tensor, "P E"] = torch.cat(found)
    order = torch.randperm(len(states), generator=torch.Generator().manual_seed(0))
    half = len(order) // 2
    scaler = StandardScaler().fit(states[order[:half]])
    probe = LogisticRegression(max_iter=2000, C=0.1).fit(scaler.transform(states[order[:half]]), labels[order[:half]])
    return float(probe.score(scaler.transform(states[order[half:]]), labels[order[half:]]))


def claims(record: Record) -> list[dict[str, Any]]:
    """Better than masked language modelling and than its ablation, and replaced tokens are found."""
    right = {arm: torch.tensor([r["right"] for r in record.rows if r["arm"] == arm]) for arm in ARMS}
    found = [
        claim(f"electra: share of passages it tells beyond {arm}", gain.mean().item(), at_least=needed)
        | {"interval": [round(end, 4) for end in intervals.of_mean(gain)]}
        for arm, needed in ((MLM, 0.02), (HIDDEN, 0.0), ("untrained", 0.0))
        for gain in [right[DETECT] - right[arm]]
    ]
    areas = [r["found"] for r in record.rows if r["arm"] == DETECT]
    return [*found, claim("electra: area under the curve of finding replaced tokens", mean(areas), at_least=0.7)]


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    cells = []
    for arm, rows in by(document["rows"], "arm"):
        right, areas = [r["right"] for r in rows], [r["found"] for r in rows if r["found"] is not None]
        spread = stdev(right) if len(right) > 1 else 0.0
        cells.append((
            arm, percent(mean(right)), percent(spread), fixed(mean(areas), 3) if areas else "",
            fixed(mean(r["seconds"] for r in rows), 0),
        ))  # fmt: skip
    title = f"mean of {len(document['settings']['seeds'])} seeds, spread is their standard deviation; chance is 16.7 %"
    return [Table(title, ("arm", "passages told", "spread", "found", "seconds of one core"), cells)]


if __name__ == "__main__":
    main()
