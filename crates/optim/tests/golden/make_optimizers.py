"""Writes optimizers.json: five float64 steps of optax's AdamW and SGD on seven parameters under
several settings: `python make_optimizers.py`. Made with optax 0.2.8.

A case holds the settings under their names in a target spec, `theta` [7] before the first step,
`gradients` [5, 7], and `thetas` [5, 7] after each step; for AdamW the moments `m` and `v` too.
"""

import json
from pathlib import Path

import jax
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)

STEPS, SIZE = 5, 7
PAPER = {"learning_rate": 5e-6, "betas": [0.9, 0.95], "eps": 1e-8, "eps_root": 1e-9, "weight_decay": 1e-4}
SETTINGS = [
    ("adamw", PAPER),
    ("adamw", {**PAPER, "learning_rate": 1e-3, "eps_root": 0.0, "weight_decay": 0.0}),
    ("adamw", {**PAPER, "learning_rate": 1e-2, "eps_root": 1e-4, "weight_decay": 0.1}),
    ("adamw", {**PAPER, "learning_rate": 0.1, "betas": [0.0, 0.999], "eps": 1e-3, "eps_root": 1e-5}),
    ("sgd", {"learning_rate": 0.1, "weight_decay": 0.0}),
    ("sgd", {"learning_rate": 0.5, "weight_decay": 0.2}),
]


def optimizer(kind, settings):
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    if kind == "sgd":
        return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate))
    b1, b2 = settings["betas"]
    return optax.adamw(
        rate, b1=b1, b2=b2, eps=settings["eps"], eps_root=settings["eps_root"], weight_decay=decay
    )


def case(seed, kind, settings):
    random = np.random.default_rng(seed)
    theta = random.normal(size=SIZE)
    # sizes from 1e-6 to 1, so that eps and eps_root matter for some and not for others
    gradients = random.normal(size=(STEPS, SIZE)) * 10.0 ** np.arange(-SIZE + 1, 1)
    update = optimizer(kind, settings)
    state = update.init(theta)
    moments = {"thetas": []} | ({"m": [], "v": []} if kind == "adamw" else {})
    current = theta
    for gradient in gradients:
        change, state = update.update(gradient, state, current)
        current = optax.apply_updates(current, change)
        assert current.dtype == np.float64
        moments["thetas"].append(current.tolist())
        if kind == "adamw":
            moments["m"].append(state[0].mu.tolist())
            moments["v"].append(state[0].nu.tolist())
    return {
        "optimizer": {"kind": kind, **settings},
        "theta": theta.tolist(),
        "gradients": gradients.tolist(),
        **moments,
    }


cases = [case(seed, kind, settings) for seed, (kind, settings) in enumerate(SETTINGS)]
text = json.dumps(cases, indent=1)
(Path(__file__).parent / "optimizers.json").write_text(text + "\n")
