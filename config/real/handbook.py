"""Writes paragraphs of Debian's handbook, real documentation text, as JSONL: `python handbook.py PACKAGE OUT`.

    apt-get download debian-handbook && dpkg -x debian-handbook_*.deb PACKAGE

OUT gets `articles.jsonl`, 400 English paragraphs of 20 to 70 words, and `held-out.jsonl`, 64 others. The handbook is free
under GPL-2+ or CC-BY-SA-3.0.
"""

import json
import random
import re
import sys
from html.parser import HTMLParser
from pathlib import Path


class Paragraphs(HTMLParser):
    """Collects the text of paragraphs."""

    def __init__(self):
        super().__init__()
        self.found, self.open = [], None

    def handle_starttag(self, tag, attributes):
        if tag == "p" or (tag == "div" and ("class", "para") in attributes):
            self.open = []

    def handle_data(self, data):
        if self.open is not None:
            self.open.append(data)

    def handle_endtag(self, tag):
        if tag in ("p", "div") and self.open is not None:
            self.found.append("".join(self.open))
            self.open = None


def paragraphs(package, edition="en-US"):
    found = []
    for page in sorted((package / "usr/share/doc/debian-handbook/html" / edition).glob("*.html")):
        parser = Paragraphs()
        parser.feed(page.read_text(encoding="utf8"))
        found += [re.sub(r"\s+", " ", text).strip() for text in parser.found]
    return [text for text in dict.fromkeys(found) if 20 <= len(text.split()) <= 70]


def main():
    package, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    texts = paragraphs(package)
    random.Random(0).shuffle(texts)
    for name, part in [("articles", texts[:400]), ("held-out", texts[400:464])]:
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in part]
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf8")


if __name__ == "__main__":
    main()
