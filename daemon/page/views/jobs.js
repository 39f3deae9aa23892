// All jobs, a page at a time, newest first.

import { html, useEffect, useState } from '../vendor/htm-preact.js';
import { at, call } from '../api.js';
import { number } from '../format.js';
import { Empty, Loading, State, Table, Time, Trouble, VersionLink, useNow } from '../parts.js';

const STATES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'];

export function Jobs({ query }) {
  const { state = '', name = '' } = query;
  const [pages, set] = useState({ jobs: null });
  const [error, setError] = useState(null);
  const now = useNow();
  const load = async (cursor) => {
    try {
      const page = await call(at(['jobs'], { state, name, cursor, limit: 50 }));
      set((old) => ({ jobs: [...(cursor ? old.jobs : []), ...page.jobs], next: page.next }));
      setError(null);
    } catch (refused) {
      setError(refused);
    }
  };
  useEffect(() => {
    set({ jobs: null });
    load();
  }, [state, name]);
  const go = (change) => {
    const wanted = Object.entries({ state, name, ...change }).filter(([, value]) => value);
    location.hash = `#/jobs?${new URLSearchParams(wanted)}`;
  };
  const { jobs, next } = pages;
  return html`
    <h1>Jobs</h1>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label>State <select value=${state} onChange=${(event) => go({ state: event.target.value })}>
        <option value="">all</option>${STATES.map((of) => html`<option key=${of} value=${of}>${of}</option>`)}</select></label>
      <label>Dataset <input value=${name} placeholder="all" onChange=${(event) => go({ name: event.target.value.trim() })} /></label>
    </form>
    <${Trouble} error=${error} />
    ${!jobs && !error && html`<${Loading} what="the jobs" />`}
    ${jobs?.length === 0 && html`<${Empty}><p>${state || name ? 'No such job.' : html`No job yet. <a href="#/new">Write a spec</a>.`}</p><//>`}
    ${jobs?.length > 0 && html`<${Table} label="Jobs" head=${['Job', 'State', 'Made', { name: 'Phi', numeric: true }, { name: 'Priority', numeric: true }, 'Submitted', 'Ended']}>
      ${jobs.map((job) => html`<tr key=${job.id}><td><a href="#/job/${job.id}">${job.name}</a></td><td><${State} of=${job.state} stopping=${job.cancel_requested} /></td>
        <td>${job.result?.dataset ? html`<${VersionLink} name=${job.result.dataset} />` : ''}</td>
        <td class="numeric">${number(job.result?.validation?.[0]?.after ?? job.progress?.phi)}</td><td class="numeric">${job.priority}</td>
        <td><${Time} at=${job.created} now=${now} /></td><td><${Time} at=${job.finished} now=${now} /></td></tr>`)}<//>`}
    ${next && html`<p><button onClick=${() => load(next)}>Older jobs</button></p>`}
  `;
}
