"""Seeded reports in three languages at once, and a question in one of them about one sentence."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.peers.context_logs import Made


@dataclass(frozen=True, slots=True)
class Language:
    """Sentences of one language.

    Args:
        places: and `things`, of which sentences tell.
        fillers: sentences about a {place}, a {thing} and a number {n}.
        fact: the one that is asked for, and `ask` the question.
    """

    places: tuple[str, ...]
    things: tuple[str, ...]
    fillers: tuple[str, ...]
    fact: str
    ask: str
    space: str = " "


LANGUAGES: Mapping[str, Language] = {
    "english": Language(
        ("the harbour", "the north hall", "the old mill", "the depot", "the laboratory"),
        ("pump", "crane", "boiler", "ladder", "generator", "conveyor"),
        ("The {thing} in {place} was inspected in week {n} without a finding.",
         "In {place} the crew moved {n} crates before noon.", "Visitors to {place} asked for a new {thing}.",
         "After the rain, {place} stayed closed for {n} hours.", "Nobody used the {thing} while {place} was painted."),
        "The inspector sealed the {thing} in {place} because its valve had cracked at {n} bar.",
        "At what pressure did the valve of the {thing} in {place} crack?",
    ),
    "german": Language(
        ("der Werkstatt", "der Nordhalle", "dem Lager", "der Gärtnerei", "dem Kraftwerk"),
        ("Pumpe", "Leiter", "Fräse", "Waage", "Turbine", "Presse"),
        ("Die {thing} in {place} wurde in Woche {n} ohne Befund geprüft.",
         "In {place} standen am Morgen {n} Kisten bereit.", "Besucher fragten in {place} nach einer neuen {thing}.",
         "Nach dem Regen blieb in {place} alles {n} Stunden lang geschlossen.",
         "Während in {place} gestrichen wurde, benutzte niemand die {thing}."),
        "Der Prüfer versiegelte die {thing} in {place}, weil ihr Ventil bei {n} bar gerissen war.",
        "Bei welchem Druck riss das Ventil der {thing} in {place}?",
    ),
    "french": Language(
        ("l'atelier", "le hangar nord", "le moulin", "le dépôt", "la serre"),
        ("pompe", "grue", "chaudière", "balance", "turbine", "presse"),
        ("La {thing} dans {place} a été contrôlée en semaine {n} sans remarque.",
         "Dans {place}, l'équipe a déplacé {n} caisses avant midi.",
         "Des visiteurs ont demandé une nouvelle {thing} pour {place}.",
         "Après la pluie, {place} est resté fermé pendant {n} heures.",
         "Personne n'utilisait la {thing} pendant les travaux dans {place}."),
        "L'inspecteur a scellé la {thing} dans {place}, car sa soupape avait cédé à {n} bars.",
        "À quelle pression la soupape de la {thing} dans {place} a-t-elle cédé ?",
    ),
    "turkish": Language(
        ("atölyede", "kuzey salonunda", "değirmende", "depoda", "serada"),
        ("pompa", "vinç", "kazan", "terazi", "türbin", "pres"),
        ("{place} bulunan {thing} {n}. haftada kusursuz bulundu.", "Ekip {place} öğleden önce {n} kasa taşıdı.",
         "Ziyaretçiler {place} yeni bir {thing} istedi.", "Yağmurdan sonra {place} kapılar {n} saat kapalı kaldı.",
         "Boya sürerken {place} kimse {thing} kullanmadı."),
        "Denetçi {place} duran {thing} için mühür vurdu, çünkü vanası {n} barda çatlamıştı.",
        "{place} duran {thing} hangi basınçta çatladı?",
    ),
    "chinese": Language(
        ("北厂房", "旧磨坊", "仓库", "实验室", "温室"), ("水泵", "起重机", "锅炉", "天平", "涡轮机", "压床"),
        ("{place}的{thing}在第{n}周检查时没有发现问题。", "工人们上午在{place}搬运了{n}个箱子。",
         "参观者希望{place}添置一台新的{thing}。", "下雨之后，{place}关闭了{n}个小时。",
         "粉刷{place}期间没有人使用{thing}。"),
        "检查员封存了{place}的{thing}，因为它的阀门在{n}巴的压力下破裂了。",
        "{place}的{thing}的阀门在多大压力下破裂？", "",
    ),
    "japanese": Language(
        ("北工場", "古い水車小屋", "倉庫", "実験室", "温室"),
        ("ポンプ", "クレーン", "ボイラー", "天秤", "タービン", "プレス機"),
        ("{place}の{thing}は第{n}週の点検で異常がなかった。", "作業員は午前中に{place}で{n}個の箱を運んだ。",
         "見学者は{place}に新しい{thing}を求めた。", "雨の後、{place}は{n}時間閉鎖された。",
         "{place}の塗装中は誰も{thing}を使わなかった。"),
        "検査官は{place}の{thing}を封印した。弁が{n}バールで破裂していたからである。",
        "{place}の{thing}の弁は何バールで破裂したか。", "",
    ),
}  # fmt: skip
TRIPLES = (
    ("english", "german", "chinese"), ("german", "turkish", "english"), ("japanese", "english", "french"),
    ("chinese", "german", "turkish"), ("french", "english", "turkish"), ("english", "japanese", "chinese"),
)  # fmt: skip
PARAGRAPHS, SENTENCES = 36, 6


def mixed(rng: random.Random, i: int) -> Made:
    """Paragraphs in three languages by turns; what is asked for is in the first, the second or the third."""
    names = TRIPLES[i % len(TRIPLES)]
    asked = LANGUAGES[names[rng.randrange(3)]]
    place, thing, n = rng.choice(asked.places), rng.choice(asked.things), rng.randrange(20, 400)
    fact = asked.fact.format(place=place, thing=thing, n=n)
    paragraphs = []
    for k in range(PARAGRAPHS):
        language = LANGUAGES[names[k % 3]]
        paragraphs.append([_filler(rng, language) for _ in range(SENTENCES)])
    at = rng.choice([k for k in range(PARAGRAPHS) if LANGUAGES[names[k % 3]] is asked])
    paragraphs[at].insert(rng.randrange(SENTENCES), fact)
    text = "\n\n".join(LANGUAGES[names[k % 3]].space.join(p) for k, p in enumerate(paragraphs)) + "\n"
    return text, "", asked.ask.format(place=place, thing=thing), (fact,), "report.txt"


def _filler(rng: random.Random, language: Language) -> str:
    return rng.choice(language.fillers).format(
        place=rng.choice(language.places), thing=rng.choice(language.things), n=rng.randrange(2, 60)
    )
