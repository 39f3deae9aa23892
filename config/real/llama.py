"""Serves SmolLM2 as a teacher: llama.cpp's OpenAI-compatible server, from PyPI alone.

    pip install "llama-cpp-python[server]" gguf numpy
    python llama.py FOLDER [PORT]

FOLDER is a Hugging Face folder of a Llama with tied embeddings and a tokenizer like GPT-2's, such as smollm2.py writes.
It is written as GGUF beside itself, in 8 bits, once. A `dpg.toml` with

    [teachers.llama]
    base_url = "http://127.0.0.1:18765/v1"
    inside = true
    max_tokens = true
    concurrency = 1

lets specs say `teacher = "llama"`, `model = "smollm2"`.
"""

import json
import os
import struct
import sys
from pathlib import Path

import gguf
import numpy as np


def tensors(path):
    """The tensors of a safetensors file by name, as f32."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    head = json.loads(raw[8 : 8 + length])

    def read(entry):
        begin, end = entry["data_offsets"]
        data = raw[8 + length + begin : 8 + length + end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(data, {"F16": np.float16, "F32": np.float32}[entry["dtype"]])
        return values.reshape(entry["shape"]).astype(np.float32)

    return {name: read(entry) for name, entry in head.items() if name != "__metadata__"}


def interleaved(weight, heads):
    """A query's or a key's weight with the halves that rotate together side by side, as llama.cpp has them."""
    parts = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return parts.swapaxes(1, 2).reshape(weight.shape)


def convert(folder, out):
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(out, "llama")
    writer.add_name("smollm2")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(7)

    special = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    ids = dict(tokenizer["model"]["vocab"]) | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(ids, key=ids.get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text())

    found = tensors(folder / "model.safetensors")

    def put(name, weight):
        if weight.ndim == 1:
            return writer.add_tensor(name, weight)
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, gguf.quants.quantize(weight, kind), raw_dtype=kind)

    put("token_embd.weight", found["model.embed_tokens.weight"])
    put("output_norm.weight", found["model.norm.weight"])
    names = {
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for layer in range(config["num_hidden_layers"]):
        there, here = f"model.layers.{layer}", f"blk.{layer}"
        put(f"{here}.attn_q.weight", interleaved(found[f"{there}.self_attn.q_proj.weight"], heads))
        put(f"{here}.attn_k.weight", interleaved(found[f"{there}.self_attn.k_proj.weight"], kv_heads))
        for name, name_here in names.items():
            put(f"{here}.{name_here}.weight", found[f"{there}.{name}.weight"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    folder, port = Path(sys.argv[1]), (sys.argv[2:] or ["18765"])[0]
    model = folder / "model-q8.gguf"
    if not model.exists():
        part = folder / "model-q8.part"
        convert(folder, part)
        part.rename(model)
    arguments = ["--model", model, "--host", "127.0.0.1", "--port", port, "--n_ctx", "512", "--model_alias", "smollm2"]
    os.execv(sys.executable, [sys.executable, "-m", "llama_cpp.server", *map(str, arguments)])


if __name__ == "__main__":
    main()
