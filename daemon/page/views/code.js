// Code that reads a version, to be pasted.

import { html } from '../vendor/htm-preact.js';
import { at } from '../api.js';
import { Code, Loaded, useLoad } from '../parts.js';

export function CodeOf({ path, version }) {
  const [name, reference] = [version.dataset, `v${version.number}`];
  const detail = useLoad(at(path));
  const environment = `export HF_ENDPOINT=${location.origin}\nexport HF_TOKEN=...   # a token with the scope read`;
  const load = `from datasets import load_dataset

rows = load_dataset("dpg/${name}", revision="${reference}", split="train")`;
  const curl = (file) => `curl -fL -H "Authorization: Bearer $HF_TOKEN" -O \\
  ${location.origin}${at([...path, 'files'])}/${file.path}`;
  return html`
    <p>Each of these reads <strong>${name}@${reference}</strong> from this daemon, with its address and a token in the environment.</p>
    <${Code} label="environment" text=${environment} />
    <${Code} label="datasets" text=${load} />
    <${Code} label="TRL" text=${`${load.replace('\n\n', '\nfrom trl import SFTConfig, SFTTrainer\n\n')}
SFTTrainer(model="MODEL", train_dataset=rows, args=SFTConfig(output_dir="out")).train()`} />
    <${Code} label="Polars" text=${`import polars as pl
from huggingface_hub import snapshot_download

folder = snapshot_download("dpg/${name}", repo_type="dataset", revision="${reference}")
rows = pl.scan_parquet(f"{folder}/data/train-*.parquet").filter(pl.col("reward") > 0).collect()`} />
    <${Code} label="DuckDB" text=${`import duckdb
from huggingface_hub import snapshot_download

folder = snapshot_download("dpg/${name}", repo_type="dataset", revision="${reference}")
rows = duckdb.sql(f"FROM '{folder}/data/train-*.parquet' ORDER BY reward DESC LIMIT 10")`} />
    <${Loaded} of=${detail} what="the names of the files">${({ files }) => html`<${Code} label="curl"
      text=${files.filter((file) => file.path.startsWith('data/train-')).map(curl).join('\n')} />`}<//>
    <${Code} label="dpg" text=${`dpg fetch ${name}@${reference} FOLDER   # every hash is checked`} />
  `;
}
