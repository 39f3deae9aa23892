// A job: its curves, what its validations wrote and drew, its spec and its history. It is live.

import { html, useEffect, useRef, useState } from '../vendor/htm-preact.js';
import { at, call, follow } from '../api.js';
import { clock, duration, leaves, number, value, words } from '../format.js';
import { Act, Empty, Facts, Loaded, Loading, Progress, State, Table, Tabs, Time, Trouble, VersionLink, may, useLoad, useNow } from '../parts.js';
import { Chart, Pattern, right } from '../chart.js';
import { Row } from './row.js';

/** Curves with their titles; those that a run does not measure are left out. */
const CURVES = [
  ['reward_std', 'Spread of rewards'], ['reward_mean', 'Mean reward'], ['kl', 'KL to the first generator'], ['entropy', 'Entropy'],
  ['length', 'Tokens a completion'], ['clip_fraction', 'Clipped share'], ['seconds', 'Seconds a step'],
  ['tokens', 'Tokens of the teacher'], ['money', 'Money spent'],
];
const AT_ONCE = 300;

/** A job with its curves and its newest events, kept up to date by its stream. */
function useJob(id) {
  const [, again] = useState(0);
  const [error, setError] = useState(null);
  const kept = useRef({ job: null, series: null, events: [] });
  useEffect(() => {
    kept.current = { job: null, series: null, events: [] };
    let stop = null;
    let pending = null;
    let gone = false;
    // many messages are one drawing
    const show = () => (pending ??= setTimeout(() => { pending = null; again((times) => times + 1); }, 100));
    const hear = (event) => {
      const { series, events, job } = kept.current;
      if (event.seq <= series.last_event) return;
      series.last_event = event.seq;
      job.last_event = event.seq;
      if (event.kind === 'steps') event.detail.records.forEach((record) => addStep(series, record));
      else events.push(event);
      if (event.kind === 'validation') {
        series.validations = [...series.validations.filter((known) => known.step !== event.detail.step), event.detail];
      }
      if (event.kind === 'claimed') call(at(['jobs', id])).then((fresh) => { kept.current.job = fresh; show(); }, () => {});
      show();
    };
    const begin = async () => {
      try {
        const [job, series] = await Promise.all([call(at(['jobs', id])), call(at(['jobs', id, 'series']))]);
        const after = Math.max(0, series.last_event - AT_ONCE);
        const { events } = await call(at(['jobs', id, 'events'], { after, limit: 500 }));
        if (gone) return;
        const known = events.filter((event) => event.kind !== 'steps' && event.seq <= series.last_event);
        kept.current = { job, series, events: known };
        setError(null);
        show();
        if (job.finished) return;
        stop = follow(() => at(['jobs', id, 'logs'], { after: series.last_event }), {
          event: hear,
          progress: (progress) => {
            kept.current.job = { ...kept.current.job, state: 'running', progress };
            show();
          },
          end: (ended) => {
            kept.current.job = { ...kept.current.job, ...ended };
            stop?.();
            show();
          },
        });
      } catch (refused) {
        setError(refused);
        if (refused.status === 0 || refused.status === 503) setTimeout(() => !gone && begin(), 2000);
      }
    };
    kept.current.begin = begin;
    begin();
    return () => {
      gone = true;
      clearTimeout(pending);
      stop?.();
    };
  }, [id]);
  const put = (job) => {
    kept.current.job = { ...kept.current.job, ...job };
    again((times) => times + 1);
  };
  return { ...kept.current, error, put };
}

function addStep(series, record) {
  const place = series.step.indexOf(record.step);
  if (place >= 0) return;
  series.step.push(record.step);
  series.steps_made += 1;
  const total = record.account?.total;
  const told = { ...record, tokens: total?.completion_tokens, money: total?.money };
  for (const name of ['phi', ...CURVES.map(([curve]) => curve)]) {
    if (typeof told[name] !== 'number' && !series.curves[name]) continue;
    series.curves[name] ??= Array(series.step.length - 1).fill(null);
    series.curves[name].push(told[name] ?? null);
  }
}

