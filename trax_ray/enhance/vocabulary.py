"""Small closed lists of words that the gates know: fillers, negations, and words that no name begins with."""

from __future__ import annotations

from collections.abc import Sequence

from trax_ray.enhance.tokens import Token

__all__ = ["hesitations", "is_common", "is_measure", "is_modal", "is_negation", "is_title", "negates"]

_TITLE_WORDS = (
    "mister mr mrs miss ms doctor dr professor sir lady lord captain king queen saint san santa herr frau doktor"
    " monsieur madame mademoiselle señor señora don doña signor signora"
)
_TITLES = frozenset(_TITLE_WORDS.split())

_FILLERS = {
    "en": "um umm uh uhh uhm er erm hmm hm mm ah",
    "de": "\u00e4h \u00e4hm \u00f6h \u00f6hm hm hmm",
    "fr": "euh heu hum hmm",
    "es": "eh em mmm",
}
_ANY_FILLERS = "uhm hmm erm \u00e4hm euh"
_ANSWERS = frozenset("uh huh mm hmm hm mhm".split())  # noqa: SIM905
"""Two of these in a row are an answer: `uh huh` and `mm hmm` say yes, `uh uh` says no."""

_NEGATIONS = {
    "en": "not no never none nobody nothing nowhere neither nor without cannot hardly scarcely barely unless non except"
    " few little fail fails failed deny denies denied refuse refuses refused lack lacks",
    "de": "nicht kein keine keinen keinem keiner keines nie niemals niemand niemanden niemandem nichts nirgends weder"
    " noch ohne kaum au\u00dfer nein",
    "fr": "ne n' pas jamais rien personne aucun aucune nul nulle ni sans non gu\u00e8re sauf",
    "es": "no nunca jam\u00e1s nada nadie ning\u00fan ninguno ninguna tampoco ni sin apenas excepto salvo",
    "it": "non no mai niente nulla nessuno nessuna n\u00e9 senza neanche",
    "pt": "n\u00e3o nunca jamais nada ningu\u00e9m nenhum nenhuma nem sem tampouco",
    "nl": "niet geen nooit niemand niets nergens noch zonder nee",
}
_PREFIXES = {
    "en": ("un", "in", "im", "il", "ir", "dis", "non", "mis", "de", "anti", "under", "over"),
    "de": ("un", "miss", "in", "ent", "nicht"),
    "fr": ("in", "im", "il", "ir", "d\u00e9", "mal", "non", "m\u00e9"),
    "es": ("in", "im", "i", "des", "no", "anti"),
}
_OPPOSED_STARTS = (
    ("in", "de"), ("in", "ex"), ("im", "ex"), ("in", "out"), ("as", "des"), ("at", "de"), ("hyper", "hypo"),
    ("over", "under"), ("up", "down"), ("pre", "post"), ("inter", "intra"), ("pro", "anti"), ("maxi", "mini"),
    ("macro", "micro"), ("inner", "outer"), ("sub", "super"), ("e", "im"), ("en", "dis"), ("con", "dis"),
)  # fmt: skip
_OPPOSED_ENDS = (("er", "ee"), ("or", "ee"))
_OPPOSED = {("dessus", "dessous"), ("ancestor", "descendant"), ("prefix", "suffix")}
_MODAL_WORDS = (
    "can could may might must shall should will would kann k\u00f6nnte muss m\u00fcsste soll sollte will w\u00fcrde"
    " wird darf d\u00fcrfte mag m\u00f6chte"
)
_MODALS = frozenset(_MODAL_WORDS.split())
_MEASURE_WORDS = {
    "en": (
        "metre metres meter meters litre litres liter liters gram grams kilogram kilograms kilo kilos milligram"
        " milligrams microgram micrograms millimetre millimetres millimeter millimeters centimetre centimetres"
        " centimeter centimeters kilometre kilometres kilometer kilometers ton tons tonne tonnes mile miles foot feet"
        " inch inches yard yards ounce ounces pint pints gallon gallons second seconds minute minutes hour hours day"
        " days week weeks month months year years decade decades century centuries degree degrees percent dollar"
        " dollars euro euros pound pounds cent cents volt volts watt watts"
        " monday tuesday wednesday thursday friday saturday sunday"
        " january february march april june july august september october november december"
    ),
    "de": (
        "meter liter gramm kilogramm kilo milligramm mikrogramm millimeter zentimeter kilometer tonne tonnen meile"
        " meilen sekunde sekunden minute minuten stunde stunden tag tage tagen woche wochen monat monate monaten jahr"
        " jahre jahren grad prozent euro franken cent"
        " montag dienstag mittwoch donnerstag freitag samstag sonntag"
        " januar februar m\u00e4rz april mai juni juli august september oktober november dezember"
    ),
    "fr": (
        "m\u00e8tre m\u00e8tres litre litres gramme grammes kilogramme kilogrammes kilo kilos milligramme milligrammes"
        " millim\u00e8tre millim\u00e8tres centim\u00e8tre centim\u00e8tres kilom\u00e8tre kilom\u00e8tres tonne"
        " tonnes seconde secondes minute minutes heure heures jour jours semaine semaines mois an ans ann\u00e9e"
        " ann\u00e9es euro euros centime centimes lundi mardi mercredi jeudi vendredi samedi dimanche"
        " janvier f\u00e9vrier mars avril mai juin juillet ao\u00fbt septembre octobre novembre d\u00e9cembre"
    ),
    "es": (
        "metro metros litro litros gramo gramos kilogramo kilogramos kilo kilos miligramo miligramos mil\u00edmetro"
        " mil\u00edmetros cent\u00edmetro cent\u00edmetros kil\u00f3metro kil\u00f3metros tonelada toneladas segundo"
        " segundos minuto minutos hora horas d\u00eda d\u00edas semana semanas mes meses a\u00f1o a\u00f1os euro euros"
        " c\u00e9ntimo c\u00e9ntimos lunes martes mi\u00e9rcoles jueves viernes s\u00e1bado domingo"
        " enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"
    ),
}
_MEASURES = {code: frozenset(words.split()) for code, words in _MEASURE_WORDS.items()}
_NOT_NAMES = (
    # English, German, French, Spanish
    "i i'm i've i'll i'd a an the this that these those he she it we you they me him her us them my your his its"
    " our their mine yours one ones who what which when where why how whose if unless until whether although though"
    " because since while as so but and or nor yet for of in on at by with without from to into onto over under"
    " above below after before about against between through during then than there here now not no never nobody"
    " nothing none every everybody everyone everything each some somebody something any anybody anything all both"
    " few many much more most several other another such same only just even also too very really well yes okay"
    " please thank thanks good is are was were be been am do does did have has had can could will would shall"
    " should may might must let's it's that's there's he's she's we're they're you're don't doesn't didn't can't"
    " won't isn't aren't wasn't weren't maybe perhaps today yesterday tomorrow last next first second once again"
    " always often sometimes soon later however therefore tickets hello hi hey oh ich du er sie es wir ihr mein"
    " dein sein unser der die das den dem des ein eine einen einem einer eines und oder aber denn weil wenn als ob"
    " dass wie wer wo wann warum nicht kein keine nie im zum zur auf aus bei mit nach von vor zu um für gegen ohne"
    " durch über unter hier dort da jetzt dann heute gestern morgen ja nein auch noch schon sehr guten je tu il"
    " elle nous vous ils elles le la les un une de et ou mais donc car si que qui quoi où quand comment pourquoi"
    " ne pas jamais personne ce cet cette ces mon ton son notre votre leur c'est y dans sur sous avec sans pour"
    " par chez en à au aux oui non bien bonjour bonsoir monsieur madame yo tú él ella nosotros vosotros ellos"
    " ellas el los las unos unas o pero porque cuando donde cómo qué quién nunca ni sin con por para del al su sus"
    " mi mis este esta estos estas sí buenas buenos señor señora"
)
_COMMON = frozenset(_NOT_NAMES.split())


