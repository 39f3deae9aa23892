// A dataset: its versions, and of one of them the rows, rewards, verifications, origin, pictures, code and files.

import { html, useEffect, useState } from '../vendor/htm-preact.js';
import { at } from '../api.js';
import { bytes, clock, count, number, percent } from '../format.js';
import { Empty, Facts, Loaded, Table, Tabs, Time, useLoad, useNow } from '../parts.js';
import { Histogram, Intervals } from '../chart.js';
import { CodeOf } from './code.js';
import { Row } from './row.js';

const TABS = [['rows', 'Rows'], ['rewards', 'Rewards'], ['verification', 'Verification'], ['origin', 'Origin'],
  ['pictures', 'Pictures'], ['code', 'Code'], ['files', 'Files']];

export function Dataset({ parts, session }) {
  const [name, reference, tab = 'rows'] = parts;
  const dataset = useLoad(at(['datasets', name]));
  return html`<${Loaded} of=${dataset} what="the dataset">${(of) => {
    const latest = of.versions.findLast((version) => !version.withdrawn);
    const wanted = reference ?? `v${(latest ?? of.versions.at(-1)).number}`;
    const place = of.tags[wanted] ?? Number(wanted.replace(/^v/, ''));
    const version = wanted === 'latest' ? latest : of.versions.find((one) => one.number === place);
    return html`
      <div class="title"><h1>${name}</h1>${version && html`<span class="tag">v${version.number}</span>`}</div>
      <${Versions} of=${of} latest=${latest} shown=${version} />
      ${version ? html`<${Version} key=${version.number} of=${version} tab=${tab} session=${session} />`
        : html`<${Empty}><p>There is no version <code>${wanted}</code>.</p><//>`}`;
  }}<//>`;
}

/** What is to be known of a version at a glance. */
function verdict({ attestations, withdrawn, retired }) {
  if (retired) return 'retired';
  if (withdrawn) return html`<span class="state failed">✕ ${withdrawn.kind}</span> ${withdrawn.reason}`;
  const proof = attestations.findLast((one) => one.signer);
  if (!proof) return attestations.length ? 'its verification is doubted' : 'not verified';
  return proof.holds ? html`<span class="state succeeded">✓ verified</span>` : html`<span class="state failed">✕ failed verification</span>`;
}

function Versions({ of, latest, shown }) {
  const [all, set] = useState(false);
  const now = useNow();
  const newest = [...of.versions].reverse();
  const listed = all ? newest : newest.filter((version, place) => place < 5 || version === shown);
  const tags = (number) => Object.entries(of.tags).filter(([, version]) => version === number).map(([tag]) => tag);
  return html`
    <${Table} label="Versions" head=${['Version', { name: 'Rows', numeric: true }, { name: 'Size', numeric: true }, 'Verdict', 'Published', 'Job']}>
      ${listed.map((version) => html`<tr key=${version.number} class=${version === shown ? 'chosen' : ''}>
        <td><a href="#/dataset/${of.name}/v${version.number}" aria-current=${version === shown ? 'true' : null}>v${version.number}</a>
          ${version === latest && html` <span class="tag first">champion</span>`}${tags(version.number).map((tag) => html` <span key=${tag} class="tag">${tag}</span>`)}</td>
        <td class="numeric">${number(version.rows)}</td><td class="numeric">${bytes(version.size)}</td>
        <td>${verdict(version)}</td><td><${Time} at=${version.published_at} now=${now} /></td>
        <td>${/^[0-9a-f]{8}-/.test(version.job) ? html`<a href="#/job/${version.job}" aria-label="Job of v${version.number}">job</a>` : html`<span class="quiet">dpg run</span>`}</td></tr>`)}<//>
    ${newest.length > listed.length && html`<p><button onClick=${() => set(true)}>All ${count(newest.length, 'version')}</button></p>`}
    ${newest.length > 1 && shown && html`<p><a href="#/compare/versions/${of.name}@v${(newest.find((one) => one.number < shown.number) ?? newest[0]).number}/${of.name}@v${shown.number}">Compare v${shown.number} with another version</a></p>`}
  `;
}