export function Job({ parts, session }) {
  const [id, tab = 'curves'] = parts;
  const { job, series, events, error, put } = useJob(id);
  const now = useNow(1);
  if (!job) return error ? html`<h1>Job</h1><${Trouble} error=${error} />` : html`<${Loading} what="the job" />`;
  const base = `#/job/${id}`;
  return html`
    <div class="title"><h1>${job.name}</h1><${State} of=${job.state} stopping=${job.cancel_requested} />
      ${job.result?.dataset && html`<span>made <${VersionLink} name=${job.result.dataset} /></span>`}</div>
    <${Trouble} error=${error} />
    <${Progress} job=${job} />
    ${job.error && job.state !== 'succeeded' && html`<div class="trouble"><p><strong>The last attempt failed</strong></p><pre tabindex="0">${job.error}</pre></div>`}
    ${job.result?.quality?.warnings?.length > 0 && html`<div class="trouble"><p><strong>What was made has faults</strong></p>
      <ul>${job.result.quality.warnings.map((why) => html`<li key=${why}>${why}</li>`)}</ul></div>`}
    <${Facts} of=${[
      ['Phi', number(series.curves.phi?.at(-1) ?? series.validations.at(-1)?.phi)],
      ['Steps', `${number(series.step.at(-1) ?? 0)} of ${number(job.progress?.steps ?? job.resolved?.policy?.steps)}`],
      ['Submitted', html`<${Time} at=${job.created} now=${now} />`],
      job.finished && ['Took', duration((Date.parse(job.finished) - Date.parse(job.created)) / 1000)],
      ['Worker', job.worker ?? '–'],
      ['Attempts', `${job.attempts} of ${job.max_attempts}`],
      ['Priority', job.priority],
    ]} />
    ${may(session, 'submit') && html`<${Actions} job=${job} put=${put} />`}
    <${Tabs} label="Parts of the job" base=${base} now=${tab} of=${[['curves', 'Curves'], ['samples', 'Samples'], ['spec', 'Spec'], ['events', 'Events']]} />
    ${tab === 'curves' && html`<${Curves} job=${job} series=${series} />`}
    ${tab === 'samples' && html`<${Samples} of=${series.validations} made=${job.result?.dataset} />`}
    ${tab === 'spec' && html`<${Spec} job=${job} />`}
    ${tab === 'events' && html`<${Events} of=${events} />`}
  `;
}

function Actions({ job, put }) {
  const [priority, set] = useState(job.priority);
  const path = (action) => at(['jobs', job.id, action]);
  const live = job.state === 'queued' || job.state === 'running';
  return html`
    <div class="actions">
      ${live && html`<${Act} path=${path('cancel')} sure="Cancel this job?" done=${put} disabled=${job.cancel_requested}>Cancel<//>`}
      ${!live && job.state !== 'succeeded' && html`<${Act} path=${path('retry')} done=${() => location.reload()}>Retry<//>`}
      ${job.state === 'queued' && html`<label>Priority <input type="number" value=${priority} onInput=${(event) => set(Number(event.target.value))} /></label>
        <${Act} path=${path('priority')} method="PUT" body=${{ priority }} done=${put} disabled=${priority === job.priority}>Set<//>`}
      <a class="button" href="#/new?from=${job.id}">New job like this</a>
      <a class="button" href="#/compare/jobs/${job.id}">Compare</a>
    </div>
  `;
}

/** Names of a validation's figures, and the lines of each. */
function figures(validations, kind) {
  const names = [...new Set(validations.flatMap((of) => Object.keys(of[kind] ?? {})))];
  const x = validations.map((of) => of.step);
  return names.map((name) => ({ name, x, y: validations.map((of) => of[kind]?.[name] ?? null), dots: true }));
}

function Curves({ job, series }) {
  const { step, curves, validations } = series;
  if (step.length === 0 && validations.length === 0) {
    return html`<${Empty}><p>${job.state === 'queued' ? 'The job waits for a worker: its curves begin with its first step.' : 'No step was made yet.'}</p><//>`;
  }
  const phi = [{ name: 'steps', x: step, y: curves.phi ?? [] },
    { name: 'validations', x: validations.map((of) => of.step), y: validations.map((of) => of.phi), dots: true }];
  // shares of languages and the like belong together
  const outputs = figures(validations, 'outputs').slice(0, 6);
  const patterns = validations.filter((of) => of.patterns?.length > 0);
  return html`
    ${patterns.length > 0 && html`<${Film} of=${patterns} />`}
    <h2 class="unseen">Curves</h2>
    <div class="charts">
      <${Chart} title="Phi" lines=${phi.filter((line) => line.x.length)} />
      ${figures(validations, 'proxies').map((line) => html`<${Chart} key=${line.name} title=${words(line.name)} lines=${[line]} />`)}
      ${outputs.length > 0 && html`<${Chart} title="Generations" lines=${outputs} />`}
      ${CURVES.filter(([name]) => curves[name]).map(([name, title]) => html`
        <${Chart} key=${name} title=${title} lines=${[{ name: title, x: step, y: curves[name] }]} />`)}
    </div>
  `;
}

/** What each validation drew into the target, in the order of its steps. */
function Film({ of }) {
  const [sure, set] = useState(false);
  const hasMargins = of.some((validation) => validation.patterns.some((pattern) => pattern.margins));
  return html`
    <section aria-labelledby="film"><h2 id="film">What was drawn</h2>
      ${hasMargins && html`<p><label><input type="checkbox" checked=${sure} onChange=${(event) => set(event.target.checked)} /> pixels that moved little are grey</label></p>`}
      <div class="film scroll" role="group" aria-label="Frames" tabindex="0">${of.map((validation) => html`
        <figure key=${validation.step}>${validation.patterns.map((pattern) => html`
          <${Pattern} key=${pattern.name} of=${pattern} sure=${sure} label="${pattern.name} after step ${validation.step}" />`)}
          <figcaption>step ${number(validation.step)}<br /><b>${number(sum(validation.patterns, right))} of ${number(sum(validation.patterns, (one) => one.wanted.length))}</b>
            ${validation.patterns.some((one) => one.text) && html`<br />reads “${validation.patterns.map((one) => one.text ?? '?').join('')}”`}</figcaption>
        </figure>`)}</div>
      <p class="quiet">Orange pixels are set and should not be; pale ones are not set and should be.</p>
    </section>
  `;
}

