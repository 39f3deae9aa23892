"""The benchmark's mathematics in JAX: GPT-2 or Llama, AdamW with eps_root, metagradients of the head's norm.

    python jax_peer.py '{"family": "gpt2", "hidden": 256, "layers": 4, "vocab": 4096, "batch": 32, "sequence": 128}'

Compiles, prints one JSON line (device, version, kinds), then answers each line `KIND T` on standard input with
the seconds of one run. Kinds: `plain` fine-tuning; `naive`, the step recomputed under reverse over reverse and a
separate JVP for the rewards, as the metagradient is usually written; `best`, gradients kept, the optimizer's adjoint
in closed form, and one fused pass (JVP, then gradient) a step. The two walks are checked against each other first. A
Llama has no `naive`: at the size of SmolLM2 it takes more memory than most machines have.
"""

import json
import math
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

# as here: without it a GPU rounds the operands of products to TF32
jax.config.update("jax_default_matmul_precision", "highest")

RATE, B1, B2, EPS, EPS_ROOT, DECAY = 5e-6, 0.9, 0.95, 1e-8, 1e-9, 1e-4
HEAD = 64


def init(shape, rng):
    def weight(*size):
        half = 0.02 * math.sqrt(3)
        return rng.uniform(-half, half, size).astype(np.float32)

    h, n = shape["hidden"], shape["layers"]
    llama = shape["family"] == "llama"
    one = lambda *lead: np.ones((*lead, h), np.float32)
    norm = lambda *lead: {"w": one(*lead)} if llama else {"w": one(*lead), "b": np.zeros((*lead, h), np.float32)}
    dense = lambda i, o: {"w": weight(n, i, o)} if llama else {"w": weight(n, i, o), "b": weight(n, o)}
    inner = shape["inner"] if llama else 4 * h
    keys = shape["kv_heads"] * HEAD if llama else h
    weights = {
        "wte": weight(shape["vocab"], h),
        "blocks": {"n1": norm(n), "qkv": dense(h, h + 2 * keys), "out": dense(h, h), "n2": norm(n),
                   "up": dense(h, 2 * inner if llama else inner), "down": dense(inner, h)},
        "norm": norm(),
    }
    return weights if llama else weights | {"wpe": weight(shape["sequence"], h)}


def normalised(x, p):
    if "b" not in p:
        return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["w"]
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["w"] + p["b"]


def linear(x, p):
    return x @ p["w"] + p["b"] if "b" in p else x @ p["w"]


def rotated(x):
    """[batch, heads, positions, width], turned by its positions."""
    positions, width = x.shape[-2:]
    rates = 10000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.outer(np.arange(positions), rates).astype(np.float32)
    cos, sin = np.cos(angles), np.sin(angles)
    low, high = jnp.split(x, 2, -1)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], -1)


