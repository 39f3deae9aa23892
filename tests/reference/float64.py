"""Makes transformers, and PyTorch's Muon, compute in float64 throughout.

`model.double()` is not enough: the norms, the attention softmax and the rotary embedding of the
Llama family cast to float32 by name, which leaves errors of 1e-7 in a float64 model, and Muon's
iterations to bfloat16. Inside `float64()`, those names mean float64 in these modules, and `float` of a
tensor means it everywhere.
"""

import contextlib

import torch
import transformers.modeling_rope_utils as rope
from torch.optim import _muon as muon
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

MODULES = [muon, rope, modeling_llama, modeling_qwen2, modeling_qwen3]


class Float64Torch:
    """The `torch` module with narrower types replaced."""

    float32 = float = bfloat16 = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def float64():
    """Models must be both built and called inside."""
    to_float32 = torch.Tensor.float
    torch.Tensor.float = torch.Tensor.double
    for module in MODULES:
        module.torch = Float64Torch()
    try:
        yield
    finally:
        torch.Tensor.float = to_float32
        for module in MODULES:
            module.torch = torch


def load(folder):
    """The causal LM of `folder` in float64 with eager attention and without dropout."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager", local_files_only=True
    ).eval()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        assert tensor.dtype == torch.float64 or not tensor.is_floating_point(), name
    return model
