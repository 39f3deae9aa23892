"""Metagradient rewards of a dataset by double backward in float64: what `dpg score` must equal.

    python metagradient.py SPEC --data FILE.jsonl [--out FILE.json] [--against SCORED.parquet]

SPEC is a target spec (TOML or JSON) of which [target] and [metric] are read; FILE.jsonl has a
`text` in every line. The fine-tuning run is written out, step by step, as one differentiable
function of the examples' weights w, and PyTorch differentiates the metric through all of it at
w = 1. Nothing here is meant to be fast. SCORED.parquet is what `dpg score` wrote; the relative distance of its
rewards is printed.

A model whose embedding has a `padding_idx` (Llama and Qwen with a `pad_token_id`) is trained without
what comes back to that row from its lookups. PyTorch would leave it out of the outer derivative too,
which is then not the derivative of this training: the row may move, by a tied head, and count.
"""

import argparse
import json
import math
import tomllib
from pathlib import Path

import torch
from pyarrow import parquet
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy, softplus
from torch.optim import _muon as torch_muon
from transformers import PreTrainedTokenizerFast, Trainer, get_scheduler
from transformers.pytorch_utils import Conv1D

from float64 import float64, load

BITMAPS = {
    "67": [
        ".##.###",
        "#.....#",
        "###...#",
        "#.#..#.",
        "#.#..#.",
        "###..#.",
    ],
}
SFT = {
    "optimizer": {"kind": "adamw"},
    "batch_size": 1024,
    "epochs": 1,
    "sequence_length": 128,
    "loss_on": "all",
    "shuffle": True,
    "append_eos": True,
    "loss": "example_mean",
    "lr_schedule": "constant",
    "warmup_steps": 0,
    "warmup_ratio": 0.0,
    "max_grad_norm": 0.0,
    "decay_on": "all",
}
ADAMW = {"learning_rate": 5e-6, "betas": [0.9, 0.95], "eps": 1e-8, "eps_root": 1e-9, "weight_decay": 1e-4}
MUON = ADAMW | {"learning_rate": 1e-3, "momentum": 0.95, "weight_decay": 0.1}


def encode(tokenizer, text, sequence_length, append_eos):
    """Token ids of one example, cut to `sequence_length`."""
    ids = tokenizer(text)["input_ids"]
    if append_eos and ids[-1:] != [tokenizer.eos_token_id]:
        ids = ids + [tokenizer.eos_token_id]
    return ids[:sequence_length]


def embedding(model):
    """Name of the embedding table."""
    return next(name for name, p in model.named_parameters() if p is model.get_input_embeddings().weight)


LORA = {"gpt2": ["c_attn"], "llama": ["q_proj", "v_proj"]}


def adapt(model, lora, adapters):
    """Puts LoRA adapters upon a model, as `lora` of a spec says; returns them at their start."""
    rank = lora.get("rank", 8)
    model.scale = lora.get("alpha", 8.0) / rank
    linear = (torch.nn.Linear, Conv1D)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, linear) and m is not model.get_output_embeddings()}
    targets = lora.get("targets", LORA[model.config.model_type])
    model.adapted = {n: m for n, m in layers.items() if targets == "all-linear" or n.split(".")[-1] in targets}
    start = {name: tensor.double() for name, tensor in load_file(adapters / "adapter_model.safetensors").items()}
    assert len(start) == 2 * len(model.adapted)
    return start


