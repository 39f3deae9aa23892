// Signing in: a token is exchanged for a cookie that no script can read.

import { html, useState } from '../vendor/htm-preact.js';
import { call } from '../api.js';
import { Trouble } from '../parts.js';

export function SignIn({ done }) {
  const [token, setToken] = useState('');
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const enter = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const headers = { authorization: `Bearer ${token.trim()}` };
      done(await call('/v1/session', { method: 'POST', headers }));
    } catch (refused) {
      const wrong = refused.status === 401;
      setError(wrong ? { detail: 'This token is not known here, or it has ended.', hint: refused.detail } : refused);
      setBusy(false);
    }
  };
  return html`
    <main class="alone">
      <h1><img src="page/icon.svg" alt="" width="28" height="28" /> dpg</h1>
      <p>Sign in to this daemon with a token.</p>
      <form onSubmit=${enter}>
        <label for="token">Token</label>
        <input id="token" type="password" autocomplete="current-password" required value=${token}
          aria-describedby="token-help" onInput=${(event) => setToken(event.target.value)} />
        <button class="first" disabled=${busy}>${busy ? 'Signing in …' : 'Sign in'}</button>
      </form>
      <${Trouble} error=${error} />
      <p id="token-help" class="quiet">The first token is in the file <code>admin.token</code> of the daemon's data folder. It makes others:
        <code>dpg token create NAME --scope read</code>.</p>
    </main>
  `;
}
