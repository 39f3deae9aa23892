"""Writes shapes.jsonl: small tokenizers in the shapes of public models, one a line, with what transformers
and TRL make of some texts, prompts with completions, and conversations.

Run it with transformers 5, and then again with 4.57, which adds what that version makes otherwise:
`python make_shapes.py`. TRL must be importable in both."""

import copy
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

import transformers
from datasets import Dataset, disable_progress_bars
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer
from trl.trainer.sft_trainer import SFTTrainer

disable_progress_bars()
transformers.logging.set_verbosity_error()
FILE = Path(__file__).parent / "shapes.jsonl"

CORPUS = [
    "the quick brown fox jumps over the lazy dog and then the fox says hello world to the dog",
    "La pintora vendió la foto. El cazador miró el río, uno, dos, tres. café naïve größer",
    "def main():\n    return 1234 + 567\n\n    # don't do it, we'll see\n",
    "user assistant system\n2+2? 4. The answer is that this is another thing in the world.",
] * 4
TEXTS = [
    "the quick brown fox",
    " leading and  double   spaces\tand a tab ",
    "lines\n\nand more\r\nof them \n",
    "",
    " ",
    "     ",
    "\n",
    "café naïve größer",
    "cafe\u0301 nai\u0308ve gro\u00dfer",
    "emoji 👩‍👩‍👧 🙂, 世界 мир",
    "don't WE'LL It's",
    "1234567 3.14 100,000",
    "a_b-c/d(e) [f] {g} \u00a0h\u2003i ﬁ Ⅳ",
    "antidisestablishmentarianism" * 8,
    "one BOSmiddleEOS two EOS",
    "ends EOS",
    "the endEOS",
    "say  [ADD]  now, foo[ADD]bar [add] ADDED",
    "<|im_start|>user\nhi<|im_end|>\n",
    "▁already ▁marked",
]
PAIRS = [
    ("the quick", " brown fox"),
    ("the quick ", "brown fox"),
    ("uno,dos,", "tres"),
    ("La pint", "ora."),
    ("", "all of it"),
    ("a prompt", ""),
    ("cafe", "\u0301 late"),
    ("a line\n", "\nthe next"),
    ("x  ", "  y"),
    ("emoji 👩", "\u200d👧"),
    ("the end.", " YesEOS"),
    ("theEOS", "quick"),
    ("the", " "),
]
CHATS = [
    [("user", "2+2?"), ("assistant", "4")],
    [("system", "the quick"), ("user", " brown "), ("assistant", "fox\n\njumps 🙂"), ("user", "no"), ("assistant", " ")],
]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False)


def byte_level(prefix=False, regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=regex)


def template(tokenizer, before=(), after=()):
    names = [*before, "$A", *after]
    special = [(name, tokenizer.token_to_id(name)) for name in {*before, *after}]
    return processors.TemplateProcessing(single=" ".join(names), pair=" ".join([*names, "$B"]), special_tokens=special)


def bytes_bpe(special, pre=None, normalizer=None, size=340, before=(), after=(), at_end=False, **model):
    """Byte-level BPE, its special tokens before or after the vocabulary."""
    tokenizer = Tokenizer(models.BPE(**model))
    tokenizer.pre_tokenizer = pre or byte_level()
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    first = [] if at_end else special
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=first, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(special)
    if before or after:
        tokenizer.post_processor = template(tokenizer, before, after)
    return tokenizer


