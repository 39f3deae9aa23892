// The page: who is signed in, which view is shown, and the frame around it.

import { html, render, useEffect, useRef, useState } from './vendor/htm-preact.js';
import { call, connection } from './api.js';
import { Loading, Trouble } from './parts.js';
import { Overview } from './views/overview.js';
import { Jobs } from './views/jobs.js';
import { Job } from './views/job.js';
import { Datasets } from './views/datasets.js';
import { Dataset } from './views/dataset.js';
import { Compare } from './views/compare.js';
import { Schedules } from './views/schedules.js';
import { NewJob } from './views/new.js';
import { SignIn } from './views/sign-in.js';

/** The views by the first part of the address after `#/`, with their place in the navigation. */
const VIEWS = {
  '': [Overview, 'Overview'],
  jobs: [Jobs, 'Jobs'],
  job: [Job, 'Jobs'],
  datasets: [Datasets, 'Datasets'],
  dataset: [Dataset, 'Datasets'],
  compare: [Compare, 'Compare'],
  schedules: [Schedules, 'Schedules'],
  new: [NewJob, 'New job'],
};
const NAVIGATION = [['', 'Overview'], ['jobs', 'Jobs'], ['datasets', 'Datasets'], ['compare', 'Compare'],
  ['schedules', 'Schedules'], ['new', 'New job']];

function where() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [view, ...parts] = path.split('/').filter(Boolean).map(decodeURIComponent);
  return { view: view ?? '', parts, query: Object.fromEntries(new URLSearchParams(query)) };
}

function Connection() {
  const [state, set] = useState('');
  useEffect(() => {
    const heard = (event) => set(event.detail);
    connection.addEventListener('change', heard);
    return () => connection.removeEventListener('change', heard);
  }, []);
  const words = { live: 'live', away: 'the daemon is away; trying again' };
  return html`<span class="connection ${state}" role="status">${words[state] ?? ''}</span>`;
}

function App() {
  const [session, setSession] = useState(undefined);
  const [trouble, setTrouble] = useState(null);
  const [place, setPlace] = useState(where());
  const main = useRef();

  const ask = async () => {
    try {
      setSession(await call('/v1/session'));
      setTrouble(null);
    } catch (error) {
      if (error.status === 401) setSession(null);
      else {
        setTrouble(error);
        setTimeout(ask, 2000);
      }
    }
  };
  useEffect(() => {
    const moved = () => {
      const next = where();
      setPlace((before) => {
        // another part of the same view keeps the reader's place
        if (before.view !== next.view || before.parts[0] !== next.parts[0]) {
          scrollTo(0, 0);
          requestAnimationFrame(() => main.current?.focus({ preventScroll: true }));
        }
        return next;
      });
    };
    const out = () => setSession(null);
    addEventListener('hashchange', moved);
    addEventListener('signed-out', out);
    ask();
    return () => {
      removeEventListener('hashchange', moved);
      removeEventListener('signed-out', out);
    };
  }, []);

  const [View, section] = VIEWS[place.view] ?? [Lost, ''];
  useEffect(() => {
    document.title = [...place.parts.slice(0, 1), section || 'not found', 'dpg'].join(' · ');
  }, [place, section]);

  if (session === undefined) return html`<main class="alone"><${Trouble} error=${trouble} />${!trouble && html`<${Loading} what="the page" />`}</main>`;
  if (session === null) return html`<${SignIn} done=${setSession} />`;
  const leave = async () => {
    // a token that has ended is signed out already
    await call('/v1/session', { method: 'DELETE' }).catch(() => {});
    setSession(null);
  };
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>To the content</a>
    <header>
      <a class="brand" href="#/"><img src="page/icon.svg" alt="" width="20" height="20" /> dpg</a>
      <nav aria-label="Views">${NAVIGATION.map(([view, name]) => html`
        <a key=${view} href="#/${view}" aria-current=${name === section ? 'page' : null}>${name}</a>`)}</nav>
      <${Connection} />
      <span class="who"><span title="scopes: ${session.scopes.join(', ')}">${session.name}</span>
        <button class="small" onClick=${leave}>Sign out</button></span>
    </header>
    <main id="main" ref=${main} tabindex="-1">
      <${View} key=${place.view + (place.parts[0] ?? '')} ...${place} session=${session} />
    </main>
  `;
}

const Lost = () => html`<h1>There is no such view</h1><p><a href="#/">To the overview</a></p>`;

render(html`<${App} />`, document.getElementById('app'));
