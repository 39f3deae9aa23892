"""Writes the golden models of this folder with transformers: `python make_golden.py`.

Each subfolder is a tiny random model as `save_pretrained` leaves it, with a small byte-level BPE
tokenizer. `logits/NAME.safetensors` holds `tokens` [2, 11] and its logits [2, 11, vocab] computed
in float32 (`f32`) and wholly in float64 (`f64`). `legacy/NAME.json` is the config of model NAME as
transformers 4 wrote it. Made with transformers 5.23 and torch 2.15.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[3] / "tests" / "reference"))
from float64 import float64, load  # noqa: E402

VOCABULARY = 96
CORPUS = [
    "the quick brown fox jumps over the lazy dog, and the dog sleeps on.",
    "a small model reads a small text; the text is about the small model.",
    "user: what is the time? assistant: it is 0123456789 hours, or so.",
    "system: you are a café - don't answer (more than) once!\n",
    "\n\nthink: the other one is there and then this and that.",
    "el perro duerme en la casa. la casa es pequeña, ¿no?",
]

CHAT_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first %}
        {{- raise_exception('the system message must come first') }}
    {%- elif message.role != 'system' %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content | trim + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def tokenizer(bos, eos, adds_bos=False, chat_template=None, extra=()):
    """A byte-level BPE of VOCABULARY tokens; bytes that CORPUS lacks are `<unk>`."""
    special = list(dict.fromkeys(["<unk>", bos, eos, *extra]))
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=[AddedToken(token, special=True) for token in special],
            show_progress=False,
        ),
    )
    if adds_bos:
        bpe.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, bpe.token_to_id(bos))]
        )
    assert bpe.get_vocab_size() == VOCABULARY, bpe.get_vocab_size()
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, unk_token="<unk>", bos_token=bos, eos_token=eos, chat_template=chat_template
    )


GPT2 = dict(n_positions=40, n_embd=16, n_layer=2, n_head=2)
LLAMA = dict(
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)
# The wavelengths of a six-wide head are 6.3 (kept), 23 (interpolated) and 85 (divided by the factor).
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 50.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def rope(theta):
    return {"rope_type": "default", "rope_theta": theta}


def golden_models():
    """Rows of (folder, config, tokenizer, keyword arguments of save_pretrained)."""
    end = "<|endoftext|>"
    gpt2 = tokenizer(end, end)
    llama = tokenizer("<s>", "</s>", adds_bos=True)
    qwen = tokenizer(end, "<|im_end|>", chat_template=CHAT_TEMPLATE, extra=["<|im_start|>"])
    one_shard = {}
    yield "gpt2", GPT2Config(**GPT2), gpt2, one_shard
    yield "gpt2-untied", GPT2Config(**GPT2, tie_word_embeddings=False, n_inner=40), gpt2, one_shard
    yield "llama", LlamaConfig(
        **LLAMA, head_dim=6, rope_parameters=LLAMA3_ROPE, rms_norm_eps=1e-5
    ), llama, one_shard
    yield "llama-tied", LlamaConfig(
        **LLAMA,
        tie_word_embeddings=True,
        rope_parameters=rope(500.0),
        attention_bias=True,
        mlp_bias=True,
        rms_norm_eps=1e-3,
    ), llama, one_shard
    yield "llama-linear-rope", LlamaConfig(
        **LLAMA, rope_parameters={**rope(100.0), "rope_type": "linear", "factor": 2.5}
    ), llama, one_shard
    yield "llama-bf16", LlamaConfig(**LLAMA, rope_parameters=rope(1e4)), llama, {"dtype": torch.bfloat16}
    yield "llama-sharded", LlamaConfig(**LLAMA, rope_parameters=rope(1e4)), llama, {"max_shard_size": "12KB"}
    yield "qwen2", Qwen2Config(**LLAMA, tie_word_embeddings=True, rope_parameters=rope(1e6)), qwen, one_shard
    yield "qwen3", Qwen3Config(**LLAMA, head_dim=6, rope_parameters=rope(1e6)), qwen, one_shard


def randomize(model):
    """Every parameter drawn anew, norms and biases too, so that none of them could be left out."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            around = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
            parameter.copy_(around + 0.2 * torch.randn_like(parameter))