def _code(language: str | None) -> str:
    return (language or "").partition("-")[0].lower()


def hesitations(words: Sequence[Token], start: int, end: int, language: str | None) -> tuple[Token, ...]:
    """The words of a passage without sounds of hesitation.

    Without a known language without those that mean nothing anywhere (`um` is German). What is in capitals is a word
    (`ER`), and two in a row may be an answer.

    Args:
        words: All of a text.
        start: Where the passage begins.
        end: Behind its last word.
        language: ISO 639-1 code; None where nobody knows.
    """
    known = frozenset(_FILLERS.get(_code(language), _ANY_FILLERS).split())

    def says_something(at: int) -> bool:
        word = words[at]
        if word.key not in known or (word.text.isupper() and len(word.text) > 1):
            return True
        beside = [words[other].key for other in (at - 1, at + 1) if 0 <= other < len(words)]
        return word.key in _ANSWERS and any(key in _ANSWERS for key in beside)

    return tuple(words[at] for at in range(start, end) if says_something(at))


def is_negation(key: str, language: str | None) -> bool:
    """Whether a word denies; without a known language, in any of those that are known."""
    code = _code(language)
    if code in ("", "en") and (key.endswith("n't") or key in ("aint", "cant", "dont", "wont")):
        return True
    if code == "fr" and key.startswith("n'"):
        return True
    known = [_NEGATIONS[code]] if code in _NEGATIONS else _NEGATIONS.values()
    return any(key in words.split() for words in known)


def negates(first: str, second: str, language: str | None) -> bool:
    """Whether one word is the other turned round by a syllable.

    `likely` and `unlikely`, `useful` and `useless`, `increase` and `decrease`, `employer` and `employee`.
    """
    code = _code(language)
    known = [_PREFIXES[code]] if code in _PREFIXES else _PREFIXES.values()
    if code in ("fr", "it"):
        # `l'inverse`: the article is no part of the word.
        first, second = (word.rpartition("'")[2] or word for word in (first, second))
    short, long = sorted((first, second), key=len)
    if len(short) >= 3 and any(long == prefix + short for prefixes in known for prefix in prefixes):
        return True
    if _turned(first, second) or _turned(second, first):
        return True
    ends = {first[-4:], second[-4:]} & {"less"} and {first[-3:], second[-3:]} & {"ful"}
    return bool(ends) and first[:3] == second[:3]


def _turned(first: str, second: str) -> bool:
    for one, other in _OPPOSED_STARTS:
        rest = first[len(one) :]
        if len(rest) >= 3 and first.startswith(one) and second == other + rest:
            return True
    for one, other in _OPPOSED_ENDS:
        stem = first[: -len(one)]
        if len(stem) >= 3 and first.endswith(one) and second == stem + other:
            return True
    return (first, second) in _OPPOSED


def is_measure(key: str, language: str | None) -> bool:
    """Whether a word is a unit, a day of the week or a month; without a known language, in any of those known."""
    code = _code(language)
    known = [_MEASURES[code]] if code in _MEASURES else _MEASURES.values()
    return any(key in words for words in known)


def is_modal(key: str) -> bool:
    """Whether a verb says how far another one holds: `could`, `should`."""
    return key in _MODALS


def is_title(key: str) -> bool:
    """Whether what follows a word is a name, also where nothing has capitals."""
    return key in _TITLES


def is_common(key: str) -> bool:
    """Whether a word that begins a sentence is certainly no name."""
    return key in _COMMON
