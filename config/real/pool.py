"""Writes a pool of 400 mixed texts as JSONL, to choose from by reward: `python pool.py PACKAGE UNTRAINED.jsonl OUT`.

A quarter each: English paragraphs of Debian's handbook (PACKAGE as for handbook.py, none of them held out), paragraphs of
its German edition, paragraphs of the licences in /usr/share/common-licenses, and texts that a model wrote (UNTRAINED.jsonl,
of `dpg generate`). Each row has its `text` and its `source`; a scoring reads the text alone.
"""

import json
import random
import re
import sys
from pathlib import Path

from handbook import paragraphs

LICENCES = ("Apache-2.0", "Artistic", "CC0-1.0", "GFDL-1.3", "GPL-3", "LGPL-2.1", "MPL-2.0")


def licences():
    found = []
    for name in LICENCES:
        text = (Path("/usr/share/common-licenses") / name).read_text(encoding="utf8")
        found += [re.sub(r"\s+", " ", part).strip() for part in re.split(r"\n\s*\n", text)]
    return [text for text in dict.fromkeys(found) if 20 <= len(text.split()) <= 70]


def shuffled(texts):
    random.Random(0).shuffle(texts)
    return texts


def main():
    package, untrained, out = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    sources = {
        "handbook": shuffled(paragraphs(package))[:400],
        "german": shuffled(paragraphs(package, "de-DE")),
        "licence": shuffled(licences()),
        "model": [json.loads(line)["text"] for line in untrained.read_text(encoding="utf8").splitlines()],
    }
    rows = [{"source": source, "text": text} for source, texts in sources.items() for text in texts[:100]]
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in shuffled(rows)), encoding="utf8")


if __name__ == "__main__":
    main()
