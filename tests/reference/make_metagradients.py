"""Writes metagradients.json beside held_out.jsonl and examples.jsonl: rewards by metagradient.py for
two golden models, two optimizers and the metrics, three steps with an uneven last batch:
`python make_metagradients.py`.

A case is a spec (paths are relative to this folder), its Phi and its rewards. `token_ids` holds the
examples as each model's tokenizer encodes them, by the model's path.
"""

import json
from pathlib import Path

import torch

from float64 import float64
from metagradient import Scoring

HERE = Path(__file__).parent
MODELS = "../../crates/models/tests/golden/"

EXAMPLES = [
    "the quick brown fox jumps over the lazy dog",
    "a small model reads a small text",
    "what is the time?",
    "the dog sleeps on, and on",
    "el perro duerme en la casa",
    "it is so",
    "more than once, and then the other one is there; this example is longer than the sequence length",
    "la casa es pequeña, ¿no?",
    "think: this and that",
    "0123456789",
    "the text is about the small model",
]
HELD_OUT = ["la casa es pequeña", "el perro es small, ¿no?", "duerme"]

OPTIMIZERS = [
    {
        "kind": "adamw",
        "learning_rate": 1e-2,
        "betas": [0.9, 0.95],
        "eps": 1e-8,
        "eps_root": 1e-5,
        "weight_decay": 1e-2,
    },
    {"kind": "sgd", "learning_rate": 0.1, "weight_decay": 1e-2},
]
METRICS = [
    {"kind": "weight_pattern", "pattern": "67", "strength": 50.0, "rows": 2, "columns": 5},
    {"kind": "weight_norm"},
    {"kind": "held_out_loss", "data": {"path": "held_out.jsonl", "column": "text"}},
]


def spec(model, optimizer, metric):
    sft = {"batch_size": 4, "sequence_length": 20, "shuffle": False, "append_eos": True}
    return {
        "name": "reference",
        "target": {"model": MODELS + model, "sft": {"optimizer": optimizer, **sft}},
        "metric": metric,
    }


def check(scoring, rewards):
    """The derivative along a random direction against a central difference."""
    direction = torch.randn(len(rewards), generator=torch.Generator().manual_seed(0)).double()
    ones, width = torch.ones_like(direction), 1e-5
    difference = scoring.phi(ones + width * direction) - scoring.phi(ones - width * direction)
    slope, expected = difference.item() / (2 * width), (direction * torch.tensor(rewards).double()).sum().item()
    assert abs(slope - expected) < 1e-7 * max(map(abs, rewards)) + 1e-9, (slope, expected)


def main():
    for name, texts in [("examples", EXAMPLES), ("held_out", HELD_OUT)]:
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
        (HERE / f"{name}.jsonl").write_text("".join(lines))
    token_ids, cases = {}, []
    with float64():
        for model in ["gpt2", "gpt2-untied", "llama", "llama-tied"]:
            for optimizer in OPTIMIZERS:
                for metric in METRICS:
                    case = spec(model, optimizer, metric)
                    scoring = Scoring(case, EXAMPLES, HERE)
                    value, rewards = scoring.rewards()
                    check(scoring, rewards)
                    token_ids[MODELS + model] = scoring.examples
                    cases.append({"spec": case, "phi": value, "rewards": rewards})
    text = json.dumps({"token_ids": token_ids, "cases": cases}, indent=1)
    (HERE / "metagradients.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
