// Two versions or two runs beside each other.

import { html, useEffect, useState } from '../vendor/htm-preact.js';
import { at, call } from '../api.js';
import { leaves, number, percent, words } from '../format.js';
import { Facts, Loaded, Loading, Table, Tabs, Trouble, VersionLink, useLoad } from '../parts.js';
import { Chart } from '../chart.js';
import { Row } from './row.js';

export function Compare({ parts }) {
  const [kind = 'versions', one = '', other = ''] = parts;
  const View = kind === 'jobs' ? Runs : Versions;
  const both = one && other;
  return html`
    <h1>Compare</h1>
    <${Tabs} label="What to compare" base="#/compare" now=${kind} of=${[['versions', 'Versions'], ['jobs', 'Runs']]} />
    <${Choice} key=${kind + one + other} kind=${kind} one=${one} other=${other} />
    ${both && html`<${View} key=${one + other} one=${one} other=${other} />`}
  `;
}

/** Names of what there is to compare. */
async function known(kind) {
  if (kind === 'jobs') {
    const { jobs } = await call(at(['jobs'], { limit: 200 }));
    return jobs.filter((job) => job.progress).map((job) => ({ value: job.id, label: `${job.name}, ${job.state} ${job.created.slice(0, 16).replace('T', ' ')}` }));
  }
  const { datasets } = await call(at(['datasets']));
  return datasets.slice(0, 200).flatMap(({ name, versions }) =>
    Array.from({ length: Math.min(versions, 20) }, (_, place) => ({ value: `${name}@v${versions - place}` })));
}

function Choice({ kind, one, other }) {
  const [choices, set] = useState([]);
  const [wanted, want] = useState([one, other]);
  useEffect(() => { known(kind).then(set, () => {}); }, [kind]);
  const go = (event) => {
    event.preventDefault();
    location.hash = `#/compare/${kind}/${wanted.map((name) => encodeURIComponent(name.trim())).join('/')}`;
  };
  const example = kind === 'jobs' ? 'a job’s id or name' : 'NAME@v1';
  const field = (place, label) => html`<label>${label} <input required list="known" placeholder=${example} value=${wanted[place]}
    onInput=${(event) => want(wanted.map((old, index) => (index === place ? event.target.value : old)))} /></label>`;
  return html`
    <form class="filters" onSubmit=${go}>${field(0, 'From')}${field(1, 'To')}
      <datalist id="known">${choices.map((of) => html`<option key=${of.value} value=${of.value}>${of.label ?? ''}</option>`)}</datalist>
      <button class="first">Compare</button></form>
  `;
}

function Versions({ one, other }) {
  const [dataset, reference = 'latest'] = other.split('@');
  const compared = useLoad(at(['datasets', dataset, 'versions', reference, 'compare'], { with: one }));
  return html`<${Loaded} of=${compared} what="the comparison">${(of) => {
    const statistic = ([key, name, show = number]) => html`<tr key=${key}><th scope="row">${name}</th><td class="numeric">${show(of.rewards_from[key])}</td><td class="numeric">${show(of.rewards_to[key])}</td></tr>`;
    const head = (what) => [what, { name: of.from, numeric: true }, { name: of.to, numeric: true }];
    return html`
      <p>From <${VersionLink} name=${of.from} /> to <${VersionLink} name=${of.to} />.</p>
      <${Facts} of=${[['Rows kept', number(of.rows_kept)], ['Rows new', number(of.rows_added)], ['Rows gone', number(of.rows_removed)],
        ['Correlation of rewards', of.rewards_correlation === null ? 'too few rows are in both' : number(of.rewards_correlation)]]} />
      <div class="columns">
        <section><h2>Rewards</h2><${Table} label="Rewards" head=${head('Statistic')}>${[['mean', 'mean'], ['std', 'standard deviation'], ['min', 'smallest'],
          ['median', 'median'], ['max', 'largest'], ['positive', 'above 0', percent]].map(statistic)}<//></section>
        <section><h2>Validation</h2><${Table} label="Validation" head=${head('Figure')}>${of.metrics.map((metric) => html`
          <tr key=${metric.name}><th scope="row">${metric.name}</th><td class="numeric">${number(metric.from)}</td><td class="numeric">${number(metric.to)}</td></tr>`)}<//></section>
      </div>
      <section><h2>Spec</h2>${of.spec.length === 0 ? html`<p class="quiet">Both have the same spec.</p>` : html`
        <${Table} label="Spec" head=${['Setting', of.from, of.to]}>${of.spec.map((setting) => html`<tr key=${setting.key}><td><code>${setting.key}</code></td>
          <td><code>${setting.from ?? 'not set'}</code></td><td><code>${setting.to ?? 'not set'}</code></td></tr>`)}<//>`}</section>
      <div class="columns">
        <${Some} title="Rows that are new" of=${of.came} spread=${of.rewards_to.std} />
        <${Some} title="Rows that are gone" of=${of.gone} spread=${of.rewards_from.std} />
      </div>`;
  }}<//>`;
}

