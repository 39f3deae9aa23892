// Calls of the API, and streams of it that are taken up again after a break.

/** Why a call was refused: the API's problem document, or that nobody answers. */
export class Problem extends Error {
  constructor({ status = 0, detail, hint = '', errors = [] }) {
    super(detail);
    Object.assign(this, { status, detail, hint, errors });
  }
}

const away = () =>
  new Problem({ detail: 'The daemon does not answer.', hint: 'It may be restarting. This page tries again by itself.' });

/** Calls the API and gives the JSON of its answer. `body` is sent as JSON, a `spec` as TOML. */
export async function call(path, { method = 'GET', body, headers = {} } = {}) {
  const sent = { ...headers };
  // the daemon believes the cookie of a change only with this
  if (method !== 'GET') sent['x-dpg-page'] = '1';
  if (body !== undefined) sent['content-type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw away();
  }
  if (answer.status === 204) return null;
  let document = null;
  try {
    document = await answer.json();
  } catch {
    throw new Problem({ status: answer.status, detail: 'The answer is not of this API.', hint: 'Is a proxy in between?' });
  }
  if (answer.ok) return document;
  if (answer.status === 401) dispatchEvent(new Event('signed-out'));
  throw new Problem(document);
}

/** An address below the API of parts that are escaped, with a query. */
export function at(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const search = new URLSearchParams(given).toString();
  return `/v1/${parts.map(encodeURIComponent).join('/')}${search ? `?${search}` : ''}`;
}

/** Whether the stream in sight is connected, for whoever shows it: `live`, `away`, or nothing. */
export const connection = new EventTarget();
let state = '';
function tell(now) {
  if (now === state) return;
  state = now;
  connection.dispatchEvent(new CustomEvent('change', { detail: now }));
}

/**
 * Follows a stream of server-sent events. `address` gives where to begin each time; `on` has a function for each
 * kind of message. Gives what ends it. A hidden page lets its connection go: a browser has few for one daemon.
 */
export function follow(address, on) {
  let source = null;
  let timer = null;
  let wait = 500;
  let ended = false;
  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = () => {
    close();
    if (ended || document.hidden) return;
    source = new EventSource(address());
    source.onopen = () => {
      wait = 500;
      tell('live');
    };
    source.onerror = () => {
      tell('away');
      close();
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, 5000);
    };
    for (const [kind, hear] of Object.entries(on)) {
      source.addEventListener(kind, (message) => hear(JSON.parse(message.data)));
    }
  };
  const seen = () => (document.hidden ? close() : source || open());
  document.addEventListener('visibilitychange', seen);
  open();
  return () => {
    ended = true;
    document.removeEventListener('visibilitychange', seen);
    close();
    tell('');
  };
}
