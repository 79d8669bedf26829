"""mergekit's tokensurgeon beside ours: the same model, the same new vocabulary, the same donor of its rows.

tokensurgeon asks for a model of the new vocabulary. For byte pairs that were just trained there is none, so the donor
holds what a sentence encoder says of each piece, which is where `matching_pursuit` looks by itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from benchmarks.embed.token_adapt import PASSAGES, passages, trained
from benchmarks.peers.folder import PeerEnvironment
from benchmarks.peers.tokensurgeon_child import ARMS, OURS, PURSUIT
from benchmarks.record import Record, Row, claim
from benchmarks.tables import Result, Table, by, fixed, interval, show
from tokenry.data import documents
from tokenry.embed.transfer.bits import bits_of
from tokenry.embed.transfer.donor import silent
from tokenry.embed.transfer.pursuit import pursue
from tokenry.embed.transfer.surfaces import read
from tokenry.embed.transfer.transplant import Transplant
from tokenry.measure.statistics import intervals
from tokenry.models.files import store
from tokenry.models.files.load import LanguageModel, load, load_encoder, load_tokenizer
from tokenry.models.text.as_text import text_ids
from tokenry.models.text.vocabulary import vocabulary_of

TITLE = "Beside tokensurgeon"
SUBJECTS = ("embed/matching_pursuit", "embed/mean_of_pieces", "embed/token_adapt")
ABOUT = (
    "SmolLM2-135M gets another vocabulary, by mergekit's tokensurgeon in an environment of its own and by ours, each "
    "in a process of its own with one thread, from reading the model to writing it. Two vocabularies: byte pairs of "
    "16,384 pieces that were just trained, whose donor holds the vectors of a sentence encoder, and Whisper's, whose "
    "donor holds Whisper's own rows; the encoder's vectors have a tenth of noise, since tokensurgeon needs rows that "
    "differ. `omp` and `matching_pursuit` make a piece of as many shared pieces. Marks and "
    "passages are those of `embed/token_adapt`, bits per byte are measured by the same code on what was written, "
    "intervals by bootstrap over documents. Seconds are of the processor, with the libraries; "
    "the peak is of the whole process. The pursuits alone get the same vectors: `other choices` counts pieces for "
    "which they choose other atoms, the difference is of the rows they make, against the length of these rows."
)

HOME = PeerEnvironment("mergekit", "mergekit==0.1.5")
FRESH, REAL = "fresh 16k", "whisper"
ATOMS = {FRESH: 64, REAL: 16}
PURSUED = 2048
"""Pieces of which the pursuits are compared alone."""
NOISE = 0.1
"""Length of what makes the vectors of the encoder differ."""
ORIGINAL = "original vocabulary"


def main() -> None:
    """Both vocabularies and all arms, or less for a quick look, which is not recorded."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="one passage of each document, without recording")
    options.add_argument("--vocabulary", nargs="+", choices=ATOMS, default=list(ATOMS), help="only these")
    options.add_argument("--only", nargs="+", metavar="ARM", choices=ARMS, help="these arms")
    given = options.parse_args()
    torch.set_num_threads(1)
    whole = not given.quick and given.only is None and set(given.vocabulary) == set(ATOMS)
    names, count = given.vocabulary, 1 if given.quick else PASSAGES
    settings = {
        "model": "smollm2", "package": HOME.package, "atoms": ATOMS, "pursued": PURSUED, "noise": NOISE,
        "passages": PASSAGES, "arms": ARMS,
    }  # fmt: skip
    record = Record("peers/against_tokensurgeon", dtype="float32", settings=settings, save=whole)
    HOME.install()
    language = load("smollm2", dtype="float32")
    model = HOME.path / "model"
    if not model.exists():
        language.model.save_pretrained(model)
        language.tokenizer.save_pretrained(model)
    for name in names:
        plan, donor = prepared(name, language)
        if record.find(vocabulary=name, arm=ORIGINAL) is None:
            record.add(*({"vocabulary": name, "arm": ORIGINAL, **row} for row in measured(language, count)))
        if record.find(vocabulary=name, part="pursuit") is None:
            record.add({"vocabulary": name, "part": "pursuit", **pursued(plan, donor, ATOMS[name])})
        for arm in track(given.only or ARMS, name):
            if record.find(vocabulary=name, arm=arm) is None:
                record.add(*(row | {"vocabulary": name} for row in transferred(arm, name, model, donor, count)))
    show(record.finish(claims(record.rows)), tables)