def pieces_bpe(special=("<unk>", "<s>", "</s>"), before=("<s>",), after=(), metaspace=None, normalizer=None, prefix=True):
    """BPE as it is made of a sentencepiece model: pieces with byte fallback."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always" if prefix else "never", split=True)
    trained.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=220, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256))]
    if "▁" not in model["vocab"]:
        tokens.append("▁")
    tokens += [piece for piece, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    vocab = {token: id for id, token in enumerate(dict.fromkeys(tokens))}
    merges = [tuple(pair) for pair in model["merges"]]
    unk = next(token for token in special if "unk" in token)
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=unk, fuse_unk=True, byte_fallback=True))
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=metaspace, split=False)
    else:
        tokenizer.normalizer = normalizer or normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    tail = [decoders.Strip(" ", 1, 0)] if prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *tail]
    )
    tokenizer.add_special_tokens(list(special))
    if before or after:
        tokenizer.post_processor = template(tokenizer, before, after)
    return tokenizer


def unigram(special, before=(), after=(), scheme="always"):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = template(tokenizer, before, after)
    return tokenizer


def word_piece(lowercase):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=260, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = template(tokenizer, ["[CLS]"], ["[SEP]"])
    return tokenizer


def plain_bpe(**model):
    """BPE of characters without a way to write others."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", **model))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    affixes = {key: value for key, value in model.items() if key in ("end_of_word_suffix", "continuing_subword_prefix")}
    trainer = trainers.BpeTrainer(vocab_size=220, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False, **affixes)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.BPEDecoder(suffix=model.get("end_of_word_suffix") or "</w>")
    return tokenizer


def words():
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(True)])
    special = ["<unk>", "<s>", "</s>"]
    tokenizer.train_from_iterator(CORPUS, trainers.WordLevelTrainer(vocab_size=90, special_tokens=special, show_progress=False))
    return tokenizer


def change(tokenizer, **keys):
    """The file with other keys; `model__x` is a key of its model."""
    file = json.loads(tokenizer.to_str())
    for key, value in keys.items():
        if key.startswith("model__"):
            file["model"][key.removeprefix("model__")] = value
        else:
            file[key] = value
    return file


def token(content, **flags):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True, **flags}


END, IM = ["<|endoftext|>"], ["<|im_start|>", "<|im_end|>"]
L3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
DS = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"]
SP = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
GEMMA = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
FAST = "PreTrainedTokenizerFast"


