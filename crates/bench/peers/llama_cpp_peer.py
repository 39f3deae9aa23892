"""Sampling in llama.cpp, in f32: a Llama of random weights that draws rows side by side.

    python llama_cpp_peer.py '{"hidden": 576, "layers": 30, "kv_heads": 3, "inner": 1536, "vocab": 49152, "sequence": 128}'

Prints one JSON line (device, version, kinds), then answers each line `sample N` on standard input with the seconds
that N rows of half a sequence take, after prompts of the other half.
"""

import json
import os
import sys
import tempfile
import time

import gguf
import llama_cpp as llama
import numpy as np

HEAD = 64
F32 = gguf.GGMLQuantizationType.F32

# its log is hundreds of lines
llama.llama_log_set(quiet := llama.llama_log_callback(lambda level, text, data: None), None)


def write(shape, path, rng):
    """A model of random weights."""
    h, inner, keys = shape["hidden"], shape["inner"], shape["kv_heads"] * HEAD
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(shape["vocab"])
    writer.add_context_length(shape["sequence"])
    writer.add_embedding_length(h)
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(inner)
    writer.add_head_count(h // HEAD)
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)

    def weight(name, *size):
        half = 0.02 * 3**0.5
        writer.add_tensor(f"{name}.weight", rng.uniform(-half, half, size).astype(np.float32))

    def norm(name):
        writer.add_tensor(f"{name}.weight", np.ones(h, np.float32))

    weight("token_embd", shape["vocab"], h)
    norm("output_norm")
    for layer in range(shape["layers"]):
        block = f"blk.{layer}"
        norm(f"{block}.attn_norm")
        norm(f"{block}.ffn_norm")
        for name, rows, columns in [
            ("attn_q", h, h), ("attn_k", keys, h), ("attn_v", keys, h), ("attn_output", h, h),
            ("ffn_gate", inner, h), ("ffn_up", inner, h), ("ffn_down", h, inner),
        ]:
            weight(f"{block}.{name}", rows, columns)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def context(model, rows, sequence):
    settings = llama.llama_context_default_params()
    settings.n_ctx = rows * sequence
    settings.n_batch = rows * sequence
    settings.n_seq_max = rows
    settings.n_threads = settings.n_threads_batch = os.cpu_count()
    settings.type_k = settings.type_v = int(F32)
    return llama.llama_init_from_model(model, settings)


def decode(ctx, batch, tokens, start):
    """Passes `tokens` [rows, n], whose first stands at `start`; logits of the last of each row."""
    rows, n = tokens.shape
    batch.n_tokens = rows * n
    for i, (row, column) in enumerate(np.ndindex(rows, n)):
        batch.token[i] = int(tokens[row, column])
        batch.pos[i] = start + column
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = row
        batch.logits[i] = column == n - 1
    assert llama.llama_decode(ctx, batch) == 0, "llama.cpp passes the tokens"


def sample(ctx, batch, prompts, count):
    llama.llama_memory_clear(llama.llama_get_memory(ctx), True)
    sampler = llama.llama_sampler_init_dist(0)
    tokens, start = prompts, 0
    for _ in range(count):
        decode(ctx, batch, tokens, start)
        rows, n = tokens.shape
        start += n
        last = [row * n + n - 1 for row in range(rows)]
        tokens = np.array([[llama.llama_sampler_sample(sampler, ctx, place)] for place in last])
    llama.llama_sampler_free(sampler)


def main():
    shape = json.loads(sys.argv[1])
    rng = np.random.default_rng(0)
    llama.llama_backend_init()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "random.gguf")
        write(shape, path, rng)
        settings = llama.llama_model_default_params()
        settings.use_mmap = False
        model = llama.llama_model_load_from_file(path.encode(), settings)
    about = {"device": "cpu", "name": "llama.cpp", "version": llama.__version__, "kinds": ["sample"]}
    print(json.dumps(about), flush=True)

    drawn = shape["sequence"] // 2
    for line in sys.stdin:
        rows = int(line.split()[1])
        prompts = rng.integers(3, shape["vocab"], (rows, shape["sequence"] - drawn))
        ctx = context(model, rows, shape["sequence"])
        batch = llama.llama_batch_init(prompts.size, 0, 1)
        begin = time.perf_counter()
        sample(ctx, batch, prompts, drawn)
        print(time.perf_counter() - begin, flush=True)
        llama.llama_batch_free(batch)
        llama.llama_free(ctx)


if __name__ == "__main__":
    main()