def logits_of(folder):
    tokens = torch.randint(VOCABULARY, (2, 11), generator=torch.Generator().manual_seed(1))
    single = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        f32 = single.eval()(tokens).logits
        with float64():
            f64 = load(folder)(tokens).logits
    assert f64.dtype == torch.float64 and torch.allclose(f32.double(), f64, atol=1e-4)
    return {"tokens": tokens, "f32": f32.contiguous(), "f64": f64.contiguous()}


def save_as_on_the_hub(source, folder):
    """GPT-2 as openai-community/gpt2 stores it: no `transformer.` prefix, attention masks among the
    weights, an early config, no generation_config.json."""
    shutil.copytree(source, folder)
    (folder / "generation_config.json").unlink()
    config = read(folder / "config.json")
    for key in ["dtype", "n_inner", "pad_token_id", "tie_word_embeddings", "transformers_version", "use_cache"]:
        del config[key]
    write(folder / "config.json", dict(config, n_ctx=config["n_positions"]))
    tensors = {name.removeprefix("transformer."): t for name, t in load_file(source / "model.safetensors").items()}
    length = GPT2["n_positions"]
    for layer in range(GPT2["n_layer"]):
        tensors[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(1, 1, length, length))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def legacy(config, version, key="rope_type", without=(), **changes):
    """A config as transformers 4 wrote it: rope_theta at the top, rope_scaling null unless scaled,
    its kind first under `type`, later under `rope_type`."""
    config = dict(config, transformers_version=version, torch_dtype=config["dtype"], **changes)
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {key: kind, **rope}
    for absent in ["dtype", *without]:
        del config[absent]
    return config


def read(path):
    return json.loads(path.read_text())


def write(path, value):
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def main():
    for folder in [p for p in HERE.iterdir() if p.is_dir()]:
        shutil.rmtree(folder)
    (HERE / "logits").mkdir()
    (HERE / "legacy").mkdir()
    transformers.logging.disable_progress_bar()
    for seed, (name, config, words, arguments) in enumerate(golden_models()):
        torch.manual_seed(seed)
        config.vocab_size = VOCABULARY
        config.bos_token_id = words.bos_token_id
        config.eos_token_id = words.eos_token_id
        model = AutoModelForCausalLM.from_config(config)
        randomize(model)
        arguments = dict(arguments)
        model.to(arguments.pop("dtype", torch.float32))
        if words.chat_template:
            ends = [words.eos_token_id, words.bos_token_id]
            model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=words.bos_token_id)
        model.save_pretrained(HERE / name, **arguments)
        words.save_pretrained(HERE / name)
        save_file(logits_of(HERE / name), HERE / "logits" / f"{name}.safetensors")

    save_as_on_the_hub(HERE / "gpt2", HERE / "gpt2-hub")
    save_file(logits_of(HERE / "gpt2-hub"), HERE / "logits" / "gpt2-hub.safetensors")

    early = {"key": "type", "without": ["head_dim", "mlp_bias"]}
    for name, version, changes in [
        ("llama", "4.45.0", {"eos_token_id": [2, 1]}),
        ("llama-tied", "4.42.0", {"without": ["head_dim"]}),
        ("llama-linear-rope", "4.40.0", early),
        ("qwen2", "4.43.0", {"sliding_window": 32, "without": ["layer_types"]}),
        ("qwen3", "4.51.0", {"without": ["layer_types"]}),
    ]:
        config = legacy(read(HERE / name / "config.json"), version, **changes)
        write(HERE / "legacy" / f"{name}.json", config)


if __name__ == "__main__":
    main()