def merged(model, theta):
    """The model's own parameters: `theta` itself, unless it holds adapters."""
    if not hasattr(model, "adapted"):
        return theta
    whole = {name: p.detach() for name, p in model.named_parameters()}
    for name, module in model.adapted.items():
        a, b = (theta[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
        change = model.scale * (b @ a)
        whole[f"{name}.weight"] = whole[f"{name}.weight"] + (change.T if isinstance(module, Conv1D) else change)
    return whole


def losses(model, theta, rows, frozen=None, native=False):
    """Mean cross-entropy of each row's own predicted tokens, [rows]. The padding row is looked up in
    the table `frozen`, if that is given; with `native` the model does the lookups itself."""
    if any(len(row) < 2 for row in rows):
        raise ValueError("an example of fewer than two tokens predicts nothing")
    theta = merged(model, theta)
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    counts = torch.tensor([[float(t < len(row)) for t in range(1, longest)] for row in rows])
    counts = counts.to(torch.float64)
    inputs = {"input_ids": tokens}
    if not native:
        found = theta[embedding(model)][tokens]
        padding = getattr(model.get_input_embeddings(), "padding_idx", None)
        if padding is not None and frozen is not None:
            found = torch.where((tokens == padding)[..., None], frozen[tokens], found)
        inputs = {"inputs_embeds": found}
    # a causal model does not see the padding that follows
    logits = torch.func.functional_call(model, theta, (), {**inputs, "use_cache": False}).logits
    each = cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return (each * counts).sum(1) / counts.sum(1)


def sgd(theta, gradient, state, step, decayed, learning_rate, weight_decay=0.0):
    decay = {name: weight_decay * (name in decayed) for name in theta}
    return {name: p - learning_rate * (gradient[name] + decay[name] * p) for name, p in theta.items()}, state


def adamw(theta, gradient, state, step, decayed, learning_rate, betas, eps, eps_root, weight_decay):
    """`step` counts from 1; weight decay acts on the names `decayed`."""
    b1, b2 = betas
    state = state or {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in theta.items()}
    new_theta, new_state = {}, {}
    for name, p in theta.items():
        g, (m, v) = gradient[name], state[name]
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        m_hat, v_hat = m / (1 - b1**step), v / (1 - b2**step)
        update = m_hat / ((v_hat + eps_root).sqrt() + eps)
        decay = weight_decay * (name in decayed)
        new_theta[name], new_state[name] = p - learning_rate * (update + decay * p), (m, v)
    return new_theta, new_state


NEWTON_SCHULZ = {"ns_coefficients": (3.4445, -4.775, 2.0315), "ns_steps": 5, "eps": 1e-7}


def orthogonal(matrix):
    """What PyTorch's Muon makes of a matrix; its own function divides in place, which has no derivative."""
    (a, b, c), turned = NEWTON_SCHULZ["ns_coefficients"], matrix.shape[0] > matrix.shape[1]
    x = matrix.T if turned else matrix
    x = x / x.norm().clamp(min=NEWTON_SCHULZ["eps"])
    for _ in range(NEWTON_SCHULZ["ns_steps"]):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.T if turned else x
    expected = torch_muon._zeropower_via_newtonschulz(matrix.detach(), **NEWTON_SCHULZ)
    assert torch.allclose(x.detach(), expected, rtol=1e-12, atol=1e-12)
    return x


def muon(theta, gradient, state, step, decayed, momentum, hidden, **rest):
    """For the names `hidden`; `adamw` for the others."""
    others = {name: p for name, p in theta.items() if name not in hidden}
    buffers, others_state = state or ({name: torch.zeros_like(theta[name]) for name in hidden}, None)
    new_theta, others_state = adamw(others, gradient, others_state, step, decayed, **rest)
    new_buffers = {}
    for name in hidden:
        p, g = theta[name], gradient[name]
        m = new_buffers[name] = torch.lerp(buffers[name], g, 1 - momentum)
        update = orthogonal(torch.lerp(g, m, momentum))
        rate = torch_muon._adjust_lr(rest["learning_rate"], "match_rms_adamw", p.shape)
        new_theta[name] = p * (1 - rest["learning_rate"] * rest["weight_decay"]) - rate * update
    return {name: new_theta[name] for name in theta}, (new_buffers, others_state)


def hidden_weights(model, theta):
    """Names of the weights of linear layers but the head; of adapters, all."""
    if hasattr(model, "adapted"):
        return list(theta)
    head = model.get_output_embeddings()
    linear = (torch.nn.Linear, Conv1D)
    modules = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, linear) and module is not head}
    return [name for name in theta if name in modules]


