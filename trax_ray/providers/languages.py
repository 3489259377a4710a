"""Names of languages as servers write them, and the codes that everything else here uses. Nothing heavy is imported."""

from __future__ import annotations

__all__ = ["CODES", "code_of"]

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