def prepared(name: str, language: LanguageModel) -> tuple[Transplant, Path]:
    """What becomes of each row, and the folder of a model that has the new vocabulary."""
    tokenizer = trained() if name == FRESH else load_tokenizer("whisper")
    plan = Transplant.of(language, tokenizer)
    folder = HOME.path / f"donor {name}".replace(" ", "_")
    _write(folder, plan.tokenizer, spoken(plan) if name == FRESH else whisper(len(plan.vocabulary)))
    return plan, folder


def spoken(plan: Transplant) -> Tensor:
    """What a sentence encoder says of each piece, the mean where it says nothing, as vectors of length one.

    Each has a little noise of its own: the encoder does not tell cases and spaces apart, and no two rows of a model are
    the same. tokensurgeon goes on where nothing is left to explain, and its rows then have a length of millions.
    """
    found = read(load_encoder("minilm"), list(plan.vocabulary), silent)
    rows = found.at(torch.arange(len(plan.vocabulary)))
    rows[found.row < 0] = found.vectors.mean(0)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    return normalize(rows + NOISE * normalize(noise, dim=1), dim=1)


def whisper(size: int) -> Tensor:
    """Whisper's own rows, and their mean for marks that it does not have."""
    own = AutoModel.from_pretrained(store.ensure("whisper")).get_decoder().get_input_embeddings().weight.detach()
    rows = own.float().mean(0).repeat(size, 1)
    rows[: len(own)] = own[:size]
    return rows