def losses(params, tokens):
    """Mean cross-entropy of each example, [batch]."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    seq = inputs.shape[1]
    llama = "wpe" not in params
    x = params["wte"][inputs]
    if not llama:
        x = x + params["wpe"][:seq]
    heads = max(x.shape[-1] // HEAD, 1)
    mask = jnp.tril(jnp.ones((seq, seq), bool))

    def block(x, p):
        b, s, h = x.shape
        width = h // heads
        qkv = linear(normalised(x, p["n1"]), p["qkv"])
        q, k, v = jnp.split(qkv, [h, (h + qkv.shape[-1]) // 2], -1)
        split = lambda t: t.reshape(b, s, -1, width).transpose(0, 2, 1, 3)
        q, k, v = split(q), split(k), split(v)
        if llama:
            q, k = rotated(q), rotated(k)
            k, v = (jnp.repeat(t, heads // t.shape[1], 1) for t in (k, v))
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(width)
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e9), -1)
        mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(b, s, h)
        x = x + linear(mixed, p["out"])
        up = linear(normalised(x, p["n2"]), p["up"])
        if llama:
            gate, up = jnp.split(up, 2, -1)
            up = jax.nn.silu(gate) * up
        else:
            up = jax.nn.gelu(up, approximate=True)
        return x + linear(up, p["down"]), None

    # a GPU's compiler takes minutes for layers side by side; a CPU is faster with them
    x, _ = jax.lax.scan(block, x, params["blocks"], unroll=jax.default_backend() == "cpu")
    logits = normalised(x, params["norm"]) @ params["wte"].T
    chosen = jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
    return (jax.nn.logsumexp(logits, -1) - chosen).mean(-1)


def batch_loss(params, tokens, weights):
    return (losses(params, tokens) * weights).mean()


tree = jax.tree.map


def adamw(state, g, n):
    theta, m, v = state
    m = tree(lambda m, g: B1 * m + (1 - B1) * g, m, g)
    v = tree(lambda v, g: B2 * v + (1 - B2) * g * g, v, g)
    c1, c2 = 1 - B1**n, 1 - B2**n
    update = lambda t, m, v: t - RATE * ((m / c1) / (jnp.sqrt(v / c2 + EPS_ROOT) + EPS) + DECAY * t)
    return tree(update, theta, m, v), m, v


@jax.jit
def step(state, tokens, weights, n):
    g = jax.grad(batch_loss)(state[0], tokens, weights)
    return adamw(state, g, n), g


def phi(theta):
    return -jnp.sqrt((theta["wte"] ** 2).sum())


def start(params):
    zero = tree(jnp.zeros_like, params)
    return params, zero, zero


def plain(params, batches, weights):
    state = start(params)
    for t, tokens in enumerate(batches):
        state, _ = step(state, tokens, weights[t], jnp.float32(t + 1))
    return state[0]


@jax.jit
def naive_back(state, tokens, weights, n, adjoint):
    """Reverse over reverse through the step, then a JVP along dPhi/dg for the rewards."""
    whole = lambda state: step(state, tokens, weights, n)[0]
    _, back = jax.vjp(whole, state)
    (before,) = back(adjoint)
    g = jax.grad(batch_loss)(state[0], tokens, weights)
    _, to_g = jax.vjp(lambda g: adamw(state, g, n), g)
    (u,) = to_g(adjoint)
    _, s = jax.jvp(lambda theta: losses(theta, tokens), (state[0],), (u,))
    return before, s


@partial(jax.jit, static_argnames="first")
def best_back(state, g, tokens, weights, n, adjoint, first):
    """The optimizer's adjoint, then one fused pass."""
    _, pull = jax.vjp(lambda state, g: adamw(state, g, n), state, g)
    before, u = pull(adjoint)

    def weighted(theta):
        _, s = jax.jvp(lambda theta: losses(theta, tokens), (theta,), (u,))
        return (s * weights).mean(), s

    if first:
        return before, weighted(state[0])[1]
    curvature, s = jax.grad(weighted, has_aux=True)(state[0])
    return (tree(jnp.add, before[0], curvature), before[1], before[2]), s


def metagradient(kind, params, batches, weights):
    state, states, gradients = start(params), [], []
    for t, tokens in enumerate(batches):
        states.append(state)
        state, g = step(state, tokens, weights[t], jnp.float32(t + 1))
        gradients.append(g)
    zero = tree(jnp.zeros_like, params)
    adjoint = (jax.grad(phi)(state[0]), zero, zero)
    rewards = []
    for t in reversed(range(len(batches))):
        n = jnp.float32(t + 1)
        if kind == "naive":
            adjoint, s = naive_back(states[t], batches[t], weights[t], n, adjoint)
        else:
            adjoint, s = best_back(states[t], gradients[t], batches[t], weights[t], n, adjoint, t == 0)
        rewards.append(s / s.shape[0])
    return jnp.stack(rewards[::-1])


def data(shape, steps, rng):
    tokens = rng.integers(0, shape["vocab"], (steps, shape["batch"], shape["sequence"]))
    return jnp.asarray(tokens), jnp.ones((steps, shape["batch"]), jnp.float32)


def check(shape, rng):
    """That the two walks agree, on one layer."""
    shape = shape | {"layers": 1, "batch": 2, "sequence": 16}
    params, batches = tree(jnp.asarray, init(shape, rng)), data(shape, 2, rng)
    naive, best = (metagradient(kind, params, *batches) for kind in ["naive", "best"])
    error = float(jnp.linalg.norm(naive - best) / jnp.linalg.norm(best))
    assert error < 1e-2, f"the two walks disagree: {error}"


def main():
    shape = json.loads(sys.argv[1])
    rng = np.random.default_rng(0)
    check(shape, rng)
    params = tree(jnp.asarray, init(shape, rng))
    kinds = {"plain": lambda *run: plain(params, *run)}
    for kind in ["best"] if shape["family"] == "llama" else ["naive", "best"]:
        kinds[kind] = partial(metagradient, kind, params)
        # compiles everything, T = 2 having a first and a later step
        jax.block_until_ready(kinds[kind](*data(shape, 2, rng)))
    about = {"device": str(jax.devices()[0]), "name": "JAX", "version": jax.__version__, "kinds": [*kinds]}
    print(json.dumps(about), flush=True)

    for line in sys.stdin:
        kind, steps = line.split()
        run = data(shape, int(steps), rng)
        begin = time.perf_counter()
        jax.block_until_ready(kinds[kind](*run))
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