def shapes():
    """Name, model type, tokenizer.json, tokenizer_config.json, other files."""
    gpt2 = bytes_bpe(END, at_end=True)
    ends = {"bos_token": END[0], "eos_token": END[0], "unk_token": END[0]}
    yield "gpt2", "gpt2", gpt2, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, **ends}
    yield "gpt2, no class named", "gpt2", gpt2, {"model_max_length": 1024}
    yield "gpt2, prefix space", "gpt2", bytes_bpe(END, byte_level(True)), {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True, **ends}
    yield "gpt2, prefix space in the file alone", "llama", bytes_bpe(END, byte_level(True)), {"tokenizer_class": FAST, **ends}
    yield "gpt2, prefix space in the config alone", "llama", gpt2, {"tokenizer_class": FAST, "add_prefix_space": True, **ends}
    yield "opt, BOS by its file", "gpt2", bytes_bpe(["<pad>", "</s>"], before=["</s>"]), {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True, "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}

    llama2 = pieces_bpe()
    yield "llama 2, legacy", "llama", llama2, {"tokenizer_class": "LlamaTokenizer", "legacy": True, "add_bos_token": True, "add_eos_token": False, **SP}
    yield "llama 2, not legacy", "llama", llama2, {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, **SP}
    code = pieces_bpe(("<unk>", "<s>", "</s>", "▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"))
    yield "code llama", "llama", code, {"tokenizer_class": "CodeLlamaTokenizer", "legacy": None, "fill_token": "<FILL_ME>", "prefix_token": "▁<PRE>", **SP}
    yield "llama 2, general class", "llama", llama2, {"tokenizer_class": FAST, **SP}
    yield "llama 2, no class named", "llama", llama2, dict(SP)
    yield "llama 2, no prefix space", "llama", pieces_bpe(prefix=False, normalizer=normalizers.Replace(" ", "▁")), {"tokenizer_class": FAST, "add_prefix_space": False, **SP}
    yield "llama 2, add_eos_token", "llama", llama2, {"tokenizer_class": "LlamaTokenizerFast", "legacy": False, "add_eos_token": True, **SP}
    yield "llama 2, no add_bos_token", "llama", llama2, {"tokenizer_class": "LlamaTokenizerFast", "legacy": False, "add_bos_token": False, **SP}
    yield "tinyllama, chat tokens in the config", "llama", llama2, {
        "tokenizer_class": "LlamaTokenizer", "legacy": False, **SP, "pad_token": "</s>",
        "added_tokens_decoder": {"0": token("<unk>"), "1": token("<s>"), "2": token("</s>"), str(llama2.get_vocab_size()): token(IM[0]), str(llama2.get_vocab_size() + 1): token(IM[1])},
    }  # fmt: skip
    phi3 = pieces_bpe()
    phi3.add_tokens([AddedToken(name, rstrip=True, special=True, normalized=False) for name in IM])
    yield "phi 3, tokens that take the space after them", "llama", phi3, {"tokenizer_class": "LlamaTokenizer", "legacy": False, "added_tokens_decoder": {"0": token("<unk>"), "1": token("<s>"), "2": token("</s>", rstrip=True), **{str(phi3.token_to_id(name)): token(name, rstrip=True) for name in IM}}, **SP}
    llama3 = bytes_bpe([*L3, *IM], pre_tokenizers.Sequence([split(LLAMA3), byte_level(regex=False)]), at_end=True, before=[L3[0]], ignore_merges=True)
    llama3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), llama3.post_processor])
    names = {"bos_token": L3[0], "eos_token": L3[2]}
    yield "llama 3", "llama", llama3, {"tokenizer_class": FAST, "clean_up_tokenization_spaces": True, **names}
    yield "llama 3, saved as a Llama tokenizer", "llama", llama3, {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, **names}
    yield "llama 3, Llama's class and no BOS", "llama", llama3, {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": False, "add_eos_token": True, **names}

    qwen_pre = pre_tokenizers.Sequence([split(QWEN2), byte_level(regex=False)])
    qwen = bytes_bpe([*END, *IM], qwen_pre, normalizers.NFC(), at_end=True)
    base = qwen.get_vocab_size(with_added_tokens=False)
    decoder = {str(base + i): token(name) for i, name in enumerate([*END, *IM])}
    qwen_config = {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "bos_token": None, "unk_token": None, "eos_token": IM[1], "pad_token": END[0], "additional_special_tokens": IM, "split_special_tokens": False, "errors": "replace"}
    yield "qwen 2.5", "qwen2", qwen, {**qwen_config, "added_tokens_decoder": decoder, "add_bos_token": False}
    yield "qwen 3, more tokens than the file", "qwen3", qwen, {**qwen_config, "added_tokens_decoder": {**decoder, str(base + 3): token("<think>", special=False), str(base + 4): token("</think>", special=False)}}
    yield "qwen 2, general class", "qwen2", qwen, {"tokenizer_class": FAST, "eos_token": END[0]}
    r1 = bytes_bpe([*DS, *IM], qwen_pre, at_end=True, before=[DS[0]])
    yield "deepseek r1 on qwen", "qwen2", r1, {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "add_eos_token": False, "legacy": True, "bos_token": {"__type": "AddedToken", **token(DS[0], normalized=True)}, "eos_token": {"__type": "AddedToken", **token(DS[1], normalized=True)}, "pad_token": DS[1]}
    coder = pre_tokenizers.Sequence([split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), pre_tokenizers.Digits(True), byte_level(regex=False)])
    yield "deepseek coder", "llama", bytes_bpe(DS, coder, normalizers.Sequence([]), at_end=True, before=[DS[0]]), {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "bos_token": {"__type": "AddedToken", **token(DS[0])}, "eos_token": {"__type": "AddedToken", **token(DS[1])}, "pad_token": DS[1]}
    yield "deepseek, BOS in the config alone", "llama", bytes_bpe(DS, coder, at_end=True), {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "bos_token": DS[0], "eos_token": DS[1]}

    yield "mistral", "llama", pieces_bpe(metaspace="first"), {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_prefix_space": None, **SP}
    yield "mistral, prefix everywhere", "llama", pieces_bpe(metaspace="always"), {"tokenizer_class": FAST, **SP}
    yield "mistral, no prefix", "llama", pieces_bpe(metaspace="never", prefix=False), {"tokenizer_class": FAST, **SP}
    gemma = pieces_bpe(GEMMA, before=["<bos>"], normalizer=normalizers.Replace(" ", "▁"), prefix=False)
    gemma.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    gemma_names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    yield "gemma", "llama", gemma, {"tokenizer_class": "GemmaTokenizerFast", "add_bos_token": True, **gemma_names}
    yield "gemma, general class", "llama", gemma, {"tokenizer_class": FAST, **gemma_names}

    yield "t5, EOS by its file", "llama", unigram(["<pad>", "</s>", "<unk>"], after=["</s>"]), {"tokenizer_class": FAST, "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    yield "xlm-roberta, both by its file", "llama", unigram(["<s>", "<pad>", "</s>", "<unk>"], ["<s>"], ["</s>"], "first"), {"tokenizer_class": FAST, "eos_token": "</s>", "bos_token": "<s>", "clean_up_tokenization_spaces": True}
    bert_names = {"cls_token": "[CLS]", "eos_token": "[SEP]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    yield "bert, lower case", "gpt2", word_piece(True), {"tokenizer_class": FAST, "clean_up_tokenization_spaces": True, **bert_names}
    yield "bert, cased", "llama", word_piece(False), {"tokenizer_class": FAST, **bert_names}

    phi = bytes_bpe(END, at_end=True)
    phi.add_tokens([AddedToken(" " * n, normalized=True) for n in range(4, 1, -1)] + [AddedToken("\t\t", normalized=False)])
    yield "phi 2, runs of spaces", "llama", phi, {"tokenizer_class": "CodeGenTokenizer", "add_prefix_space": False, "added_tokens_decoder": {str(id): token(t.content, normalized=t.normalized, special=t.special) for id, t in phi.get_added_tokens_decoder().items()}, **ends}
    smol = bytes_bpe([*END, *IM], pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level()]))
    yield "smollm 2", "llama", smol, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "additional_special_tokens": IM, "bos_token": IM[0], "eos_token": IM[1], "pad_token": IM[1], "unk_token": END[0], "clean_up_tokenization_spaces": False}
    yield "starcoder 2, merges across digits", "llama", change(smol, model__merges=[*json.loads(smol.to_str())["model"]["merges"], ["1", "2"], ["3", "4"], ["12", "34"]], model__vocab={**json.loads(smol.to_str())["model"]["vocab"], "12": 340, "34": 341, "1234": 342}), {"tokenizer_class": "GPT2Tokenizer", **ends}
    falcon = pre_tokenizers.Sequence([pre_tokenizers.Punctuation("contiguous"), byte_level(), pre_tokenizers.Digits(False), split("[0-9][0-9][0-9]")])
    yield "falcon", "llama", bytes_bpe(END, falcon), {"tokenizer_class": FAST, "eos_token": END[0]}
    neox = bytes_bpe([*END, "<|padding|>"], byte_level(), normalizers.NFC())
    yield "gpt-neox", "llama", neox, {"tokenizer_class": "GPTNeoXTokenizer", "add_prefix_space": False, **ends}
    olmo = bytes_bpe(["|||IP_ADDRESS|||", "<|padding|>", *END], byte_level(), normalizers.NFC(), after=END)
    olmo.add_tokens([AddedToken("   ", normalized=True)])
    yield "olmo, EOS by its file", "llama", olmo, {"tokenizer_class": "GPTNeoXTokenizerFast", "add_bos_token": False, "add_eos_token": False, "bos_token": None, "eos_token": END[0], "pad_token": "<|padding|>", "unk_token": None}
    bloom = pre_tokenizers.Sequence([split(r" ?[^(\s|[.,!?…。，、।۔،])]+"), byte_level(regex=False)])
    yield "bloom", "llama", bytes_bpe(["<unk>", "<s>", "</s>", "<pad>"], bloom), {"tokenizer_class": "BloomTokenizerFast", "pad_token": "<pad>", **SP}
    cohere = pre_tokenizers.Sequence([pre_tokenizers.Digits(True), byte_level()])
    command = ["<PAD>", "<UNK>", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>"]
    yield "command r", "llama", bytes_bpe(command, cohere, normalizers.NFC(), before=["<BOS_TOKEN>"]), {"tokenizer_class": FAST, "bos_token": command[2], "eos_token": command[3], "pad_token": command[0]}

    yield "EOS after a text", "llama", bytes_bpe(END, after=END), {"tokenizer_class": FAST, "eos_token": END[0]}
    yield "BOS before and EOS after a text", "llama", bytes_bpe(["<s>", "</s>"], before=["<s>"], after=["</s>"]), {"tokenizer_class": FAST, "bos_token": "<s>", "eos_token": "</s>"}
    yield "no post-processor, both in the config", "llama", bytes_bpe(["<s>", "</s>"]), {"tokenizer_class": FAST, "add_bos_token": True, "add_eos_token": True, "bos_token": "<s>", "eos_token": "</s>"}
    yield "truncation and padding in the file", "llama", change(bytes_bpe(END), truncation={"direction": "Right", "max_length": 6, "strategy": "LongestFirst", "stride": 0}, padding={"strategy": {"Fixed": 40}, "direction": "Left", "pad_to_multiple_of": 8, "pad_id": 0, "pad_type_id": 0, "pad_token": END[0]}), {"tokenizer_class": FAST, "eos_token": END[0], "model_max_length": 6}
    small = bytes_bpe([])
    size = small.get_vocab_size()
    yield "tokens in added_tokens_decoder alone", "llama", small, {"tokenizer_class": FAST, "eos_token": IM[1], "added_tokens_decoder": {str(size + i): token(name) for i, name in enumerate(["[ADD]", *IM])}}
    yield "tokens in the names alone", "llama", small, {"tokenizer_class": FAST, "eos_token": IM[1], "bos_token": {"__type": "AddedToken", **token(IM[0], lstrip=True)}, "pad_token": "[ADD]"}
    yield "tokens among the additional ones", "llama", small, {"tokenizer_class": FAST, "eos_token": "</s>", "additional_special_tokens": [*IM, "[ADD]"]}
    yield "tokens among the extra ones", "llama", small, {"tokenizer_class": FAST, "eos_token": "</s>", "extra_special_tokens": {"im_start_token": IM[0], "im_end_token": IM[1]}}
    yield "tokens in the older files", "llama", small, {"tokenizer_class": FAST, "eos_token": "</s>"}, {"special_tokens_map.json": {"eos_token": token(IM[1]), "bos_token": IM[0]}, "added_tokens.json": {"[ADD]": size, IM[0]: size + 1, IM[1]: size + 2}}
    yield "EOS of the vocabulary that is no added token", "llama", change(bytes_bpe(END), added_tokens=[]), {"tokenizer_class": FAST, "eos_token": END[0]}
    odd = bytes_bpe(END, normalizer=normalizers.Lowercase())
    odd.add_tokens([AddedToken("[ADD]", lstrip=True, rstrip=True, normalized=True), AddedToken("ADDED", single_word=True, normalized=False), AddedToken("it", single_word=True, normalized=True)])
    yield "added tokens with every flag", "llama", odd, {"tokenizer_class": FAST, "eos_token": END[0]}
    yield "special tokens are split", "llama", bytes_bpe([*END, *IM]), {"tokenizer_class": FAST, "eos_token": END[0], "split_special_tokens": True}
    yield "characters, unknown ones together", "llama", plain_bpe(fuse_unk=True), {"tokenizer_class": FAST, **SP}
    yield "suffixes of words", "gpt2", plain_bpe(end_of_word_suffix="</w>"), {"tokenizer_class": FAST, "clean_up_tokenization_spaces": True, **SP}
    yield "prefixes inside words", "llama", plain_bpe(continuing_subword_prefix="##"), {"tokenizer_class": FAST, **SP}
    yield "whole words", "llama", words(), {"tokenizer_class": FAST, **SP}
    yield "sequence of normalizers", "llama", bytes_bpe(END, normalizer=normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(), normalizers.Lowercase(), normalizers.Replace("the", "The"), normalizers.Prepend("_")])), {"tokenizer_class": FAST, "eos_token": END[0]}


