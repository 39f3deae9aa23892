// Schedules: when they are due next, what they did, and pausing them.

import { html, useEffect, useState } from '../vendor/htm-preact.js';
import { at } from '../api.js';
import { clock } from '../format.js';
import { Act, Empty, Facts, Loaded, State, Table, Time, VersionLink, may, useLoad, useNow } from '../parts.js';

export function Schedules({ session }) {
  const list = useLoad('/v1/schedules');
  return html`
    <h1>Schedules</h1>
    <${Loaded} of=${list} what="the schedules">${({ schedules }) => (schedules.length === 0
      ? html`<${Empty}><p>There is no schedule. One submits a spec again and again:</p>
        <pre tabindex="0">dpg schedule add nightly spec.toml --cron '0 2 * * *' --time-zone Europe/Berlin</pre><//>`
      : schedules.map((schedule) => html`<${Schedule} key=${schedule.id} of=${schedule} session=${session} changed=${list.reload} />`))}<//>
  `;
}

function Schedule({ of, session, changed }) {
  const detail = useLoad(at(['schedules', of.name]));
  const jobs = useLoad(at(['jobs'], { schedule: of.id, limit: 10 }));
  const now = useNow(30);
  const again = () => { changed(); detail.reload(); jobs.reload(); };
  const path = (action) => at(['schedules', of.name, action]);
  return html`
    <section class="card" aria-labelledby="schedule-${of.id}">
      <div class="title"><h2 id="schedule-${of.id}">${of.name}</h2>${of.paused && html`<span class="tag">paused</span>`}<code>${of.cron}</code></div>
      <${Facts} of=${[
        ['Next', of.next ? html`<${Time} at=${of.next} now=${now} />, ${clock(of.next, of.time_zone)}` : 'not while it is paused'],
        ['Zone', of.time_zone], ['If one still runs', { skip: 'the next is left out', queue: 'the next waits', replace: 'it is cancelled' }[of.overlap]],
        ['Times missed', { none: 'are left out', one: 'are made up for once', all: 'are all made up for' }[of.catchup]],
        of.jitter_seconds > 0 && ['Jitter', `up to ${of.jitter_seconds} s`]]} />
      ${may(session, 'admin') && html`<div class="actions">
        ${of.paused ? html`<${Act} path=${path('resume')} done=${again}>Resume<//>` : html`<${Act} path=${path('pause')} done=${again}>Pause<//>`}
        <${Act} path=${path('run')} done=${again}>Run now<//></div>`}
      <div class="columns">
        <div><h3>Next times</h3><${Loaded} of=${detail} what="the next times">${({ upcoming }) => html`
          <ul class="plain">${upcoming.map((time) => html`<li key=${time}><time datetime=${time}>${clock(time, of.time_zone)}</time></li>`)}</ul>`}<//></div>
        <div><h3>Past runs</h3><${Loaded} of=${jobs} what="the past runs">${({ jobs: past }) => (past.length === 0 ? html`<p class="quiet">It has not been due yet.</p>` : html`
          <${Table} label="Past runs of ${of.name}" head=${['Due', 'State', 'Made']}>${past.map((job) => html`<tr key=${job.id}>
            <td><a href="#/job/${job.id}">${clock(job.due ?? job.created, of.time_zone)}</a></td><td><${State} of=${job.state} /></td>
            <td>${job.result?.dataset ? html`<${VersionLink} name=${job.result.dataset} />` : ''}</td></tr>`)}<//>`)}<//></div>
      </div>
    </section>
  `;
}
