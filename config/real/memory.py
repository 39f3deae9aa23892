"""What `dpg plan` says of memory and time, beside what `dpg run` takes: `python memory.py DPG MODEL HELD_OUT.jsonl CASE`.

DPG is the program, MODEL a Hugging Face folder with a chat template, and CASE a number of inner steps, with all
weights or, as in `8-lora`, with LoRA. Held-out texts have a `text` a line. Needs Linux.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = """
name = "memory"
[target]
model = "{model}"
{lora}
[target.sft]
optimizer = {{ kind = "adamw", learning_rate = 1e-4, eps_root = 1e-6 }}
batch_size = 2
sequence_length = 64
[metric]
kind = "held_out_loss"
sequence_length = 160
data = {{ path = "{held_out}", column = "text", limit = 2 }}
[generator]
model = "{model}"
{lora}
prompts = {{ path = "{prompts}", column = "text" }}
template = "chat"
max_new_tokens = 16
min_new_tokens = 16
[policy]
steps = 1
prompts_per_step = {steps}
group_size = 2
validate_every = 100
validation_examples = 2
minibatch_prompts = 1
[output]
examples = 2
"""


def main():
    dpg, model, held_out, case = sys.argv[1:5]
    steps, _, kind = case.partition("-")
    lora = 'lora = { rank = 8, alpha = 16, targets = "all-linear" }' if kind == "lora" else ""
    prompts = Path(__file__).resolve().parent / "subjects.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.toml"
        model, held_out = Path(model).resolve(), Path(held_out).resolve()
        spec.write_text(SPEC.format(model=model, held_out=held_out, prompts=prompts, steps=steps, lora=lora))
        command = [dpg, "--data-dir", f"{folder}/data"]
        plan = json.loads(subprocess.check_output([*command, "plan", "--json", spec]))
        before = time.monotonic()
        run = subprocess.Popen([*command, "run", "--json", spec], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(run.pid, 0)
        seconds = time.monotonic() - before
    if status != 0:
        sys.exit("the run failed")
    peak = used.ru_maxrss * 1024
    megabytes = [plan["inner_run_vector_bytes"], plan["peak_bytes"], peak]
    told = " | ".join(f"{bytes / 1e6:,.0f} MB" for bytes in megabytes)
    print(f"| {case} | {told} | {plan['estimated_seconds']:.0f} s | {seconds:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