def _write(folder: Path, tokenizer: PreTrainedTokenizerBase, rows: Tensor) -> None:
    """A model of one layer with these rows; neither side reads anything else of it."""
    width = rows.shape[1]
    config = LlamaConfig(
        vocab_size=len(rows), hidden_size=width, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(rows)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def transferred(arm: str, name: str, model: Path, donor: Path, count: int) -> Iterator[Row]:
    """Seconds, memory, and bits per byte of what was written."""
    out = HOME.path / "out"
    took = child(arm, model, donor, out, ATOMS[name])
    for row in measured(load(str(out), dtype="float32"), count):
        yield {"arm": arm, **took, **row}


def child(arm: str, *places: object) -> Row:
    """What one process took; ours is started by this environment."""
    how = HOME.process("tokensurgeon_child", arm, *places)
    if arm in OURS:
        how["args"][0] = sys.executable
        how["env"] = how["env"] | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    done = subprocess.run(**how, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"against_tokensurgeon: {arm} ended with an error:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(language: LanguageModel, count: int) -> Iterator[Row]:
    """Bits per byte of every passage; the tokens must spell it."""
    vocabulary = vocabulary_of(language.tokenizer)
    for document in documents():
        for i, text in enumerate(passages(document, count)):
            ids = text_ids(language.tokenizer, text)
            assert vocabulary.spell(ids) == text.encode()
            bits = bits_of(language, ids) / len(text.encode())
            yield {"document": document, "passage": i, "tokens": len(ids), "bits_per_byte": round(bits, 5)}


def pursued(plan: Transplant, donor: Path, atoms: int) -> Row:
    """Both pursuits over the same vectors: which atoms they choose, and how far apart the rows are."""
    rows = load(str(donor), dtype="float32").model.get_input_embeddings().weight.detach()
    shared = (plan.source >= 0).nonzero()[:, 0]
    made = (plan.source == -1).nonzero()[:PURSUED, 0]
    wanted, points = rows[made].clone(), rows[shared].clone()
    source, out = HOME.path / "vectors.safetensors", HOME.path / "chosen.safetensors"
    save_file({"wanted": wanted, "atoms": points}, source)
    child(PURSUIT, source, out, atoms)
    found = load_file(out)
    old = plan.donor.input[plan.source[shared]].float()
    theirs = (found["weights"][..., None] * old[found["chosen"]]).sum(1)
    row, atom, weight = pursue(wanted, points, atoms, silent)
    ours = torch.zeros_like(theirs).index_add_(0, row, weight[:, None] * old[atom])
    chosen = [set(atom[row == r].tolist()) for r in range(len(wanted))]
    other = sum(mine != set(his) for mine, his in zip(chosen, found["chosen"].tolist(), strict=True))
    same = torch.tensor([mine == set(his) for mine, his in zip(chosen, found["chosen"].tolist(), strict=True)])
    apart = (ours - theirs).norm(dim=1) / theirs.norm(dim=1)
    return {
        "pieces": len(wanted), "atoms": atoms, "other_choices": other,
        "difference": float(apart[same].max()) if bool(same.any()) else None,
        "median_difference": float(apart.median()),
    }  # fmt: skip


def claims(rows: list[Row]) -> list[dict[str, Any]]:
    """The pursuits agree, and what ours costs and gives is no worse."""
    found = []
    for name in {r["vocabulary"]: None for r in rows}:
        [alone] = [r for r in rows if r["vocabulary"] == name and r.get("part") == "pursuit"]
        share = 1 - alone["other_choices"] / alone["pieces"]
        found.append(claim(f"{name}: share of pieces for which both pursuits choose the same", share, at_least=0.95))
        if alone["difference"] is not None:
            text = f"{name}: largest difference of rows where they do, of the length of the row"
            found.append(claim(text, alone["difference"], at_most=0.01))
        arms = {arm: _of(rows, name, arm) for arm in ("tokensurgeon, omp", "matching_pursuit", "token_adapt")}
        if not all(arms.values()):
            continue
        bits = {arm: by_document(mine) for arm, mine in arms.items()}
        for arm, most in (("matching_pursuit", 0.02), ("token_adapt", 0.0)):
            more = bits[arm] - bits["tokensurgeon, omp"]
            text = f"{name}: bits per byte that {arm} needs more than tokensurgeon, omp"
            found.append(
                claim(text, more.mean().item(), at_most=most)
                | {"interval": [round(e, 4) for e in intervals.of_mean(more)]}
            )
        theirs, ours = (arms[arm][0] for arm in ("tokensurgeon, omp", "matching_pursuit"))
        for unit, what in (("seconds", "processor time"), ("peak_mb", "peak of memory")):
            text = f"{name}: {what} of tokensurgeon, omp, over that of matching_pursuit"
            found.append(claim(text, theirs[unit] / ours[unit], at_least=0.95))
    return found


def tables(document: Result) -> list[Table]:
    """What the page shows."""
    found = []
    heads = ("arm", "bits per byte (95 %)", "tokens", "seconds", "peak MB")
    for name, rows in by(document["rows"], "vocabulary"):
        cells = []
        for arm, mine in by([r for r in rows if "arm" in r], "arm"):
            bits, took = by_document(mine), mine[0]
            text = f"{bits.mean():.3f} ({interval(intervals.of_mean(bits), 3)})"
            cost = (fixed(took["seconds"], 0), str(took["peak_mb"])) if "seconds" in took else ("", "")
            cells.append((arm, text, str(sum(r["tokens"] for r in mine)), *cost))
        found.append(Table(f"{name}, {ATOMS[name]} atoms", heads, cells))
    cells = [
        (r["vocabulary"], str(r["pieces"]), str(r["atoms"]), str(r["other_choices"]),
         "" if r["difference"] is None else f"{r['difference']:.1e}", f"{r['median_difference']:.1e}")
        for r in document["rows"] if r.get("part") == "pursuit"
    ]  # fmt: skip
    heads = ("vocabulary", "pieces", "atoms", "other choices", "largest difference of the others", "median of all")
    return [*found, Table("The pursuits alone, over the same vectors", heads, cells)]


def by_document(rows: list[Row]) -> Tensor:
    """Mean bits per byte of each document."""
    return torch.tensor([mean(r["bits_per_byte"] for r in mine) for _, mine in by(rows, "document")])


def _of(rows: list[Row], name: str, arm: str) -> list[Row]:
    return [r for r in rows if (r["vocabulary"], r.get("arm")) == (name, arm)]


if __name__ == "__main__":
    main()
