"""From a spec to a better model: submit, watch, load, fine-tune with TRL, compare. With a daemon at DPG_URL and its token
in DPG_TOKEN, in a Python that has torch, transformers, datasets and trl:

    python example.py

The target is to lose less on Spanish. The generator is asked, in English, to rephrase English articles. The recipe below
is that of the spec's `[target.sft]`: rewards are about one recipe, and the data works best with it.
"""

import json
import tempfile
from pathlib import Path

import datasets
import torch
import transformers
import trl

import dpg

# where the models are that `embedded:` names, for PyTorch
EMBEDDED = Path(__file__).resolve().parents[2] / "config/embedded"
MODEL = EMBEDDED / "target"

SPEC = """
name = "spanish-example"
[target]
model = "embedded:target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-4, betas = [0.9, 0.95], eps = 1e-8, eps_root = 1e-4, weight_decay = 1e-4 }
batch_size = 192
sequence_length = 96
[metric]
kind = "held_out_loss"
data = { path = "embedded:held-out/es.jsonl", column = "text" }
[generator]
model = "embedded:generator"
prompts = { path = "embedded:prompts/articles.jsonl", column = "text", validation_share = 0.2 }
template = "Rephrase the article.\\n{text}\\n"
min_new_tokens = 8
max_new_tokens = 64
temperature = 0.5
[policy]
steps = 16
prompts_per_step = 48
group_size = 4
advantage = "global"
advantage_clip = 4.0
learning_rate = 1e-3
kl = 0.05
minibatch_prompts = 48
validate_every = 8
validation_examples = 64
[output]
examples = 192
group_size = 1
"""


def texts(file):
    with open(EMBEDDED / file, encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def fine_tuned(rows):
    """The model after one epoch of supervised fine-tuning on `rows`."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = trl.SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=192,
            num_train_epochs=1,
            learning_rate=1e-4,
            lr_scheduler_type="constant",
            adam_beta2=0.95,
            weight_decay=1e-4,
            max_length=96,
            seed=0,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
        trainer = trl.SFTTrainer(model=model, args=recipe, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
        return trainer.model


@torch.no_grad()
def loss(model):
    """The mean over Spanish texts of the cross-entropy of a text's tokens, as the metric has it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)
    model.eval()
    losses = []
    for text in texts("held-out/es.jsonl"):
        tokens = tokenizer(text, return_tensors="pt").input_ids.to(model.device)
        losses.append(model(input_ids=tokens, labels=tokens).loss)
    return torch.stack(losses).mean().item()


# submit
client = dpg.Client()
job = client.submit(SPEC, key="spanish-example")

# watch
for event in client.events(job):
    if event.kind == "validation":
        languages = {name: round(share, 2) for name, share in event.detail["outputs"].items()}
        print(f"after {event.detail['step']} steps: Phi {event.detail['phi']:.5f} {languages}", flush=True)
job = client.wait(job)

# load
rows = client.dataset(job.name, job.result["version"])
for row in rows.sort("reward", reverse=True).select(range(3)):
    print(f"{row['reward']:.2e}  {row['text'].strip()}")

# fine-tune
untrained = transformers.AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
prompts = datasets.Dataset.from_dict({"text": texts("prompts/articles.jsonl")[: len(rows)]})

# compare
print(f"\n{'fine-tuned on':16} loss on Spanish")
print(f"{'nothing':16} {loss(untrained):.4f}")
print(f"{'its prompts':16} {loss(fine_tuned(prompts)):.4f}")
print(f"{'the dataset':16} {loss(fine_tuned(rows.select_columns('text'))):.4f}")
