#!/usr/bin/env python3
"""Measures fine-tuned models for the metric `external` of dpg.

    python -m dpg.metric [--device cuda] measure.py

`measure.py` has a function `phi`. It may take any of the arguments below, by name, and gives a number that depends on
the model's weights, or that number and a dictionary of figures for people. Higher is better.

    def phi(model, tokenizer, parameters, files):
        ...
        return value, {"accuracy": 0.5}

`model` is the fine-tuned model of transformers, in eval mode and in the type of the run's weights; `tokenizer` is its
tokenizer; `parameters` and `files` are those of the spec. A file may say what it is with `VERSION = "..."`. What it
prints goes to standard error. The same weights must give the same number each time.

Without PyTorch, call `serve` from a program of your own; jax_norm.py does.
"""

import argparse
import importlib.util
import inspect
import json
import os
import sys
import traceback
from pathlib import Path

PROTOCOL = 1


def serve(start):
    """Answers dpg until it is done.

    `start(folder, dtype, files)` is called once and gives a version and a function `measure(weights, gradient,
    parameters)`. That reads the safetensors file `weights`, writes the gradient's to `gradient` unless it is None, and
    gives a number and a dictionary of figures.
    """
    # what anybody prints must not stand among the answers
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines = iter(sys.stdin)

    def answer(**said):
        # a number that is not finite is an error here, where the trace of it is
        print(json.dumps(said, allow_nan=False), file=answers, flush=True)

    greeting = json.loads(next(lines))
    version, measure = start(Path(greeting["folder"]), greeting["dtype"], greeting["files"])
    answer(dpg=PROTOCOL, version=version)
    for line in lines:
        asked = json.loads(line)
        try:
            value, figures = measure(asked["weights"], asked["gradient"], asked["parameters"])
            figures = {name: float(figure) for name, figure in figures.items()}
            answer(id=asked["id"], value=float(value), proxies=figures)
        except Exception as error:
            traceback.print_exc()
            answer(id=asked["id"], error=f"{type(error).__name__}: {error}")


def torch_metric(module, device):
    """What `serve` takes, for the function `phi` of a module."""
    import safetensors.torch
    import torch
    import transformers

    wanted = list(inspect.signature(module.phi).parameters)

    def start(folder, dtype, files):
        model, tokenizer = None, None

        def load(weights):
            nonlocal model, tokenizer
            if model is None:
                model = transformers.AutoModelForCausalLM.from_pretrained(folder)
                model.to(device, getattr(torch, dtype)).eval()
                if "tokenizer" in wanted:
                    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            stored = safetensors.torch.load_file(weights)
            with torch.no_grad():
                # of tied parameters there is one, as in the file
                for name, parameter in model.named_parameters():
                    parameter.copy_(stored[name])

        def measure(weights, gradient, parameters):
            load(weights)
            model.zero_grad(set_to_none=True)
            known = {"model": model, "tokenizer": tokenizer, "parameters": parameters, "files": files}
            with torch.set_grad_enabled(gradient is not None):
                value = module.phi(**{name: known[name] for name in wanted})
            value, figures = value if isinstance(value, tuple) else (value, {})
            if gradient is not None:
                value.backward()
                named = model.named_parameters()
                found = {name: one.grad.cpu().contiguous() for name, one in named if one.grad is not None}
                safetensors.torch.save_file(found, gradient)
            return value, figures

        version = getattr(module, "VERSION", Path(module.__file__).name)
        return f"{version}, torch {torch.__version__}, transformers {transformers.__version__}", measure

    return start


def main():
    arguments = argparse.ArgumentParser(description="Measures models for dpg by the function `phi` of a file.")
    arguments.add_argument("--device", default="cpu", help="what PyTorch computes on, as in cuda:0 [default: cpu]")
    arguments.add_argument("file", type=Path, help="a Python file with a function `phi`")
    given = arguments.parse_args()
    sys.path.insert(0, str(given.file.resolve().parent))
    found = importlib.util.spec_from_file_location("measured", given.file)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    serve(torch_metric(module, given.device))


if __name__ == "__main__":
    main()
