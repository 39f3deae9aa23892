// A new job: a spec with what is wrong with it, what could be added, and its plan.

import { html, useEffect, useRef, useState } from '../vendor/htm-preact.js';
import { at, call } from '../api.js';
import { bytes, duration, number } from '../format.js';
import { Facts, Trouble, may, ticked, useLoad } from '../parts.js';
import { suggestions } from './complete.js';

export function NewJob({ query, session }) {
  const templates = useLoad('/v1/specs/templates');
  const schema = useLoad('/v1/specs/schema');
  const like = useLoad(query.from ? at(['jobs', query.from]) : null);
  const [spec, setSpec] = useState('');
  const [checked, setChecked] = useState({});
  const [plan, setPlan] = useState({});
  const [priority, setPriority] = useState(0);
  const [submitted, setSubmitted] = useState({});
  useEffect(() => { if (like.data && !spec) setSpec(like.data.spec); }, [like.data]);
  useEffect(() => {
    setChecked({});
    setPlan({});
    if (!spec.trim()) return undefined;
    let gone = false;
    const timer = setTimeout(() => {
      call('/v1/specs/check', { method: 'POST', body: { spec } })
        .then((good) => gone || setChecked({ good }), (error) => gone || setChecked({ error }));
    }, 400);
    return () => { gone = true; clearTimeout(timer); };
  }, [spec]);
  if (!may(session, 'submit')) {
    return html`<h1>New job</h1><${Trouble} error=${{ detail: `The token ${session.name} may not submit jobs.`, hint: 'Sign in with one that has the scope submit: dpg token create NAME --scope read,submit' }} />`;
  }
  const make = async () => {
    setPlan({ busy: true });
    try {
      setPlan({ made: await call('/v1/specs/plan', { method: 'POST', body: { spec } }) });
    } catch (error) {
      setPlan({ error });
    }
  };
  const submit = async () => {
    setSubmitted({ busy: true });
    try {
      const { job } = await call('/v1/jobs', { method: 'POST', body: { spec, priority } });
      location.hash = `#/job/${job.id}`;
    } catch (error) {
      setSubmitted({ error });
    }
  };
  const { good, error } = checked;
  return html`
    <h1>New job</h1>
    <form class="filters" onSubmit=${(event) => event.preventDefault()}>
      <label>Begin with <select onChange=${(event) => {
        const chosen = templates.data?.templates.find((of) => of.name === event.target.value);
        if (chosen && (!spec.trim() || confirm('Replace what is written?'))) setSpec(chosen.spec);
      }}><option value="">an empty spec</option>${templates.data?.templates.map((of) => html`<option key=${of.name} value=${of.name}>${of.name}: ${of.description}</option>`)}</select></label>
    </form>
    <${Trouble} error=${templates.error ?? like.error} />
    <${Editor} text=${spec} change=${setSpec} schema=${schema.data} faults=${error?.errors ?? []} />
    <div role="status" class="verdict">
      ${!spec.trim() ? html`<span class="quiet">Write a spec, or begin with one of the examples.</span>`
        : good ? html`<span class="state succeeded">✓ This is a spec of <strong>${good.name}</strong>; ${number(good.written.length)} settings are set.</span>`
        : error ? html`<${Trouble} error=${error.errors?.length ? { ...error, hint: '' } : error} />` : html`<span class="quiet">Checking …</span>`}
    </div>
    <div class="actions">
      <button onClick=${make} disabled=${!good || plan.busy}>${plan.busy ? 'Planning …' : 'Plan'}</button>
      <label>Priority <input type="number" value=${priority} onInput=${(event) => setPriority(Math.trunc(Number(event.target.value)))} /></label>
      <button class="first" onClick=${submit} disabled=${!good || submitted.busy}>Submit</button>
    </div>
    <${Trouble} error=${submitted.error} /><${Trouble} error=${plan.error} />
    ${plan.made && html`<${Plan} of=${plan.made} />`}
  `;
}

/** A field for a spec, with numbers of lines, and below it what could be written at the cursor. */
function Editor({ text, change, schema, faults }) {
  const area = useRef();
  const lines = useRef();
  const [cursor, setCursor] = useState(0);
  const wrong = new Set(faults.map((fault) => fault.line).filter(Boolean));
  const offered = schema ? suggestions(schema, text, cursor) : [];
  const put = ({ from, insert }) => {
    const field = area.current;
    field.focus();
    field.setRangeText(insert, from, cursor, 'end');
    change(field.value);
    setCursor(field.selectionStart);
  };
  const moved = (event) => setCursor(event.target.selectionStart);
  const keyed = (event) => {
    if (event.key === ' ' && event.ctrlKey) {
      event.preventDefault();
      document.querySelector('.offers button')?.focus();
    }
  };
  return html`
    <div class="editor">
      <pre class="lines" ref=${lines} aria-hidden="true">${text.split('\n').map((_, place) => html`<span key=${place} class=${wrong.has(place + 1) ? 'wrong' : ''}>${place + 1}</span>`)}</pre>
      <textarea ref=${area} aria-label="Spec, as TOML" aria-describedby="editor-help" aria-invalid=${wrong.size > 0} spellcheck="false" autocapitalize="off" autocomplete="off" rows="22" wrap="off"
        value=${text} onInput=${(event) => { change(event.target.value); moved(event); }} onKeyUp=${moved} onClick=${moved} onKeyDown=${keyed}
        onScroll=${(event) => { lines.current.scrollTop = event.target.scrollTop; }}></textarea>
    </div>
    <p id="editor-help" class="quiet">What fits at the cursor stands below; Ctrl and Space lead there.</p>
    <ul class="offers" aria-label="What fits at the cursor">${offered.map((of) => html`<li key=${of.label}>
      <button type="button" class="small" onClick=${() => put(of)} title=${of.about}><code>${of.label}</code></button></li>`)}</ul>
    ${offered.length === 1 && offered[0].about && html`<p class="quiet">${offered[0].about}</p>`}
  `;
}

function Plan({ of }) {
  return html`
    <section aria-labelledby="plan"><h2 id="plan">Plan</h2>
      <${Facts} of=${[
        ['The run', duration(of.estimated_seconds)], ['A step', `${number(of.seconds_per_step)} s`], ['Steps', number(of.steps)],
        ['Memory', bytes(of.peak_bytes)], ['Rollouts a step', number(of.rollouts_per_step)], ['Inner steps', number(of.inner_steps)],
        ['Target', `${number(of.target_parameters)} parameters`], of.generator_parameters && ['Generator', `${number(of.generator_parameters)} parameters`],
        ['Device', of.device], ['Prompts', `${number(of.training_prompts)} to train on, ${number(of.validation_prompts)} to validate on`]]} />
      <h3>Recipe</h3><ul>${of.recipe.map((line) => html`<li key=${line}>${ticked(line)}</li>`)}</ul>
      <details><summary>All of it</summary><pre tabindex="0">${JSON.stringify(of, null, 2)}</pre></details>
    </section>
  `;
}
