#!/usr/bin/env python3
"""Minus the l2 norm of parameters, in JAX: a program that reads weights and writes a gradient by itself.

    dpg metric spec.toml --program jax-norm="python deploy/python/jax_norm.py"

    [metric]
    kind = "external"
    program = "jax-norm"
    parameters = { names = ["lm_head.weight"] }
"""

import jax
import jax.numpy as jnp
from safetensors.flax import load_file, save_file

from dpg.metric import serve


def phi(weights):
    return -jnp.sqrt(sum(jnp.sum(jnp.square(one)) for one in weights.values()))


def start(folder, dtype, files):
    jax.config.update("jax_enable_x64", dtype == "float64")
    measured = jax.jit(jax.value_and_grad(phi))

    def measure(weights, gradient, parameters):
        stored = load_file(weights)
        value, slope = measured({name: stored[name] for name in parameters["names"]})
        if gradient is not None:
            save_file(slope, gradient)
        return value, {"norm": -value}

    return f"jax_norm.py, jax {jax.__version__}", measure


if __name__ == "__main__":
    serve(start)
