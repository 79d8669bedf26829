"""Which language a text is in, and the words of it that say nothing by themselves."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

FUNCTION_WORDS: Mapping[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "english": """a about above after again against all also am an and any are aren't as at be because been before
            being below between both but by can can't cannot could couldn't did didn't do does doesn't doing don't down
            during each few for from further had hadn't has hasn't have haven't having he her here hers herself him
            himself his how i if in into is isn't it its itself just let let's me more most mustn't my myself no nor
            not now of off on once only or other ought our ours ourselves out over own same shall shan't she should
            shouldn't so some such than that the their theirs them themselves then there these they this those through
            to too under until up us very was wasn't we were weren't what when where which while who whom why will with
            won't would wouldn't you your yours yourself yourselves s t d ll m re ve""",
        "german": """aber alle allem allen aller alles als also am an ander andere auch auf aus bei bin bis
            bist da damit
            dann das dass dein dem den denn der des die dies diese dieser dieses doch dort du durch ein eine
            einem einen
            einer eines er es etwas euch euer für gegen gewesen hab habe haben hat hatte hatten hier hin hinter ich ihm
            ihn ihr ihre im in indem ins ist jede jedem jeden jeder jedes jene jetzt kann kein keine können machen man
            mein mich mir mit muss nach nicht nichts noch nun nur ob oder ohne sehr sein seine selbst sich sie sind so
            soll sollte sondern sonst über um und uns unser unter viel vom von vor wann war waren warum was weg weil
            welche welcher welches wenn wer werde werden wie wieder will wir wird wo woher worden wurde würde
            zu zum zur
            zwischen""",
        "french": """à ai as au aux avec avait avez avons c ce ceci cela celle ces cet cette ceux chez comme comment
            d dans de des du donc dont elle elles en encore entre est et étaient était étant être eu eux il ils j je l
            la le les leur leurs lui m ma mais me même mes mon n ne ni nos notre nous on ont ou où par pas plus pour
            pourquoi qu quand que quel quelle quelles quels qui s sa sans se sera ses si son sont sous sur t ta te tes
            toi ton très tu un une vos votre vous y""",
        "spanish": """a al algo algunos ante antes aquí así aunque como cómo con contra cual cuál cuando cuándo de del
            desde donde dónde dos durante e el él ella ellas ellos en entre era eran es esa ese eso esta está están
            estas este esto estos fue fueron ha había han hasta hay la las le les lo los más me mi mis mucho
            muy nada ni
            no nos nosotros o os otra otro para pero poco por porque qué que quien quién se sea según ser si sí sin
            sobre son su sus también tanto te tiene todo todos tu un una uno unos y ya yo""",
        "portuguese": """a à ao aos as até com como da das de dela dele deles depois do dos e é ela elas ele eles em
            entre era eram essa esse esta está estão este eu foi foram há isso isto já lhe mais mas me mesmo meu minha
            muito na nas não nem no nos nós o os ou para pela pelas pelo pelos por porque qual quando que quem são se
            sem ser seu seus só sua suas também te tem têm um uma você vocês onde""",
        "italian": """a ad ai al alla alle allo anche avere aveva c che chi ci come con contro cosa cui da
            dagli dai dal
            dalla dalle degli dei del della delle dello di dove due e è ed era erano essere fra gli ha hanno ho i il in
            io l la le lei li lo loro lui ma mi mia mio nei nel nella nelle no noi non o per perché più quale quando
            quanto quella quelle quelli quello questa queste questi questo se sei si sia siamo sono sta su sua sue sui
            sul sulla suo tra tu tutti tutto un una uno vi voi""",
        "dutch": """aan al alles als altijd andere ben bij daar dan dat de der deze die dit doch doen door dus
            een en er
            ge geen geweest haar had heb hebben heeft hem het hier hij hoe hun iemand iets ik in is ja je kan kon maar
            me meer men met mij mijn moet na naar niet niets nog nu of om omdat ons ook op over reeds te tegen
            toch toen
            tot u uit uw van veel voor waar waarom wanneer want was wat we wel werd wezen wie wij wil worden zal ze zei
            zelf zich zij zijn zo zonder zou""",
        "swedish": """alla att av bara blev bli blir de dem den deras dess det detta dig din dit du där efter ej eller
            en er ett från för ha hade han hans har hennes hon honom hur här i icke inte jag kan kunde man med mellan
            men mig min mot mycket ni nu när någon något några och om oss på samma sedan sig sin skulle som så till
            under upp ut utan vad var varför vem vi vid vilka vilken är än över""",
        "danish": """af alle alt anden at blev blive bliver da de dem den denne der deres det dette dig din du efter
            eller en end er et for fra få ham han hans har havde hende hendes her hos hun hvad hvem hvilken hvis hvor
            hvordan hvorfor i ikke ind jeg jo kan kunne man mange med meget men mig min mod ned noget nogen
            nogle nu når
            og også om op os over på selv sig sin skal skulle som til under ud var ved vi vil ville være""",
        "norwegian": """alle at av ble bli blir da de deg dem den denne der deres det dette din du eller en enn er et
            etter for fordi fra før ha hadde han hans har henne her hun hva hvem hvilken hvis hvor hvordan hvorfor i
            ikke inn jeg kan kunne man med meg mellom men min mot mye nei noe noen nå når og også om opp oss
            over på seg
            selv sin skal skulle slik som så til under ut uten var ved vi vil ville være å""",
        "finnish": """ei eivät emme en että hän he ja jo joka jos jotka kanssa kuin kun kuka me mikä mitä missä milloin
            miksi minä mutta myös ne niin nyt oli olivat olla olen on ovat se sekä sen siitä sinä tai tämä te tuo vain
            vai voi""",
        "turkish": """acaba ama ancak ayrıca bana bazı belki ben beni benim bir biri birçok biz bu buna bunda
            bundan bunu
            bunun çok çünkü da daha de defa değil diye eğer en gibi hem hep hepsi her hiç ile ise için kadar ki kim
            kimin mi mı mu mü nasıl ne neden nedir nerede nereye niçin niye o olan olarak oldu olduğu on ona
            ondan onlar
            onu onun sanki sen siz şey şu tüm var ve veya ya yani yok""",
        "russian": """а без более бы был была были было быть в вам вас весь во вот все всё всех вы где да даже
            для до его
            ее её если есть еще ещё же за и из или им их к как какая какой когда кто ли между меня мне может мы на над
            надо нас не него нее ней нет ни них но о об он она они оно от очень по под после потом потому
            почему при про
            с сам себя со так также там тем то тогда того тоже только том тот ты у уже чего чем что чтобы эта эти это
            этого этой этом этот я""",
        "polish": """a aby ale bardzo bez bo by był była było były być co czy dla do gdy gdzie go i ich ile im
            innych ja
            jak jako je jednak jego jej jest jeszcze już kiedy kto która które którego który których lub ma mi
            mnie może
            na nad nie niej o od on ona one oni oraz po pod przed przez przy się są ta tak także tam te tego tej ten to
            tu tym u w we wszystko z za ze że""",
    }.items()
}
"""Common words by language; the names are those of the Snowball stemmers, where there is one."""

_SCRIPTS = {
    "cyrillic": re.compile("[\u0400-\u04ff]"),
    "greek": re.compile("[\u0370-\u03ff]"),
    "arabic": re.compile("[\u0600-\u06ff]"),
    "hindi": re.compile("[\u0900-\u097f]"),
}
_WORD = re.compile(r"[^\W\d_]+")
_ENDINGS = {"ll", "re", "ve"}
"""What stands behind an apostrophe in English; in others these are words."""
_LETTERS = {"turkish": re.compile("[ğıİ]"), "german": re.compile("ß"), "polish": re.compile("[łąę]")}
"""Letters that no other of these languages has; by one in a hundred a text without common words is told."""
_LOOKED_AT = 20_000


def language_of(text: str) -> str:
    """The language of a text, by its script and its most common words; English where nothing tells."""
    return told_by(text) or "english"


def told_by(text: str) -> str | None:
    """The language that a text tells by its script or its most common words."""
    return _told_by(text[:_LOOKED_AT])


@lru_cache(maxsize=64)
def _told_by(text: str) -> str | None:
    text = unicodedata.normalize("NFC", text)
    for script, sign in _SCRIPTS.items():
        if 3 * len(sign.findall(text)) > len(text):
            return "russian" if script == "cyrillic" else script
    words = Counter(_WORD.findall(text.lower()))
    hits = {name: sum(words[w] for w in known if len(w) > 1) for name, known in FUNCTION_WORDS.items()}
    hits["english"] -= sum(words[w] for w in _ENDINGS)
    best = max(hits, key=lambda name: (hits[name], name == "english"))
    # One word alone may be another language's: "sea" is Spanish too.
    several = sum(w in FUNCTION_WORDS[best] for w in words if len(w) > 1) > 1
    if several and hits[best] > 1.2 * hits["english"]:
        return best
    if hits["english"]:
        return "english"
    return next((name for name, letter in _LETTERS.items() if 100 * len(letter.findall(text)) > len(text)), None)
