"""Fine-tunes a model on datasets with TRL's SFTTrainer and PyTorch's own AdamW, and measures its loss on held-out texts.

    python trl_dataset.py MODEL HELD_OUT.jsonl DATASET... [--lora 8] [--learning-rate 1e-3] [--batch-size 24]
        [--epochs 1] [--max-length 64] [--seeds 3]

MODEL is a Hugging Face folder, HELD_OUT.jsonl has a `text` in every line, a DATASET is a Parquet or JSONL file with a
column `text` or `messages`, such as one that `dpg fetch` has written. Nothing of dpg takes part. Each line that it
prints is a dataset: the mean over the held-out texts of each one's mean loss, for every seed of the trainer's
shuffling. Needs trl, peft and datasets.
"""

import argparse
import json
import tempfile

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


@torch.no_grad()
def loss(model, tokenizer, texts):
    model.eval()
    each = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        each.append(model(input_ids=ids, labels=ids).loss.item())
    return sum(each) / len(each)


def train(arguments, path, seed):
    kind = "parquet" if path.endswith(".parquet") else "json"
    dataset = load_dataset(kind, data_files=path, split="train", cache_dir=arguments.cache)
    kept = [name for name in dataset.column_names if name in ("text", "messages", "prompt", "completion")]
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    recipe = SFTConfig(
        output_dir=arguments.cache,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        per_device_train_batch_size=arguments.batch_size,
        num_train_epochs=arguments.epochs,
        max_length=arguments.max_length,
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    lora = LoraConfig(r=arguments.lora, lora_alpha=2 * arguments.lora, target_modules="all-linear", lora_dropout=0.0)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    trainer = SFTTrainer(
        model=model,
        args=recipe,
        train_dataset=dataset.select_columns(kept),
        processing_class=tokenizer,
        peft_config=lora if arguments.lora else None,
    )
    torch.manual_seed(seed)
    trainer.train()
    return trainer.model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("held_out")
    parser.add_argument("dataset", nargs="+")
    parser.add_argument("--lora", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--limit", type=int, help="held-out texts that are read, from the first")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    with open(arguments.held_out) as file:
        texts = [json.loads(line)["text"] for line in file][: arguments.limit]
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    untrained = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    print(f"untrained: {loss(untrained, tokenizer, texts):.4f}", flush=True)
    del untrained
    with tempfile.TemporaryDirectory() as arguments.cache:
        for path in arguments.dataset:
            found = [loss(train(arguments, path, seed), tokenizer, texts) for seed in range(arguments.seeds)]
            print(f"{path}: {', '.join(f'{value:.4f}' for value in found)}", flush=True)


if __name__ == "__main__":
    main()
