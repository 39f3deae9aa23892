// The overview: the queue, what runs, on which machines, and what was made last. It is live.

import { html, useEffect, useState } from '../vendor/htm-preact.js';
import { at, call, follow } from '../api.js';
import { count, number } from '../format.js';
import { Empty, Loading, Progress, State, Table, Time, Trouble, VersionLink, useNow } from '../parts.js';

export function Overview() {
  const [overview, set] = useState(null);
  const [error, setError] = useState(null);
  const [datasets, setDatasets] = useState(null);
  const now = useNow();
  useEffect(() => {
    // at once what there is; the stream comes after it
    call('/v1/overview').then(set, setError);
    return follow(() => '/v1/overview/live', { overview: (heard) => { set(heard); setError(null); } });
  }, []);
  const made = overview?.counts.succeeded;
  useEffect(() => {
    call(at(['datasets'])).then((of) => setDatasets(of.datasets), () => {});
  }, [made]);
  if (!overview) return error ? html`<${Trouble} error=${error} />` : html`<${Loading} what="the queue" />`;
  const { counts, running, queued, ended, machines } = overview;
  const nothing = !Object.values(counts).some(Boolean);
  return html`
    <h1>Overview</h1>
    <ul class="counts">${Object.entries(counts).map(([state, jobs]) => html`
      <li key=${state} class=${jobs ? '' : 'none'}><a href="#/jobs?state=${state}"><b>${number(jobs)}</b><${State} of=${state} /></a></li>`)}</ul>
    ${nothing && html`<${Empty}><p>Nothing was submitted yet. <a href="#/new">Write a spec</a>, or submit one:</p>
      <pre tabindex="0">dpg submit config/specs/spanish.toml</pre><//>`}
    <section aria-labelledby="running"><h2 id="running">Running</h2>
      ${running.length === 0
        ? html`<p class="quiet">${counts.queued ? 'No worker has a job at the moment.' : 'Nothing runs.'}</p>`
        : html`<${Table} label="Running jobs" head=${['Job', 'Progress', { name: 'Phi', numeric: true }, 'Worker', 'Submitted']}>
          ${running.map((job) => html`<tr key=${job.id}>
            <td><a href="#/job/${job.id}"><strong>${job.name}</strong></a> ${job.cancel_requested && html`<${State} of="running" stopping />`}</td>
            <td><${Progress} job=${job} /></td>
            <td class="numeric">${number(job.progress?.phi)}</td>
            <td class="quiet">${job.worker}</td>
            <td><${Time} at=${job.created} now=${now} /></td></tr>`)}<//>`}
    </section>
    ${queued.length > 0 && html`<section aria-labelledby="queued"><h2 id="queued">Waiting</h2>
      <${Table} label="Waiting jobs" head=${['Job', { name: 'Priority', numeric: true }, { name: 'Attempts', numeric: true }, 'Submitted']}>
        ${queued.slice(0, 10).map((job) => html`<tr key=${job.id}>
          <td><a href="#/job/${job.id}"><strong>${job.name}</strong></a></td><td class="numeric">${job.priority}</td>
          <td class="numeric">${job.attempts} of ${job.max_attempts}</td><td><${Time} at=${job.created} now=${now} /></td></tr>`)}<//>
      ${counts.queued > 10 && html`<p><a href="#/jobs?state=queued">All ${count(counts.queued, 'job')} that wait</a></p>`}
    </section>`}
    <div class="columns">
      <section aria-labelledby="ended"><h2 id="ended">Ended last</h2>
        ${ended.length === 0 ? html`<p class="quiet">No job has ended yet.</p>` : html`
        <${Table} label="Jobs that ended last" head=${['Job', 'State', 'Made', 'Ended']}>
          ${ended.slice(0, 12).map((job) => html`<tr key=${job.id}><td><a href="#/job/${job.id}">${job.name}</a></td>
            <td><${State} of=${job.state} /></td>
            <td>${job.result?.dataset ? html`<${VersionLink} name=${job.result.dataset} />` : ''}</td>
            <td><${Time} at=${job.finished} now=${now} /></td></tr>`)}<//>`}
      </section>
      <section aria-labelledby="made"><h2 id="made">Datasets</h2><${Newest} of=${datasets} now=${now} /></section>
    </div>
    <section aria-labelledby="machines"><h2 id="machines">Machines</h2>
      ${machines.length === 0 ? html`<p class="quiet">No machine has worked on these jobs yet.</p>` : html`
      <${Table} label="Machines" head=${['Machine', { name: 'Running', numeric: true }, 'Heard of']}>
        ${machines.map((machine) => html`<tr key=${machine.name}><td>${machine.name}</td><td class="numeric">${machine.running}</td>
          <td><${Time} at=${machine.seen} now=${now} /></td></tr>`)}<//>`}
    </section>
  `;
}

function Newest({ of, now }) {
  if (!of) return html`<${Loading} what="the datasets" />`;
  const newest = of.filter((dataset) => dataset.latest)
    .sort((one, other) => other.latest.published_at.localeCompare(one.latest.published_at));
  if (newest.length === 0) return html`<p class="quiet">Nothing is published yet.</p>`;
  return html`<${Table} label="Newest datasets" head=${['Latest version', { name: 'Rows', numeric: true }, 'Published']}>
    ${newest.slice(0, 12).map(({ latest }) => html`<tr key=${latest.dataset}>
      <td><${VersionLink} name="${latest.dataset}@v${latest.number}" /></td><td class="numeric">${number(latest.rows)}</td>
      <td><${Time} at=${latest.published_at} now=${now} /></td></tr>`)}<//>`;
}
