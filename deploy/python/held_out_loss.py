"""Minus the loss on held-out texts, as the metric `held_out_loss` has it: the mean over texts of the mean cross-entropy
of a text's tokens after its first.

    dpg score deploy/python/external.toml --data rows.jsonl --out scored.jsonl \\
        --program held-out-loss="python deploy/python/dpg/metric.py deploy/python/held_out_loss.py"
"""

import json
import math

import torch


def phi(model, tokenizer, parameters, files):
    with open(files["texts"], encoding="utf-8") as lines:
        texts = [json.loads(line)[parameters["column"]] for line in lines]
    losses = []
    for text in texts[: parameters.get("limit")]:
        tokens = tokenizer(text, return_tensors="pt").input_ids.to(model.device)
        logits = model(tokens).logits[0, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits, tokens[0, 1:]))
    loss = torch.stack(losses).mean()
    return -loss, {"perplexity": math.exp(loss.item())}
