// A row of a dataset, wherever it is shown. Its texts were written by a model: they are shown and never run.

import { html } from '../vendor/htm-preact.js';
import { count, number } from '../format.js';
import { Facts } from '../parts.js';
import { Reward } from '../chart.js';

/** A row: its reward, its text, and how it came about. */
export function Row({ of, spread }) {
  const { example, record } = of;
  return html`
    <li><${Reward} of=${of.reward} spread=${spread} />
      <div class="example"><${Example} of=${example} /></div>
      ${record && html`<details><summary>row ${number(of.row)}${record.n_tokens != null ? `, ${count(record.n_tokens, 'token')}` : ''}${record.arm ? `, ${record.arm}` : ''}</summary><${Facts} of=${[
        ['Prompt', html`<span class="text">${record.prompt || 'none'}</span>`], ['Step', number(record.step)], ['Advantage', number(record.advantage)],
        ['Log-probability', number(record.logprob)], ['Id', html`<code>${of.example_id}</code>`]]} /></details>`}
    </li>
  `;
}

function Example({ of }) {
  const turns = of.messages ?? Object.entries(of).map(([role, content]) => ({ role, content }));
  const text = (content) => (typeof content === 'string' ? content : JSON.stringify(content));
  return html`${turns.map((turn, place) => html`<div key=${place} class="turn">
    ${turns.length > 1 && html`<span class="role">${turn.role}</span>`}<p class="text">${text(turn.content)}</p></div>`)}`;
}