const Some = ({ title, of, spread }) => html`<section><h2>${title}</h2>
  ${of.length === 0 ? html`<p class="quiet">None.</p>` : html`<ol class="rows">${of.map((row) => html`<${Row} key=${row.row} of=${row} spread=${spread} />`)}</ol>`}</section>`;

const TITLES = { phi: 'Phi', reward_std: 'Spread of rewards', reward_mean: 'Mean reward', kl: 'KL to the first generator', entropy: 'Entropy', length: 'Tokens a completion', money: 'Money spent' };

function Runs({ one, other }) {
  const jobs = [one, other].map((id) => [useLoad(at(['jobs', id])), useLoad(at(['jobs', id, 'series']))]);
  const error = jobs.flat().find((of) => of.error)?.error;
  if (error) return html`<${Trouble} error=${error} />`;
  if (!jobs.flat().every((of) => of.data)) return html`<${Loading} what="both runs" />`;
  const runs = jobs.map(([job, series], place) => ({ name: `${place ? 'to' : 'from'} ${job.data.name}`, job: job.data, series: series.data }));
  const proxies = [...new Set(runs.flatMap((run) => run.series.validations.flatMap((of) => Object.keys(of.proxies ?? {}))))];
  const settings = runs.map((run) => run.job.resolved);
  return html`
    <p>From <a href="#/job/${runs[0].job.id}">${runs[0].job.name}</a> (${runs[0].job.state}) to <a href="#/job/${runs[1].job.id}">${runs[1].job.name}</a> (${runs[1].job.state}).</p>
    <h2 class="unseen">Curves</h2>
    <div class="charts">
      ${Object.entries(TITLES).filter(([key]) => runs.some((run) => run.series.curves[key])).map(([key, title]) => html`
        <${Chart} key=${key} title=${title} lines=${runs.filter((run) => run.series.curves[key]).map((run) => ({ name: run.name, x: run.series.step, y: run.series.curves[key] }))} />`)}
      ${proxies.map((key) => html`<${Chart} key=${key} title=${words(key)} lines=${runs.map((run) => ({ name: run.name, dots: true,
        x: run.series.validations.map((of) => of.step), y: run.series.validations.map((of) => of.proxies?.[key] ?? null) }))} />`)}
    </div>
    <section><h2>Settings that differ</h2><${Differences} of=${settings} names=${runs.map((run) => run.name)} /></section>
  `;
}

function Differences({ of, names }) {
  const [one, other] = of.map((spec) => new Map(leaves(spec ?? {}).map(([path, inner]) => [path, JSON.stringify(inner)])));
  const keys = [...new Set([...one.keys(), ...other.keys()])].filter((key) => one.get(key) !== other.get(key));
  if (keys.length === 0) return html`<p class="quiet">Both have the same settings.</p>`;
  return html`<${Table} label="Settings that differ" head=${['Setting', ...names]}>${keys.map((key) => html`<tr key=${key}><td><code>${key}</code></td>
    <td><code>${one.get(key) ?? '–'}</code></td><td><code>${other.get(key) ?? '–'}</code></td></tr>`)}<//>`;
}