function Version({ of, tab }) {
  const base = `#/dataset/${of.dataset}/v${of.number}`;
  const path = ['datasets', of.dataset, 'versions', String(of.number)];
  const View = { rows: Rows, rewards: Rewards, verification: Verification, origin: Origin, pictures: Pictures, code: CodeOf, files: Files }[tab] ?? Rows;
  return html`
    <${Tabs} label="Parts of version ${of.number}" base=${base} now=${tab} of=${TABS} />
    ${of.retired ? html`<${Empty}><p>This version was retired to make room: its files are gone.</p><//>` : html`<${View} path=${path} version=${of} />`}
  `;
}

const PAGE = 25;
const ORDERS = [['-reward', 'largest reward'], ['reward', 'smallest reward'], ['row', 'as stored'], ['-length', 'longest'], ['length', 'shortest']];

function Rows({ path }) {
  const [typed, setTyped] = useState('');
  const [query, set] = useState({ order: '-reward', split: 'train', search: '', offset: 0 });
  useEffect(() => {
    const timer = setTimeout(() => set((old) => (old.search === typed ? old : { ...old, search: typed, offset: 0 })), 250);
    return () => clearTimeout(timer);
  }, [typed]);
  const page = useLoad(at([...path, 'rows'], { ...query, limit: PAGE }));
  const change = (key) => (event) => set({ ...query, [key]: event.target.value, offset: 0 });
  const summary = useLoad(at([...path, 'rewards'], { bins: 40 }));
  const [last, setLast] = useState(null);
  useEffect(() => { if (page.data) setLast(page.data); }, [page.data]);
  const spread = summary.data?.statistics.std;
  const shown = page.data ?? (page.error ? null : last);
  return html`
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label>Search <input type="search" value=${typed} maxlength="100" onInput=${(event) => setTyped(event.target.value)} /></label>
      <label>Order <select value=${query.order} onChange=${change('order')}>${ORDERS.map(([key, name]) => html`<option key=${key} value=${key}>${name}</option>`)}</select></label>
      <label>Split <select value=${query.split} onChange=${change('split')}><option value="train">train</option><option value="validation">validation</option></select></label>
    </form>
    <${Loaded} of=${{ data: shown, error: page.error }} what="the rows">${({ total, matching, rows }) => html`
      <p class="pager" role="status"><span>${!page.data ? 'looking …' : query.search ? `${number(matching)} of ${count(total, 'row')} hold “${query.search}”` : count(total, 'row')}</span>
        <button class="small" disabled=${query.offset === 0} onClick=${() => set({ ...query, offset: Math.max(0, query.offset - PAGE) })}>Before</button>
        <span>${rows.length ? `${number(query.offset + 1)} to ${number(query.offset + rows.length)}` : ''}</span>
        <button class="small" disabled=${query.offset + PAGE >= matching} onClick=${() => set({ ...query, offset: query.offset + PAGE })}>Next</button></p>
      ${rows.length === 0 && html`<${Empty}><p>${query.search ? 'No row holds this text.' : `The split ${query.split} has no rows.`}</p><//>`}
      <ol class="rows">${rows.map((row) => html`<${Row} key=${row.row} of=${row} spread=${spread} />`)}</ol>`}<//>
  `;
}

function Rewards({ path }) {
  const summary = useLoad(at([...path, 'rewards']));
  return html`<${Loaded} of=${summary} what="the rewards">${({ statistics: of, rewards, lengths }) => html`
    <${Facts} of=${[['Rows', number(of.rows)], ['Mean', number(of.mean)], ['Standard deviation', number(of.std)], ['Smallest', number(of.min)],
      ['Median', number(of.median)], ['Largest', number(of.max)], ['Above 0', percent(of.positive)]]} />
    <h2 class="unseen">Histograms</h2>
    <div class="charts">
      ${rewards.length > 0 && html`<${Histogram} title="Rewards" bins=${rewards} signs />`}
      ${lengths.length > 0 && html`<${Histogram} title="Tokens of the completions" bins=${lengths} whole />`}
    </div>`}<//>`;
}

/** The arms of a verification, in the order in which they are told. */
const ARMS = [['dataset', 'the dataset'], ['nothing', 'nothing'], ['untrained_generator', 'untrained generator'], ['best_tenth', 'best tenth'],
  ['random_tenth', 'random tenth'], ['worst_tenth', 'worst tenth'], ['without_best', 'without the best'],
  ['without_random', 'without random rows'], ['without_worst', 'without the worst'], ['without_eps_root', 'without eps_root']];

const signedBy = (signer) => (signer === 'own key' ? "this daemon's key" : `the key of ${signer}`);

function Verification({ path, version }) {
  const evidence = useLoad(at([...path, 'evidence']));
  return html`<${Loaded} of=${evidence} what="the verifications">${({ reports }) => {
    if (reports.length === 0) {
      return html`<${Empty}><p>This version was never tried out on fresh targets. This does it, and records what it finds:</p>
        <pre tabindex="0">dpg verify ${version.dataset}@v${version.number}</pre><//>`;
    }
    return [...reports].reverse().map(({ attestation, report }) => html`
      <section key=${attestation.sha256}>
        <h2>${attestation.holds ? 'Better than its controls' : 'Not better than its controls'}</h2>
        <p>${clock(attestation.at)}, ${attestation.signer ? `signed by ${signedBy(attestation.signer)}` : html`<strong>not believed: ${attestation.doubt}</strong>`}.</p>
        ${report?.failures?.length > 0 && html`<ul>${report.failures.map((why) => html`<li key=${why}>${why}</li>`)}</ul>`}
        ${report?.arms ? html`<${Arms} of=${report.arms} />` : html`<p class="quiet">The record cannot be read.</p>`}
      </section>`);
  }}<//>`;
}

