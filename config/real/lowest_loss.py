"""Writes the texts of a pool that a model finds likeliest, a usual filter: `python lowest_loss.py MODEL POOL.jsonl OUT.jsonl`.

The 100 rows whose `text`, cut to 64 tokens, has the lowest mean loss under MODEL, a Hugging Face folder; what is in a row
besides stays with it. Needs torch and transformers.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROWS, TOKENS = 100, 64


@torch.no_grad()
def main():
    folder, pool, out = sys.argv[1:]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def loss(row):
        ids = torch.tensor([tokenizer(row["text"])["input_ids"][:TOKENS]])
        return model(input_ids=ids, labels=ids).loss.item()

    rows = [json.loads(line) for line in Path(pool).read_text(encoding="utf8").splitlines()]
    kept = sorted(rows, key=loss)[:ROWS]
    Path(out).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf8")


if __name__ == "__main__":
    main()
