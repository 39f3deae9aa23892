// Numbers, times and lengths of time as people read them.

const digits = (value, least, most) =>
  value.toLocaleString('en', { minimumFractionDigits: least, maximumFractionDigits: most });

/** A number with four digits that count. */
export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e7) return digits(value, 0, 0);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(2).replace('e+', 'e');
  return size >= 1000 ? digits(value, 0, 0) : Number(value.toPrecision(4)).toString();
}

/** A number with its sign. */
export const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));

/** A mean and half its interval, with the digits that the interval leaves sure. */
export function estimate(mean, margin) {
  if (!Number.isFinite(margin)) return number(mean);
  const places = margin > 1e-6 ? Math.min(Math.max(1 - Math.floor(Math.log10(margin)), 0), 6) : 4;
  return `${mean.toFixed(places)} ± ${margin > 1e-6 ? margin.toFixed(places) : '0'}`;
}

export const count = (value, one, many = `${one}s`) => `${digits(value, 0, 0)} ${value === 1 ? one : many}`;

export const percent = (share) => `${digits(share * 100, 0, 1)}%`;

export function bytes(size) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${digits(size, 0, unit && size < 100 ? 1 : 0)} ${units[unit]}`;
}

/** Seconds as the two largest units. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

/** How long ago, or how long until. */
export function ago(time, now = Date.now()) {
  const seconds = (now - Date.parse(time)) / 1000;
  if (Math.abs(seconds) < 5) return 'now';
  const rough = duration(Math.abs(seconds)).split(' ').slice(0, 2).join(' ');
  return seconds > 0 ? `${rough} ago` : `in ${rough}`;
}

/** A time in the reader's zone, or in the one given, which is then said. */
export function clock(time, zone) {
  const options = {
    year: 'numeric', month: 'short', day: '2-digit', weekday: zone ? 'short' : undefined,
    hour: '2-digit', minute: '2-digit', hour12: false,
  };
  try {
    return new Date(time).toLocaleString('en-GB', zone ? { ...options, timeZone: zone, timeZoneName: 'short' } : options);
  } catch {
    // a zone that this browser does not know
    return `${new Date(time).toISOString().slice(0, 16).replace('T', ' ')} UTC`;
  }
}

/** A name of a program's as words. */
export const words = (name) => name.replaceAll('_', ' ');

/** A value of a spec, in one line. */
export const value = (of) => (typeof of === 'string' && !of.includes('\n') ? of : JSON.stringify(of));

/** An object's leaves by their paths, as in `policy.steps`. */
export function leaves(of, path = '') {
  if (of === null || typeof of !== 'object' || Array.isArray(of)) return [[path, of]];
  return Object.entries(of).flatMap(([key, inner]) => leaves(inner, path ? `${path}.${key}` : key));
}