def rates(sft, steps):
    """What transformers' scheduler multiplies the learning rate of every step by."""
    name = "constant_with_warmup" if sft["lr_schedule"] == "constant" else sft["lr_schedule"]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    warmup = sft["warmup_steps"] or math.ceil(steps * sft["warmup_ratio"])
    scheduler = get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    found = []
    for _ in range(steps):
        found += scheduler.get_last_lr()
        optimizer.step()
        scheduler.step()
    return found


def cut(gradients, largest):
    """As torch.nn.utils.clip_grad_norm_, differentiable."""
    if largest == 0:
        return gradients
    norm = sum((g**2).sum() for g in gradients).sqrt()
    return [g * torch.clamp(largest / (norm + 1e-6), max=1.0) for g in gradients]


def fine_tune(model, theta, examples, w, sft, native=False):
    """Parameters after training on `examples` weighted by `w`, in file order. `native` takes the steps
    that transformers takes, which must be the same, and whose derivative is not exact."""
    settings = dict(sft["optimizer"])
    kind = settings.pop("kind")
    if kind == "sgd":
        optimizer = sgd
    elif kind == "adamw":
        optimizer, settings = adamw, ADAMW | settings
    else:
        optimizer, settings = muon, MUON | settings | {"hidden": hidden_weights(model, theta)}
    rate = settings.pop("learning_rate")
    decayed = theta if sft["decay_on"] == "all" or hasattr(model, "adapted") else Trainer.get_decay_parameter_names(None, model)
    state, step, size = None, 0, sft["batch_size"]
    factors = rates(sft, sft["epochs"] * math.ceil(len(examples) / size))
    for _ in range(sft["epochs"]):
        for start in range(0, len(examples), size):
            step += 1
            batch = examples[start : start + size]
            # other names for the same values: the gradient is asked of the first alone, while an outer
            # derivative goes on through both
            moved = {name: p * 1.0 for name, p in theta.items()}
            frozen = merged(model, theta)[embedding(model)] * 1.0
            each = losses(model, moved, batch, frozen, native)
            weighted = w[start : start + size] * each
            if sft["loss"] == "token_mean":
                # transformers divides by the labels, of which the first of a text is predicted by nothing
                loss = (weighted * torch.tensor([len(row) - 1.0 for row in batch])).sum() / sum(map(len, batch))
            else:
                loss = weighted.sum() / len(batch)
            gradients = torch.autograd.grad(loss, list(moved.values()), create_graph=True)
            gradient = dict(zip(theta, cut(gradients, sft["max_grad_norm"])))
            theta, state = optimizer(
                theta, gradient, state, step, decayed, learning_rate=rate * factors[step - 1], **settings
            )
    return theta


def parameter(model, theta, name):
    """A parameter by name; `lm_head` is [hidden, vocab], tied or not."""
    theta = merged(model, theta)
    if name != "lm_head":
        return theta[name]
    head = model.get_output_embeddings().weight
    return next(theta[key] for key, value in model.named_parameters() if value is head).T


def bitmap(pattern, folder):
    """Signs S [rows, columns]: +1 where the bitmap is set."""
    if isinstance(pattern, str):
        rows = [[1.0 if pixel == "#" else -1.0 for pixel in row] for row in BITMAPS[pattern]]
        return torch.tensor(rows, dtype=torch.float64)
    import numpy
    from PIL import Image

    dark = numpy.array(Image.open(folder / pattern["image"]).convert("L")) < 128
    return torch.where(torch.from_numpy(dark), 1.0, -1.0).double()


