"""Writes trax_ray/enhance/pronunciations.txt.gz: `python docs/make_pronunciations.py cmudict.dict`.

The dictionary is that of Carnegie Mellon University, https://github.com/cmusphinx/cmudict; its licence lies beside
what is made of it.
"""

from __future__ import annotations

import gzip
import re
import sys
from collections import defaultdict
from pathlib import Path

from trax_ray.enhance.pronouncing import FILE, PHONES

MOST = 3
"""Pronunciations of one word."""


def compact(dictionary: str) -> str:
    """A line per word: the word, and its pronunciations without stress, a character for each phone."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in dictionary.splitlines():
        word, *phones = line.partition("#")[0].split()
        word = re.sub(r"\(\d+\)$", "", word)
        if re.fullmatch(r"[a-z]+(?:'[a-z]+)*", word):
            said = "".join(PHONES[phone.rstrip("012")] for phone in phones)
            if said not in found[word]:
                found[word].append(said)
    return "".join(f"{word} {' '.join(said[:MOST])}\n" for word, said in sorted(found.items()))


if __name__ == "__main__":
    text = "\n" + compact(Path(sys.argv[1]).read_text("utf-8"))
    FILE.write_bytes(gzip.compress(text.encode("ascii"), mtime=0))