const sum = (of, what) => of.reduce((total, one) => total + what(one), 0);

function Samples({ of, made }) {
  const [step, set] = useState(null);
  if (of.length === 0) return html`<${Empty}><p>The first validation has not been made yet.</p><//>`;
  const shown = of.find((validation) => validation.step === step) ?? of.at(-1);
  return html`
    <form class="filters" onSubmit=${(event) => event.preventDefault()}><label>Validation after step
      <select value=${shown.step} onChange=${(event) => set(Number(event.target.value))}>
        ${of.map((validation) => html`<option key=${validation.step} value=${validation.step}>${validation.step}</option>`)}</select></label></form>
    <${Facts} of=${[['Phi', number(shown.phi)], ...Object.entries({ ...shown.proxies, ...shown.outputs }).map(([name, figure]) => [words(name), number(figure)])]} />
    ${shown.greedy && html`<h2>The likeliest text</h2><blockquote>${shown.greedy}</blockquote>`}
    <h2>Samples</h2>
    <ol class="samples">${shown.samples.map((text, place) => html`<li key=${place}><blockquote>${text || html`<i class="quiet">nothing</i>`}</blockquote></li>`)}</ol>
    ${made ? html`<${Extremes} of=${made} />` : html`<p class="quiet">Validations measure all their generations at once. Each row gets a reward of its own when the dataset is scored.</p>`}
  `;
}

/** The rows that help most and least, of what was published. */
function Extremes({ of }) {
  const [dataset, version] = of.split('@v');
  const path = ['datasets', dataset, 'versions', version];
  const best = useLoad(at([...path, 'rows'], { order: '-reward', limit: 5 }));
  const worst = useLoad(at([...path, 'rows'], { order: 'reward', limit: 5 }));
  const summary = useLoad(at([...path, 'rewards'], { bins: 2 }));
  const list = (title, rows) => html`<section><h2>${title}</h2><${Loaded} of=${rows} what="the rows">${(page) => html`
    <ol class="rows">${page.rows.map((row) => html`<${Row} key=${row.row} of=${row} spread=${summary.data?.statistics.std} />`)}</ol>`}<//></section>`;
  return html`<div class="columns">${list('Published rows with the largest rewards', best)}${list('With the smallest', worst)}</div>
    <p><a href="#/dataset/${dataset}/v${version}/rows">All rows of ${of}</a></p>`;
}

function Spec({ job }) {
  const written = new Set(job.written);
  const isWritten = (path) => [...written].some((key) => key === path || path.startsWith(`${key}.`));
  const settings = leaves(job.resolved ?? {});
  const [all, set] = useState(false);
  const shown = settings.filter(([path]) => all || isWritten(path));
  return html`
    <div class="columns">
      <section><h2>As it was written</h2><pre class="spec" tabindex="0" aria-label="Spec">${job.spec}</pre></section>
      <section><h2>${all ? 'Every setting' : 'What was set'}</h2>
        <p><label><input type="checkbox" checked=${all} onChange=${(event) => set(event.target.checked)} /> with the ${settings.length - settings.filter(([path]) => isWritten(path)).length} defaults</label></p>
        <${Table} label="Settings" head=${['Setting', 'Value']}>${shown.map(([path, of]) => html`
          <tr key=${path} class=${isWritten(path) ? 'set' : 'quiet'}><td><code>${path}</code></td><td><code>${value(of)}</code>${isWritten(path) ? '' : ' (default)'}</td></tr>`)}<//>
      </section>
    </div>
    <p class="quiet">The spec's hash is <code>${job.spec_sha256}</code>.</p>
  `;
}

function Events({ of }) {
  return html`
    <${Table} label="Events" head=${[{ name: 'No.', numeric: true }, 'Time', 'What happened', 'Particulars']}>${[...of].reverse().map((event) => html`
      <tr key=${event.seq}><td class="numeric">${event.seq}</td><td class="numeric">${clock(event.at)}</td><td>${words(event.kind)}</td>
        <td>${particulars(event)}</td></tr>`)}<//>
    <p class="quiet">Steps are in the curves. <code>dpg logs</code> prints all events.</p>
  `;
}

/** An event in one line; what is long is elsewhere on the page. */
function particulars({ kind, detail }) {
  if (kind === 'validation') return `step ${detail.step}, Phi ${number(detail.phi)}`;
  const short = Object.entries(detail ?? {}).filter(([, of]) => of !== null && typeof of !== 'object');
  return short.map(([name, of]) => `${words(name)}: ${typeof of === 'number' ? number(of) : value(of)}`).join(', ');
}
