"""Fine-tunes a model with TRL's own SFTTrainer at its defaults: what `preset = "trl"` must equal.

    python sft_trainer.py [--packing LENGTH] MODEL ROWS.json OUT [ADAPTER]

MODEL is a Hugging Face folder, ROWS.json a list of texts as lists of token ids, OUT the folder that the
fine-tuned model is saved to. ADAPTER is a folder of LoRA adapters, which peft loads and which are then trained in the
place of the model. With `--packing`, rows of LENGTH tokens are packed. Nothing else of the recipe is set here. What is set: the order of the rows, which is
the file's; precision, which is single; no dropout; and the batch's memory, not its size.
"""

import argparse
import json
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from peft import PeftModel
from torch.utils.data import SequentialSampler
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer


class InFileOrder(SFTTrainer):
    def _get_train_sampler(self, dataset=None):
        return SequentialSampler(dataset if dataset is not None else self.train_dataset)


def main(folder, rows, out, adapter=None, packing=None):
    config = AutoConfig.from_pretrained(folder)
    for name in vars(config):
        if name.endswith(("pdrop", "dropout")):
            setattr(config, name, 0.0)
    rope = getattr(config, "rope_parameters", None)
    if rope and transformers.__version__.startswith("4."):
        # as transformers 4 names what a folder of transformers 5 says
        config.rope_theta = rope["rope_theta"]
        config.rope_scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    model = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
    if adapter:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=True)
    # there is nothing to encode; SFTTrainer asks for these two
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"))
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.convert_ids_to_tokens(config.eos_token_id)
    with open(rows) as file:
        dataset = Dataset.from_dict({"input_ids": json.load(file)})
    packed = {"packing": True, "max_length": packing} if packing else {}
    arguments = SFTConfig(
        output_dir=out,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        **packed,
    )
    trainer = InFileOrder(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    trainer.model.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packing", type=int)
    for name in ["folder", "rows", "out"]:
        parser.add_argument(name)
    parser.add_argument("adapter", nargs="?")
    main(**vars(parser.parse_args()))
