// Curves by uPlot; histograms and intervals as SVG; patterns as pixels.

import { html, useEffect, useRef, useState } from './vendor/htm-preact.js';
import { estimate, number, signed } from './format.js';

const HEIGHT = 150;
const dark = matchMedia('(prefers-color-scheme: dark)');

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The colour of the curve of this number; the palette is one that the colour-blind can tell apart. */
export const colour = (place) => style(`--curve-${place % 6}`);

/** Lines over common places: uPlot wants one list of places for all. */
function aligned(lines) {
  const places = [...new Set(lines.flatMap((line) => line.x))].sort((one, other) => one - other);
  const values = lines.map((line) => {
    const known = new Map(line.x.map((x, place) => [x, line.y[place]]));
    return places.map((x) => known.get(x) ?? null);
  });
  return [places, ...values];
}

/**
 * Curves with one axis below. `lines` have `name`, `x`, `y`, and `dots` if they are single measurements. The
 * values under the pointer, or else the last ones, stand beside the title.
 */
export function Chart({ title, lines, below = 'step' }) {
  const place = useRef();
  const plot = useRef();
  const [at, setAt] = useState(null);
  const [theme, setTheme] = useState(dark.matches);
  const shape = lines.map((line) => `${line.name}${line.dots}`).join() + theme;
  const data = aligned(lines);

  useEffect(() => {
    const changed = () => setTheme(dark.matches);
    dark.addEventListener('change', changed);
    return () => dark.removeEventListener('change', changed);
  }, []);

  useEffect(() => {
    const axis = {
      stroke: style('--quiet'), font: '11px system-ui', ticks: { show: false },
      grid: { stroke: style('--line'), width: 1 },
    };
    const options = {
      width: place.current.clientWidth || 300,
      height: HEIGHT,
      scales: { x: { time: false } },
      legend: { show: false },
      cursor: { y: false, points: { size: 6 } },
      axes: [{ ...axis, size: 24, space: 60 }, { ...axis, size: 56, space: 32, values: (_, ticks) => ticks.map(number) }],
      series: [{}, ...lines.map((line, index) => ({
        stroke: colour(index), width: line.dots ? 1 : 1.5, spanGaps: true, dash: line.dots ? [3, 3] : undefined,
        points: { show: (u) => Boolean(line.dots) || u.data[0].length < 2, size: 6, fill: colour(index) },
      }))],
      hooks: { setCursor: [(u) => setAt(u.cursor.idx ?? null)] },
    };
    const made = new uPlot(options, data, place.current);
    plot.current = made;
    const sized = new ResizeObserver(() => {
      const width = place.current?.clientWidth;
      if (width && width !== made.width) made.setSize({ width, height: HEIGHT });
    });
    sized.observe(place.current);
    return () => {
      sized.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape]);

  const size = data.map((column) => column.length).join() + data[0].at(-1);
  useEffect(() => plot.current?.setData(data), [size]);

  const last = (values) => {
    if (at !== null && values[at] != null) return values[at];
    return values.findLast((value) => value !== null);
  };
  const x = at !== null && data[0][at] !== undefined ? data[0][at] : data[0].at(-1);
  const said = lines.map((line, index) => `${line.name} ${number(last(data[index + 1]))}`).join(', ');
  return html`
    <figure class="chart">
      <figcaption><h3>${title}</h3>
        <span class="legend">${lines.map((line, index) => html`
          <span key=${line.name} class="key-${index % 6}">${lines.length > 1 ? `${line.name} ` : ''}<b>${number(last(data[index + 1]))}</b></span>`)}
          <span class="quiet">${below} ${number(x)}</span></span>
      </figcaption>
      <div ref=${place} role="img" aria-label="${title} by ${below}: ${said} at ${below} ${number(x)}"></div>
    </figure>
  `;
}

/** Bars of a histogram. Those of negative values have another colour if `signs`. */
export function Histogram({ title, bins, signs, whole }) {
  const most = Math.max(...bins.map((bin) => bin.count), 1);
  const [width, height] = [400, 120];
  const wide = width / Math.max(bins.length, 1);
  const last = (bin) => number(whole && bin ? bin.to - 1 : bin?.to);
  return html`
    <figure class="chart">
      <figcaption><h3>${title}</h3></figcaption>
      <svg viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" role="img"
        aria-label="${title}: ${bins.length} bars from ${number(bins[0]?.from)} to ${last(bins.at(-1))}">
        ${bins.map((bin, place) => {
          const tall = (bin.count / most) * height;
          return html`<rect key=${place} class=${signs && bin.from + bin.to < 0 ? 'below' : 'above'} x=${place * wide + 0.5}
            y=${height - tall} width=${Math.max(wide - 1, 0.5)} height=${tall}>
            <title>${number(bin.from)} to ${last(bin)}: ${bin.count} rows</title></rect>`;
        })}
      </svg>
      <div class="ends"><span>${number(bins[0]?.from)}</span><span>up to ${number(most)} rows a bar</span><span>${last(bins.at(-1))}</span></div>
    </figure>
  `;
}

/** Means with their intervals, one a line, over a common axis. */
export function Intervals({ title, of }) {
  const known = of.filter((one) => Number.isFinite(one.mean));
  const low = Math.min(...known.map((one) => one.mean - (one.margin || 0)));
  const high = Math.max(...known.map((one) => one.mean + (one.margin || 0)));
  const at = (value) => `${4 + (92 * (value - low)) / (high - low || 1)}%`;
  return html`
    <figure class="intervals">
      <figcaption><h3>${title}</h3></figcaption>
      <div class="rows">${known.map((one) => html`
        <div key=${one.name} class=${one.main ? 'main' : ''}>
          <span class="name">${one.name}</span>
          <svg aria-hidden="true" height="20" width="100%">
            <line class="axis" x1="0" x2="100%" y1="10" y2="10" />
            <line class="margin" x1=${at(one.mean - (one.margin || 0))} x2=${at(one.mean + (one.margin || 0))} y1="10" y2="10" />
            <circle cx=${at(one.mean)} cy="10" r="4" />
          </svg>
          <span class="figure">${estimate(one.mean, one.margin)}</span>
        </div>`)}
      </div>
      <div class="ends"><span>${number(low)}</span><span>mean and 95% confidence interval</span><span>${number(high)}</span></div>
    </figure>
  `;
}

/** How many pixels of a pattern are right. */
export const right = (of) => [...of.found].filter((pixel, place) => pixel === of.wanted[place]).length;

/** A pattern as it was drawn: wrong pixels are coloured. With `sure` pixels are the paler the less they have moved. */
export function Pattern({ of, label, sure }) {
  const canvas = useRef();
  const rows = of.wanted.length / of.columns;
  useEffect(() => {
    const context = canvas.current.getContext('2d');
    const image = context.createImageData(of.columns, rows);
    for (let pixel = 0; pixel < of.wanted.length; pixel += 1) {
      const [set, wanted] = [of.found[pixel] === '1', of.wanted[pixel] === '1'];
      const shade = set ? (wanted ? [17, 17, 17] : [213, 94, 0]) : wanted ? [255, 196, 150] : [255, 255, 255];
      const kept = sure && of.margins ? Number(of.margins[pixel]) / 9 : 1;
      image.data.set([...shade.map((part) => 128 + (part - 128) * kept), 255], pixel * 4);
    }
    context.putImageData(image, 0, 0);
  }, [of.found, sure]);
  return html`<canvas ref=${canvas} width=${of.columns} height=${rows} role="img" aria-label=${label}></canvas>`;
}

/** A reward as a number on a colour: blue above zero, orange below, stronger the further. */
export function Reward({ of, spread }) {
  const strength = spread > 0 ? Math.min(Math.abs(of) / (2 * spread), 1) : 0;
  const level = Math.round(strength * 4);
  return html`<span class="reward ${of < 0 ? 'below' : 'above'}-${level}">${signed(of)}</span>`;
}
