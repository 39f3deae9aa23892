// All datasets.

import { html, useState } from '../vendor/htm-preact.js';
import { bytes, number } from '../format.js';
import { Empty, Loaded, Table, Time, VersionLink, useLoad, useNow } from '../parts.js';

export function Datasets() {
  const list = useLoad('/v1/datasets');
  const [search, set] = useState('');
  const now = useNow();
  return html`
    <h1>Datasets</h1>
    <${Loaded} of=${list} what="the datasets">${({ datasets }) => {
      if (datasets.length === 0) {
        return html`<${Empty}><p>Nothing is published yet. A job publishes a version when it succeeds: <a href="#/new">write a spec</a>.</p><//>`;
      }
      const shown = datasets.filter((dataset) => dataset.name.includes(search));
      return html`
        <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
          <label>Name <input type="search" value=${search} onInput=${(event) => set(event.target.value.trim())} /></label></form>
        <${Table} label="Datasets" head=${['Dataset', { name: 'Versions', numeric: true }, 'Champion', { name: 'Rows', numeric: true }, { name: 'Size', numeric: true }, 'Tags', 'Published']}>
          ${shown.slice(0, 500).map(({ name, versions, latest, tags }) => html`<tr key=${name}>
            <td><a href="#/dataset/${name}"><strong>${name}</strong></a></td><td class="numeric">${number(versions)}</td>
            <td>${latest ? html`<${VersionLink} name="${name}@v${latest.number}" />` : html`<span class="quiet">all are withdrawn</span>`}</td>
            <td class="numeric">${number(latest?.rows)}</td><td class="numeric">${latest ? bytes(latest.size) : '–'}</td>
            <td>${Object.entries(tags).map(([tag, version]) => html`<span key=${tag} class="tag">${tag} → v${version}</span> `)}</td>
            <td><${Time} at=${latest?.published_at} now=${now} /></td></tr>`)}<//>
        ${shown.length > 500 && html`<p class="quiet">500 of ${number(shown.length)} are shown.</p>`}`;
    }}<//>
  `;
}