def load(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(json.dumps(content))
        return AutoTokenizer.from_pretrained(folder)


def prepared(tokenizer, rows, assistant=False):
    """Ids and scored tokens as TRL's trainer prepares them."""
    trainer = SimpleNamespace(
        _tokenizer=tokenizer, completion_only_loss="prompt" in rows[0], chat_template=TEMPLATE, _is_vlm=False,
    )  # fmt: skip
    arguments = SimpleNamespace(
        dataset_num_proc=None, dataset_text_field="text", max_length=None, assistant_only_loss=assistant,
        truncation_mode="keep_start", shuffle_dataset=False, eos_token=None, packing_strategy="bfd", seed=0,
    )  # fmt: skip
    dataset = Dataset.from_list(rows)
    dataset = SFTTrainer._prepare_dataset(trainer, dataset, tokenizer, arguments, False, None, "train")
    for row in dataset:
        yield {"ids": row["input_ids"], "scored": [int(label != -100) for label in row["labels"]]}


def spans(tokenizer, messages):
    """The text of a conversation and the bytes of it that the assistant wrote."""
    from transformers.utils.chat_template_utils import render_jinja_template

    keys = {"conversations": [messages], "chat_template": TEMPLATE, "return_assistant_tokens_mask": True}
    texts, indices = render_jinja_template(**keys, add_generation_prompt=False, continue_final_message=False)
    at = lambda place: len(texts[0][:place].encode())
    return texts[0], [[at(begin), at(end)] for begin, end in indices[0]]


def cases(files):
    tokenizer = load(files)
    fill = lambda text: text.replace("BOS", tokenizer.bos_token or "").replace("EOS", tokenizer.eos_token)
    tokenizer.chat_template = TEMPLATE
    texts = [{"text": fill(text)} for text in TEXTS]
    for row, trained in zip(texts, prepared(tokenizer, copy.deepcopy(texts)), strict=True):
        ids = tokenizer(row["text"])["input_ids"]
        alone = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
        yield {**row, "with_special": ids, "alone": alone, "decoded": tokenizer.decode(ids, skip_special_tokens=True), **trained}
    pairs = [{"prompt": fill(prompt), "completion": fill(completion)} for prompt, completion in PAIRS]
    for row, trained in zip(pairs, prepared(tokenizer, copy.deepcopy(pairs)), strict=True):
        yield {**row, **trained}
    turn = lambda part: [{"role": role, "content": content} for role, content in part]
    chats = [turn(chat) for chat in CHATS]
    rows = [{"messages": chat} for chat in chats]
    for chat, trained in zip(chats, prepared(tokenizer, rows, True), strict=True):
        text, parts = spans(tokenizer, chat)
        yield {"chat": text, "assistant": parts, **trained}
    rows = [{"prompt": chat[:-1], "completion": chat[-1:]} for chat in chats]
    for chat, trained in zip(chats, prepared(tokenizer, rows), strict=True):
        render = lambda messages, begun: tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=begun)
        yield {"chat_prompt": render(chat[:-1], True), "chat": render(chat, False), **trained}


def write(rows):
    lines = [json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows]
    FILE.write_text("\n".join(lines) + "\n")


def newest():
    for name, model_type, tokenizer, config, *others in shapes():
        file = tokenizer if isinstance(tokenizer, dict) else json.loads(tokenizer.to_str())
        files = {"config.json": {"model_type": model_type}, "tokenizer.json": file, "tokenizer_config.json": config}
        files |= others[0] if others else {}
        print(name, flush=True)
        yield {"name": name, "files": files, "cases": list(cases(files))}


def older():
    """Adds to each case what this version makes otherwise."""
    for line in FILE.read_text().splitlines():
        shape = json.loads(line)
        print(shape["name"], flush=True)
        texts = ("text", "prompt", "completion", "chat", "chat_prompt", "assistant", "older")
        for case, other in zip(shape["cases"], cases(shape["files"]), strict=True):
            # a token that one version has and the other has not stands in the text of a case
            case.pop("older", None)
            differs = {key: other[key] for key in other if key not in texts and other[key] != case[key]}
            if differs:
                case["older"] = differs
        yield shape


write(list(newest() if transformers.__version__.startswith("5") else older()))
