// Code that reads a version, to be pasted.

import { html } from '../vendor/htm-preact.js';
import { Code } from '../parts.js';

export function CodeOf({ version }) {
  const [name, reference] = [version.dataset, `v${version.number}`];
  const here = location.origin;
  const parquet = `${here}/datasets/dpg/${name}/resolve/${reference}/data/train-00000-of-00001.parquet`;
  const environment = `export HF_ENDPOINT=${here}\nexport HF_TOKEN=...   # a token with the scope read`;
  return html`
    <p>Each of these reads <strong>${name}@${reference}</strong> from this daemon, with a token in the environment.</p>
    <${Code} label="environment" text=${environment} />
    <${Code} label="datasets" text=${`from datasets import load_dataset

rows = load_dataset("dpg/${name}", revision="${reference}", split="train")`} />
    <${Code} label="TRL" text=${`from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

rows = load_dataset("dpg/${name}", revision="${reference}", split="train")
SFTTrainer(model="MODEL", train_dataset=rows, args=SFTConfig(output_dir="out")).train()`} />
    <${Code} label="DuckDB" text=${`CREATE SECRET (TYPE http, BEARER_TOKEN '...');
SELECT * FROM read_parquet('${parquet}')
ORDER BY reward DESC LIMIT 10;`} />
    <${Code} label="Polars" text=${`import os
import polars as pl
from huggingface_hub import snapshot_download

folder = snapshot_download("dpg/${name}", repo_type="dataset", revision="${reference}")
rows = pl.scan_parquet(os.path.join(folder, "data", "train-*.parquet")).filter(pl.col("reward") > 0).collect()`} />
    <${Code} label="curl" text=${`curl -fL -H "Authorization: Bearer $HF_TOKEN" -o train.parquet \\
  ${here}/v1/datasets/${name}/versions/${version.number}/files/data/train-00000-of-00001.parquet`} />
    <${Code} label="dpg" text=${`dpg fetch ${name}@${reference} FOLDER   # every hash is checked`} />
  `;
}