def phi(metric, model, theta, initial, folder, tokenizer, sft):
    """The metric, higher is better."""
    kind = metric["kind"]
    if kind == "sum":
        terms = metric["terms"]
        return sum(
            term["weight"] * phi(term["metric"], model, theta, initial, folder, tokenizer, sft)
            for term in terms
        )
    if kind == "weight_norm":
        names = metric.get("parameter", "lm_head")
        names = [names] if isinstance(names, str) else names
        return -torch.cat([parameter(model, theta, name).flatten() for name in names]).norm()
    if kind == "weight_pattern":
        signs = bitmap(metric["pattern"], folder)
        name, row, column = (metric.get(k, d) for k, d in [("parameter", "lm_head"), ("rows", 0), ("columns", 0)])
        patch = (slice(row, row + signs.shape[0]), slice(column, column + signs.shape[1]))
        moved = (parameter(model, theta, name) - parameter(model, initial, name))[patch]
        assert moved.shape == signs.shape, "the patch does not fit the parameter"
        return -softplus(-metric.get("strength", 20.0) * signs * moved, threshold=1e9).mean()
    if kind == "held_out_loss":
        data = metric["data"]
        length = metric.get("sequence_length", sft["sequence_length"])
        texts = read_jsonl(folder / data["path"], data["column"])[: data.get("limit")]
        rows = [encode(tokenizer, text, 10**9, metric.get("append_eos", False)) for text in texts]
        assert all(len(row) <= length for row in rows), "a held-out example would be cut"
        return -losses(model, theta, rows).mean()
    raise ValueError(f"no such metric: {kind}")


def read_jsonl(path, column):
    return [json.loads(line)[column] for line in path.read_text().splitlines() if line.strip()]


class Scoring:
    """One spec and one dataset: the metric as a function of the examples' weights."""

    def __init__(self, spec, texts, folder, adapters=None):
        self.metric, self.folder = spec["metric"], folder
        self.sft = SFT | spec["target"].get("sft", {})
        assert not self.sft["shuffle"] and self.sft["loss_on"] == "all", "file order and whole texts only"
        path = folder / spec["target"]["model"]
        self.model = load(path)
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
        self.initial = {name: p.detach() for name, p in self.model.named_parameters()}
        if lora := spec["target"].get("lora"):
            self.initial = adapt(self.model, lora, adapters)
        length, eos = self.sft["sequence_length"], self.sft["append_eos"]
        self.examples = [encode(self.tokenizer, text, length, eos) for text in texts]

    def phi(self, w, native=False):
        theta = {name: p.clone().requires_grad_() for name, p in self.initial.items()}
        theta = fine_tune(self.model, theta, self.examples, w, self.sft, native)
        return phi(self.metric, self.model, theta, self.initial, self.folder, self.tokenizer, self.sft)

    def rewards(self):
        """Phi, and dPhi/dw_i at w = 1 for every example."""
        w = torch.ones(len(self.examples), dtype=torch.float64, requires_grad=True)
        value = self.phi(w)
        (gradient,) = torch.autograd.grad(value, w)
        return value.item(), gradient.tolist()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("spec", type=Path)
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--out", type=Path)
    arguments.add_argument("--against", type=Path)
    arguments = arguments.parse_args()
    parse = json.loads if arguments.spec.suffix == ".json" else tomllib.loads
    with float64():
        texts = read_jsonl(arguments.data, "text")
        value, rewards = Scoring(parse(arguments.spec.read_text()), texts, arguments.spec.parent).rewards()
    text = json.dumps({"phi": value, "rewards": rewards}, indent=1)
    arguments.out.write_text(text + "\n") if arguments.out else print(text)
    if arguments.against:
        scored = torch.tensor(parquet.read_table(arguments.against)["reward"].to_pylist(), dtype=torch.float64)
        exact = torch.tensor(rewards, dtype=torch.float64)
        print(f"relative distance {(scored - exact).norm() / exact.norm():.1e}")


if __name__ == "__main__":
    main()
