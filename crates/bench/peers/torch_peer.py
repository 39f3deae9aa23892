"""The benchmark's mathematics in PyTorch: a Llama of transformers, AdamW, metagradients of the head's norm.

    python torch_peer.py '{"hidden": 576, "layers": 30, "kv_heads": 3, "inner": 1536, "vocab": 49152, ...}'

Prints one JSON line (device, version, kinds), then answers each line `KIND N` on standard input with the seconds of
one run, or `none` where there is not enough memory for it. Kinds: `plain`, fine-tuning of N
steps with PyTorch's own AdamW; `best`, a metagradient run of N steps: gradients kept, the optimizer's adjoint
in closed form, and one forward-mode pass a step, through which all but the first go back; `sample`, `generate`
of half a sequence for N rows. There is no `naive`: reverse over reverse of this size takes more memory than
most machines have.
"""

import json
import os
import resource
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from torch.func import functional_call, jvp, vjp
from torch.nn.functional import cross_entropy

RATE, BETAS, EPS, EPS_ROOT, DECAY = 5e-6, (0.9, 0.95), 1e-8, 1e-9, 1e-4


def build(shape):
    config = transformers.LlamaConfig(
        vocab_size=shape["vocab"],
        hidden_size=shape["hidden"],
        intermediate_size=shape["inner"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=max(shape["hidden"] // 64, 1),
        num_key_value_heads=shape["kv_heads"],
        max_position_embeddings=max(shape["sequence"], 64),
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    return transformers.LlamaForCausalLM(config).eval()


def losses(model, theta, tokens):
    """Mean cross-entropy of each example, [batch]."""
    logits = functional_call(model, theta, (), {"input_ids": tokens, "use_cache": False}).logits
    each = cross_entropy(logits[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    return each.mean(1)


def plain(model, start, batches):
    model.load_state_dict(start, strict=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)
    for tokens in batches:
        losses(model, dict(model.named_parameters()), tokens).mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def adamw(state, g, n):
    b1, b2 = BETAS
    new = {}
    for name, (theta, m, v) in state.items():
        m, v = b1 * m + (1 - b1) * g[name], b2 * v + (1 - b2) * g[name] ** 2
        d = (v / (1 - b2**n) + EPS_ROOT).sqrt() + EPS
        new[name] = (theta - RATE * (m / (1 - b1**n) / d + DECAY * theta), m, v)
    return new


@torch.no_grad()
def adamw_back(state, g, n, adjoint):
    """The adjoint of the state before a step, and dPhi/dg."""
    b1, b2 = BETAS
    c1, c2 = 1 - b1**n, 1 - b2**n
    before, u = {}, {}
    for name, (_, m, v) in state.items():
        lam, lam_m, lam_v = adjoint[name]
        m, v = b1 * m + (1 - b1) * g[name], b2 * v + (1 - b2) * g[name] ** 2
        r = (v / c2 + EPS_ROOT).sqrt()
        per_d = lam * (RATE / c1) / (r + EPS)
        lam_m = lam_m - per_d
        lam_v = lam_v + per_d * (0.5 / c2) * m / (r + EPS) / r
        u[name] = lam_m * (1 - b1) + lam_v * (2 * (1 - b2)) * g[name]
        before[name] = (lam * (1 - RATE * DECAY), lam_m * b1, lam_v * b2)
    return before, u


def metagradient(model, start, batches):
    zero = {name: torch.zeros_like(p) for name, p in start.items()}
    state = {name: (p, zero[name], zero[name]) for name, p in start.items()}
    states, gradients = [], []
    for n, tokens in enumerate(batches, 1):
        theta = {name: part[0].clone().requires_grad_() for name, part in state.items()}
        found = torch.autograd.grad(losses(model, theta, tokens).mean(), list(theta.values()))
        states.append(state)
        gradients.append(dict(zip(theta, found)))
        state = adamw(state, gradients[-1], n)
    head = "model.embed_tokens.weight"
    end = state[head][0]
    adjoint = {name: (zero[name], zero[name], zero[name]) for name in start}
    adjoint[head] = (-end / end.norm(), zero[head], zero[head])
    rewards = []
    for n, tokens in reversed(list(enumerate(batches, 1))):
        state = states.pop()
        theta = {name: part[0] for name, part in state.items()}
        adjoint, u = adamw_back(state, gradients.pop(), n, adjoint)
        tangents = lambda theta: jvp(lambda theta: losses(model, theta, tokens), (theta,), (u,))[1]
        if n == 1:
            with torch.no_grad():
                rewards.append(tangents(theta))
        else:
            s, back = vjp(tangents, theta)
            (curvature,) = back(torch.full_like(s, 1 / len(s)))
            adjoint = {name: (lam + curvature[name], m, v) for name, (lam, m, v) in adjoint.items()}
            rewards.append(s.detach())
    return rewards[::-1]


def stay_in_memory():
    """Makes an allocation that a Linux machine has no memory for an error, where it would swap for minutes first."""
    if sys.platform != "linux":
        return

    def kilobytes(path, field):
        return next(int(line.split()[1]) for line in open(path) if line.startswith(field))

    limit = 1024 * (kilobytes("/proc/self/status", "VmData") + kilobytes("/proc/meminfo", "MemAvailable"))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))


def main():
    shape = json.loads(sys.argv[1])
    torch.manual_seed(0)
    model = build(shape)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}

    def data(steps):
        return [torch.randint(0, shape["vocab"], (shape["batch"], shape["sequence"])) for _ in range(steps)]

    def sample(rows):
        drawn = shape["sequence"] // 2
        prompts = torch.randint(3, shape["vocab"], (rows, shape["sequence"] - drawn))
        mask = torch.ones_like(prompts)
        model.generate(
            prompts, attention_mask=mask, do_sample=True, min_new_tokens=drawn, max_new_tokens=drawn, pad_token_id=0
        )

    kinds = {
        "plain": lambda steps: plain(model, start, data(steps)),
        "best": lambda steps: metagradient(model, start, data(steps)),
        "sample": sample,
    }
    about = {"device": "cpu", "name": "PyTorch", "version": f"{torch.__version__}, transformers {transformers.__version__}"}
    print(json.dumps(about | {"threads": torch.get_num_threads(), "kinds": [*kinds]}), flush=True)
    for line in sys.stdin:
        kind, count = line.split()
        stay_in_memory()
        begin = time.perf_counter()
        try:
            kinds[kind](int(count))
        except (MemoryError, RuntimeError) as error:
            print(f"{kind} {count}: {error}", file=sys.stderr)
            print("none", flush=True)
        else:
            print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
