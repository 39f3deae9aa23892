"""The benchmark's mathematics in JAX: GPT-2, AdamW with eps_root, metagradients of the head's norm.

    python jax_peer.py '{"hidden": 256, "layers": 4, "vocab": 4096, "batch": 32, "sequence": 128}'

Compiles, prints one JSON line (device, version), then answers each line `KIND T` on standard input with
the seconds of one run. Kinds: `plain` fine-tuning; `naive`, the step recomputed under reverse over
reverse and a separate JVP for the rewards, as the metagradient is usually written; `best`, gradients
kept, the optimizer's adjoint in closed form, and one fused pass (JVP, then gradient) a step. The two
walks are checked against each other first.
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
    norm = lambda *lead: {"w": np.ones((*lead, h), np.float32), "b": np.zeros((*lead, h), np.float32)}
    dense = lambda i, o: {"w": weight(n, i, o), "b": weight(n, o)}
    return {
        "wte": weight(shape["vocab"], h),
        "wpe": weight(shape["sequence"], h),
        "blocks": {"n1": norm(n), "qkv": dense(h, 3 * h), "out": dense(h, h), "n2": norm(n),
                   "up": dense(h, 4 * h), "down": dense(4 * h, h)},
        "norm": norm(),
    }


def layer_norm(x, p):
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["w"] + p["b"]


def losses(params, tokens):
    """Mean cross-entropy of each example, [batch]."""
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    seq = inputs.shape[1]
    x = params["wte"][inputs] + params["wpe"][:seq]
    heads = max(x.shape[-1] // HEAD, 1)
    mask = jnp.tril(jnp.ones((seq, seq), bool))

    def block(x, p):
        b, s, h = x.shape
        q, k, v = jnp.split(layer_norm(x, p["n1"]) @ p["qkv"]["w"] + p["qkv"]["b"], 3, -1)
        split = lambda t: t.reshape(b, s, heads, -1).transpose(0, 2, 1, 3)
        scores = split(q) @ split(k).transpose(0, 1, 3, 2) / math.sqrt(h // heads)
        weights = jax.nn.softmax(jnp.where(mask, scores, -1e9), -1)
        mixed = (weights @ split(v)).transpose(0, 2, 1, 3).reshape(b, s, h)
        x = x + mixed @ p["out"]["w"] + p["out"]["b"]
        up = layer_norm(x, p["n2"]) @ p["up"]["w"] + p["up"]["b"]
        return x + jax.nn.gelu(up, approximate=True) @ p["down"]["w"] + p["down"]["b"], None

    # a GPU's compiler takes minutes for layers side by side; a CPU is faster with them
    x, _ = jax.lax.scan(block, x, params["blocks"], unroll=jax.default_backend() == "cpu")
    logits = layer_norm(x, params["norm"]) @ params["wte"].T
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


def main():
    shape = json.loads(sys.argv[1])
    rng = np.random.default_rng(0)
    params = tree(jnp.asarray, init(shape, rng))

    def data(steps):
        tokens = rng.integers(0, shape["vocab"], (steps, shape["batch"], shape["sequence"]))
        return jnp.asarray(tokens), jnp.ones((steps, shape["batch"]), jnp.float32)

    # compiles everything, T = 2 having a first and a later step
    batches, weights = data(2)
    naive, best = (metagradient(kind, params, batches, weights) for kind in ["naive", "best"])
    error = float(jnp.linalg.norm(naive - best) / jnp.linalg.norm(best))
    assert error < 1e-2, f"the two walks disagree: {error}"
    print(json.dumps({"device": str(jax.devices()[0]), "name": "JAX", "version": jax.__version__}), flush=True)

    for line in sys.stdin:
        kind, steps = line.split()
        if kind == "sample":
            print("none", flush=True)
            continue
        batches, weights = data(int(steps))
        begin = time.perf_counter()
        if kind == "plain":
            jax.block_until_ready(plain(params, batches, weights))
        else:
            jax.block_until_ready(metagradient(kind, params, batches, weights))
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    main()