function Arms({ of }) {
  const arms = ARMS.filter(([key]) => of[key]).map(([key, name]) => ({ ...of[key], name, main: key === 'dataset' }));
  const proxies = [...new Set(arms.flatMap((arm) => arm.proxies.map((one) => one.name)))].slice(0, 6);
  const estimates = (name) => arms.flatMap((arm) => arm.proxies.filter((one) => one.name === name).map((one) => ({ ...one, name: arm.name, main: arm.main })));
  return html`
    <div class="charts wide"><${Intervals} title="Phi after fine-tuning on" of=${arms} />
      ${proxies.map((name) => html`<${Intervals} key=${name} title=${name} of=${estimates(name)} />`)}</div>
    ${of.read?.length > 0 && html`<p>A QR reader read ${of.read.map(([found]) => (found === null ? 'nothing' : `“${found}”`)).join(', ')}.</p>`}
  `;
}

function Origin({ path, version }) {
  const evidence = useLoad(at([...path, 'evidence']));
  return html`<${Loaded} of=${evidence} what="the provenance">${({ signer, doubt, provenance }) => {
    const definition = provenance?.predicate?.buildDefinition;
    const details = provenance?.predicate?.runDetails;
    return html`
      <p>${signer ? html`<strong>Signed by ${signedBy(signer)}</strong>, over exactly this version's files.`
        : html`<strong>Not believed:</strong> ${doubt}. Trust a key with <code>[trust.keys]</code> in <code>dpg.toml</code>.`}</p>
      <${Facts} of=${[['Published', clock(version.published_at)], ['Manifest', html`<code>${version.manifest_sha256}</code>`],
        details && ['Made', `${clock(details.metadata?.startedOn)} to ${clock(details.metadata?.finishedOn)}`],
        details && ['Made by', details.builder?.id]]} />
      ${definition && html`<h2>Made from</h2><${Table} label="Made from" head=${['What', 'Where', 'Digest']}>${(definition.resolvedDependencies ?? []).map((of) => html`
        <tr key=${of.name}><td>${of.name}</td><td><code>${of.uri}</code></td><td>${Object.entries(of.digest ?? {}).map(([kind, hash]) => html`<code class="hash">${kind}:${hash}</code>`)}</td></tr>`)}<//>`}
      ${provenance && html`<details><summary>The whole statement</summary><pre tabindex="0">${JSON.stringify(provenance, null, 2)}</pre></details>`}`;
  }}<//>`;
}

const filesOf = (path, file) => `${at([...path, 'files'])}/${file.split('/').map(encodeURIComponent).join('/')}`;

function Pictures({ path }) {
  const version = useLoad(at(path));
  return html`<${Loaded} of=${version} what="the pictures">${({ files }) => {
    const pictures = files.filter((file) => file.path.endsWith('.png'));
    if (pictures.length === 0) return html`<${Empty}><p>This version has no pictures.</p><//>`;
    return html`<div class="pictures">${pictures.map((file) => html`<figure key=${file.path}>
      <img src=${filesOf(path, file.path)} alt=${file.path} loading="lazy" /><figcaption>${file.path}</figcaption></figure>`)}</div>`;
  }}<//>`;
}

function Files({ path }) {
  const version = useLoad(at(path));
  return html`<${Loaded} of=${version} what="the files">${({ files }) => html`
    <${Table} label="Files" head=${['File', { name: 'Size', numeric: true }, 'SHA-256']}>${files.map((file) => html`<tr key=${file.path}>
      <td><a href=${filesOf(path, file.path)} download=${file.path.split('/').at(-1)}>${file.path}</a></td><td class="numeric">${bytes(file.size)}</td>
      <td><code class="hash">${file.sha256}</code></td></tr>`)}<//>`}<//>`;
}
