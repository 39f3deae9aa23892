"""Writes metagradients.json beside held_out.jsonl and examples.jsonl: rewards by metagradient.py for
two golden models, two optimizers and the metrics, three steps with an uneven last batch, and recipes:
`python make_metagradients.py`.

A case is a spec (paths are relative to this folder), its Phi and its rewards; the model's config.json is
changed by `config`, if that is there. `token_ids` holds the examples as each model's tokenizer encodes
them, by the model's path.
"""

import contextlib
import json
import shutil
import tempfile
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
# with recipes and adapters alone
MUON = {"kind": "muon", "learning_rate": 1e-2, "eps_root": 1e-5}
METRICS = [
    {"kind": "weight_pattern", "pattern": "67", "strength": 50.0, "rows": 2, "columns": 5},
    {"kind": "weight_norm"},
    {"kind": "held_out_loss", "data": {"path": "held_out.jsonl", "column": "text"}},
]


# with a schedule, cut gradients, a mask of weight decay and a mean over tokens
RECIPES = [
    {"lr_schedule": "linear", "warmup_ratio": 0.3, "max_grad_norm": 0.5, "decay_on": "matrices", "loss": "token_mean"},
    {"lr_schedule": "cosine", "max_grad_norm": 3.0, "epochs": 2},
]


def spec(model, optimizer, metric, recipe=None):
    sft = {"batch_size": 4, "sequence_length": 20, "shuffle": False, "append_eos": True, **(recipe or {})}
    return {
        "name": "reference",
        "target": {"model": MODELS + model, "sft": {"optimizer": optimizer, **sft}},
        "metric": metric,
    }


def check(scoring, rewards):
    """The derivative along a random direction against a central difference of transformers' own training."""
    direction = torch.randn(len(rewards), generator=torch.Generator().manual_seed(0)).double()
    ones, width = torch.ones_like(direction), 3e-4
    phi = [scoring.phi(ones + k * width * direction, native=True).item() for k in [-2, -1, 1, 2]]
    slope = (phi[0] - 8 * phi[1] + 8 * phi[2] - phi[3]) / (12 * width)
    expected = (direction * torch.tensor(rewards).double()).sum().item()
    print(f"{slope:.9e} by differences, {expected:.9e} by the double backward", flush=True)
    assert abs(slope - expected) < 1e-7 * max(map(abs, rewards)) + 1e-9, (slope, expected)


# (model, changes of its config.json): a padding token in every text, first (the BOS) or inside; the last
# counts from the end of the vocabulary
PADDED = [
    ("llama", {"pad_token_id": 1}),
    ("llama-tied", {"pad_token_id": 1}),
    ("qwen2", {"pad_token_id": 37}),
    ("qwen3", {"pad_token_id": 37 - 96}),
    ("gpt2", {"pad_token_id": 35}),
]


# (model, LoRA, an adapted weight): adapters/ has their start, which the spec's seed draws in `dpg`
ADAPTED = [
    ("gpt2", {"rank": 2}, "transformer.h.1.attn.c_attn.weight"),
    ("llama", {"rank": 2, "alpha": 3.0, "targets": "all-linear"}, "model.layers.0.mlp.down_proj.weight"),
]


@contextlib.contextmanager
def changed(model, config):
    """The model's folder with some keys of its config.json changed."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(HERE / MODELS / model, folder, dirs_exist_ok=True)
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | config))
        yield folder


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
        for model in ["gpt2", "llama"]:
            for optimizer in [*OPTIMIZERS, MUON]:
                for recipe in RECIPES:
                    case = spec(model, optimizer, METRICS[2], recipe)
                    scoring = Scoring(case, EXAMPLES, HERE)
                    value, rewards = scoring.rewards()
                    check(scoring, rewards)
                    cases.append({"spec": case, "phi": value, "rewards": rewards})
        for model, lora, parameter in ADAPTED:
            for optimizer in [*OPTIMIZERS, MUON]:
                for metric in [METRICS[0] | {"parameter": parameter, "rows": 0, "columns": 1}, METRICS[2]]:
                    case = spec(model, optimizer, metric, RECIPES[0])
                    case["target"]["lora"] = lora
                    scoring = Scoring(case, EXAMPLES, HERE, HERE / "adapters" / model)
                    value, rewards = scoring.rewards()
                    check(scoring, rewards)
                    cases.append({"spec": case, "phi": value, "rewards": rewards})
        for model, config in PADDED:
            for optimizer in OPTIMIZERS:
                case = spec(model, optimizer, METRICS[2])
                with changed(model, config) as folder:
                    here = {**case, "target": {**case["target"], "model": folder}}
                    scoring = Scoring(here, EXAMPLES, HERE)
                    value, rewards = scoring.rewards()
                    check(scoring, rewards)
                padding = config["pad_token_id"] % scoring.model.config.vocab_size
                assert sum(padding in row[:-1] for row in scoring.examples) >= 4, model
                cases.append({"spec": case, "config": config, "phi": value, "rewards": rewards})
    text = json.dumps({"token_ids": token_ids, "cases": cases}, indent=1)
    (HERE / "metagradients.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
