"""Names of languages as people and servers write them, and the codes that everything else here uses. Nothing heavy is
imported."""

from __future__ import annotations

import difflib
import re

from trax_ray.errors import UsageError

__all__ = ["CODES", "code_of", "front_of", "read_language"]

_NAMES = """
af afrikaans, am amharic, ar arabic, as assamese, az azerbaijani, ba bashkir, be belarusian, bg bulgarian, bn bengali,
bo tibetan, br breton, bs bosnian, ca catalan, cs czech, cy welsh, da danish, de german, el greek, en english,
es spanish, et estonian, eu basque, fa persian, fi finnish, fo faroese, fr french, gl galician, gu gujarati, ha hausa,
haw hawaiian, he hebrew, hi hindi, hr croatian, ht haitian creole, hu hungarian, hy armenian, id indonesian,
is icelandic, it italian, ja japanese, jw javanese, ka georgian, kk kazakh, km khmer, kn kannada, ko korean, la latin,
lb luxembourgish, ln lingala, lo lao, lt lithuanian, lv latvian, mg malagasy, mi maori, mk macedonian, ml malayalam,
mn mongolian, mr marathi, ms malay, mt maltese, my myanmar, ne nepali, nl dutch, nn nynorsk, no norwegian, oc occitan,
pa punjabi, pl polish, ps pashto, pt portuguese, ro romanian, ru russian, sa sanskrit, sd sindhi, si sinhala, sk slovak,
sl slovenian, sn shona, so somali, sq albanian, sr serbian, su sundanese, sv swedish, sw swahili, ta tamil, te telugu,
tg tajik, th thai, tk turkmen, tl tagalog, tr turkish, tt tatar, uk ukrainian, ur urdu, uz uzbek, vi vietnamese,
yi yiddish, yo yoruba, yue cantonese, zh chinese
"""

CODES = {name: code for code, _, name in (entry.strip().partition(" ") for entry in _NAMES.split(","))}
"""Code by name. Source: `LANGUAGES` of openai/whisper, tokenizer.py: what `verbose_json` names."""

_OTHER = """
aa ab ae ak an av ay bh bi bm ce ch co cr cu cv dv dz ee eo ff fj fy ga gd gn gv ho hz ia ie ig ii ik io iu jv kg ki kj
kl kr ks ku kv kw ky li lu mh na nb nd ng nr nv ny oj om or os pi qu rm rn rw sc se sg sm ss st tn to ts tw ty ug ve vo
wa wo xh za zu
"""
_OTHER_CODES = frozenset(_OTHER.split())
"""ISO 639-1 codes of languages that Whisper doesn't know and other models may."""

_DETECT = ("auto", "detect")


def front_of(language: str) -> str:
    """The language of a code, without country or script, in small letters: `en` of `en-GB`."""
    return re.split("[-_]", language.strip().lower())[0]


def read_language(given: str) -> str | None:
    """The language that somebody asks for, by its code or its English name.

    Args:
        given: `de`, `DE`, `de-AT`, `German`; `auto` to have it detected.

    Returns:
        Its code; as it was given where it was given as a code. None where it is to be detected.

    Raises:
        UsageError: There is no such language; the message lacks only who asks.
    """
    said = given.strip()
    name = " ".join(said.lower().split())
    if name in _DETECT:
        return None
    if name in CODES:
        return CODES[name]
    front = front_of(said)
    if front in _OTHER_CODES or front in CODES.values() or (len(front) == 3 and front.isascii() and front.isalpha()):
        return said
    like = difflib.get_close_matches(name, CODES, 1)
    meant = f" (is {like[0]} meant?)" if like else ""
    raise UsageError(
        f"expected the code of a language such as de, or its name such as German, got {given!r:.80}{meant}"
    )


def code_of(language: object) -> str | None:
    """The code of a language that a server names, in whatever way it does.

    Args:
        language: `english`, `EN`, `en-US`, or nothing at all.

    Returns:
        Such as `en`; what isn't known as it was said, in small letters; None where nothing was said, or that it
        isn't known.
    """
    if not isinstance(language, str) or not language.strip():
        return None
    said = language.strip().lower()
    if said in ("unknown", "auto", "und", "none"):
        return None
    front = said.replace("_", "-").partition("-")[0]
    return CODES.get(said) or (front if 2 <= len(front) <= 3 else said)
