"""Makes transformers compute in float64 throughout.

`model.double()` is not enough: the norms, the attention softmax and the rotary embedding of the
Llama family cast to float32 by name, which leaves errors of 1e-7 in a float64 model. Inside
`float64()`, the name `torch.float32` means float64 in those modules.
"""

import contextlib

import torch
import transformers.modeling_rope_utils as rope
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

MODULES = [rope, modeling_llama, modeling_qwen2, modeling_qwen3]


class Float64Torch:
    """The `torch` module with float32 replaced."""

    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def float64():
    """Models must be both built and called inside."""
    for module in MODULES:
        module.torch = Float64Torch()
    try:
        yield
    finally:
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
