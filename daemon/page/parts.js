// What several views are made of.

import { html, useCallback, useEffect, useRef, useState } from './vendor/htm-preact.js';
import { call } from './api.js';
import { ago, clock, duration, number } from './format.js';

/** What an address of the API gives: `data` once it is there, `error` if the last try failed. */
export function useLoad(path) {
  const [state, set] = useState({});
  const latest = useRef(path);
  latest.current = path;
  const load = useCallback(async () => {
    if (!path) return;
    try {
      const data = await call(path);
      if (latest.current === path) set({ path, data });
    } catch (error) {
      if (latest.current !== path) return;
      set((old) => ({ path, data: old.path === path ? old.data : undefined, error }));
      // whoever is away comes back
      if (error.status === 0 || error.status === 503) setTimeout(() => latest.current === path && load(), 2000);
    }
  }, [path]);
  useEffect(() => {
    // the effect of the path before has ended after this rendering
    latest.current = path;
    load();
    return () => (latest.current = null);
  }, [load]);
  const fresh = state.path === path ? state : {};
  return { data: fresh.data, error: fresh.error, reload: load };
}

const MARKS = { queued: '○', running: '◐', succeeded: '✓', failed: '✕', cancelled: '–' };

/** A job's state: a mark and a word, so that it is not told by colour alone. */
export const State = ({ of, stopping }) => html`
  <span class="state ${of}"><span aria-hidden="true">${MARKS[of]}</span> ${stopping && of === 'running' ? 'stopping' : of}</span>
`;

export const Time = ({ at, now }) =>
  at ? html`<time datetime=${at} title=${clock(at)}>${ago(at, now)}</time>` : '–';

/** A text with what stands between backticks as code. */
export const ticked = (text) => text.split('`').map((part, place) => (place % 2 ? html`<code>${part}</code>` : part));

/** What went wrong, and what to do about it. */
export function Trouble({ error, children }) {
  if (!error) return null;
  return html`
    <div class="trouble" role="alert">
      <p><strong>${ticked(error.detail ?? String(error))}</strong></p>
      ${error.errors?.length > 0 && html`<ul>${error.errors.map((fault) => html`
        <li>${fault.line && html`line ${fault.line}, `}${fault.path && html`<code>${fault.path}</code>: `}${ticked(fault.message)}</li>`)}</ul>`}
      ${error.hint && html`<p class="hint">${ticked(error.hint)}</p>`}
      ${children}
    </div>
  `;
}

/** What there is to do where nothing is yet. */
export const Empty = ({ children }) => html`<div class="empty">${children}</div>`;

export const Loading = ({ what }) => html`<p class="loading" role="status">Loading ${what} …</p>`;

/** The data once it is there, and until then what is the matter. */
export function Loaded({ of, what, children }) {
  if (of.data) return html`<${Trouble} error=${of.error} />${children(of.data)}`;
  return of.error ? html`<${Trouble} error=${of.error} />` : html`<${Loading} what=${what} />`;
}

/** A table that scrolls by itself where the screen is narrow. */
export const Table = ({ label, head, children }) => html`
  <div class="scroll" role="group" aria-label=${label} tabindex="0">
    <table>
      <thead><tr>${head.map((of) => {
        const { name, numeric } = typeof of === 'string' ? { name: of } : of;
        return html`<th scope="col" class=${numeric ? 'numeric' : ''}>${name}</th>`;
      })}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>
`;

/** Names and values. */
export const Facts = ({ of }) => html`
  <dl class="facts">${of.filter(Boolean).map(([name, what]) => html`<div key=${name}><dt>${name}</dt><dd>${what}</dd></div>`)}</dl>
`;

/** How far a running job is. */
export function Progress({ job }) {
  const { stage, step = 0, steps = 0, eta_seconds: left } = job.progress ?? {};
  if (job.state !== 'running') return null;
  if (!stage) return html`<span class="quiet">preparing</span>`;
  return html`
    <div class="progress">
      <progress max=${steps || 1} value=${step} aria-label="Steps of ${job.name}"></progress>
      <span>${stage === 'training' ? `step ${number(step)} of ${number(steps)}` : stage}${
        stage === 'training' && left != null ? `, ${duration(left)} left` : ''}</span>
    </div>
  `;
}

/** Links between the parts of a view, of which one is shown. */
export const Tabs = ({ label, of, base, now }) => html`
  <nav class="tabs" aria-label=${label}>${of.map(([key, name]) => html`
    <a key=${key} href="${base}/${key}" aria-current=${key === now ? 'page' : null}>${name}</a>`)}</nav>
`;

/** Text to take along, with a button that copies it. */
export function Code({ label, text }) {
  const [copied, set] = useState('');
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set('Copied');
    } catch {
      // without TLS browsers may not
      set('Select and copy it by hand');
    }
    setTimeout(() => set(''), 2000);
  };
  return html`
    <figure class="code">
      <figcaption><span>${label}</span><button class="small" onClick=${copy} aria-label="Copy ${label}">Copy</button>
        <span role="status" class="quiet">${copied}</span></figcaption>
      <pre tabindex="0" aria-label=${label}><code>${text}</code></pre>
    </figure>
  `;
}

/** A button that calls the API and says what came of it. */
export function Act({ path, method = 'POST', body, sure, done, disabled, kind = '', children }) {
  const [state, set] = useState({});
  const act = async () => {
    if (sure && !confirm(sure)) return;
    set({ busy: true });
    try {
      const answer = await call(path, { method, body });
      set({});
      done?.(answer);
    } catch (error) {
      set({ error });
    }
  };
  return html`
    <button class=${kind} onClick=${act} disabled=${disabled || state.busy}>${children}</button>
    ${state.error && html`<${Trouble} error=${state.error} />`}
  `;
}

/** The time, anew every few seconds, so that what was a while ago ages. */
export function useNow(seconds = 10) {
  const [now, set] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => set(Date.now()), seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
  return now;
}

/** Whether the signed-in token may do this. */
export const may = (session, scope) => session.scopes.includes('admin') || session.scopes.includes(scope);

/** A version's name as a link. */
export function VersionLink({ name }) {
  const [dataset, version] = name.split('@');
  return html`<a href="#/dataset/${dataset}/${version}">${name}</a>`;
}
