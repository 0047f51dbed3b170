// Pictures of lines and of points on a line, as SVG in the size at which they are shown.

// Okabe and Ito's colours, as peerflow.plots has them; the style sheet lightens them on dark pages.
export const colour = (q) => (q < 8 ? `var(--pf-peer-${q})` : `hsl(${(q * 137.5) % 360} 60% 50%)`);

export const element = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);
export const drawing = (name, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// A number as people write it: three digits, and powers of ten where it is very large or small.
export function shown(value, digits = 3) {
  if (!Number.isFinite(value)) return "beyond all bounds";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-4 && size < 1e5) return size >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(digits)));
  const [mantissa, power] = value.toExponential(digits - 1).split("e");
  const raised = String(Number(power)).replace(/[-\d]/g, (sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign] ?? "⁻");
  return `${mantissa.replace("-", "−")}·10${raised}`;
}

// Of a pixel. toFixed takes ten times as long.
const tenths = (value) => Math.round(value * 10) / 10;

function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(raw));
  const unit = [1, 2, 5, 10].find((each) => each * power >= raw * 0.999) * power;
  const found = [];
  for (let at = Math.ceil(low / unit - 1e-9); at * unit <= high * (1 + 1e-9); at++) found.push(at * unit);
  return found;
}

function logarithmicTicks(low, high) {
  const decades = Math.log10(high / low);
  const mantissas = decades > 3 ? [1] : decades > 1.2 ? [1, 3] : decades > 0.6 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 8];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
    for (const mantissa of mantissas) {
      const value = mantissa * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found;
}

// Lines over time, or over what else goes from `start` to `horizon`. Each of `bands`, `lines` and `points` has x, y, and a
// colour; the axis may be logarithmic. Returns a function that moves a cursor to a time.
export function lineChart(svg, { start = 0, horizon, low, high, logarithmic, bands, lines, points = [], label }) {
  const width = svg.clientWidth || 320;
  const height = svg.clientHeight || 200;
  const [left, right, top, bottom] = [46, 10, 8, 34];
  const x = (time) => left + ((time - start) / (horizon - start)) * (width - left - right);
  const share = logarithmic
    ? (value) => Math.log(Math.max(value, low / 10) / low) / Math.log(high / low)
    : (value) => (value - low) / (high - low);
  // What leaves the picture is cut off by its frame.
  const y = (value) => Math.max(-height, Math.min(2 * height, height - bottom - share(value) * (height - top - bottom)));
  const path = ({ x: times, y: values }) => {
    let d = "";
    for (let i = 0; i < times.length; i++) {
      if (!Number.isFinite(values[i])) break;
      d += `${d ? "L" : "M"}${tenths(x(times[i]))} ${tenths(y(values[i]))}`;
    }
    return d;
  };
  const frame = `x="${left}" y="${top}" width="${width - left - right}" height="${height - top - bottom}"`;
  const clip = `${svg.id}-frame`;
  const parts = [`<clipPath id="${clip}"><rect ${frame}/></clipPath><rect class="pf-frame" ${frame}/>`];
  for (const value of logarithmic ? logarithmicTicks(low, high) : ticks(low, high, 4)) {
    const at = y(value).toFixed(1);
    parts.push(`<path class="pf-grid" d="M${left} ${at}H${width - right}"/>`);
    parts.push(`<text x="${left - 5}" y="${at}" dy="0.35em" text-anchor="end">${shown(value, 2)}</text>`);
  }
  for (const value of ticks(start, horizon, width > 420 ? 5 : 4)) {
    parts.push(`<text x="${x(value)}" y="${height - bottom + 14}" text-anchor="middle">${shown(value)}</text>`);
  }
  parts.push(`<text x="${(left + width - right) / 2}" y="${height - 4}" text-anchor="middle" class="pf-label"></text>`);
  parts.push(`<g clip-path="url(#${clip})">`);
  for (const band of bands) parts.push(`<path class="pf-band" style="stroke:${band.colour}" d="${path(band)}"/>`);
  for (const line of lines) parts.push(`<path class="pf-line${line.dashed ? " pf-dashed" : ""}" style="stroke:${line.colour}" d="${path(line)}"/>`);
  for (const { x: across, y: values, colour: own } of points) {
    across.forEach((each, i) => parts.push(`<circle class="pf-mark" style="fill:${own}" cx="${tenths(x(each))}" cy="${tenths(y(values[i]))}" r="3"/>`));
  }
  parts.push(`</g><path class="pf-cursor" d="M0 ${top}V${height - bottom}"/>`);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.innerHTML = parts.join("");
  svg.querySelector(".pf-label").textContent = label;
  const cursor = svg.lastElementChild;
  return (time) => cursor.setAttribute("transform", `translate(${x(time)} 0)`);
}

// Points [real, imaginary] over an axis of real numbers; what lies beyond `edge` is shaded, on both sides if `both`.
export function numberLine(svg, { low, high, points, edge, both }) {
  const width = svg.clientWidth || 320;
  const height = svg.clientHeight || 60;
  const [left, right, axis] = [14, 14, height - 20];
  const x = (value) => left + ((Math.min(high, Math.max(low, value)) - low) / (high - low)) * (width - left - right);
  const parts = [];
  const shade = (from, to) => parts.push(`<rect class="pf-beyond" x="${x(from)}" y="2" width="${x(to) - x(from)}" height="${axis - 2}"/>`);
  if (edge < high) shade(edge, high);
  if (both && -edge > low) shade(low, -edge);
  parts.push(`<path class="pf-axis" d="M${left} ${axis}H${width - right}"/>`);
  for (const value of ticks(low, high, 4)) {
    parts.push(`<path class="pf-axis" d="M${x(value)} ${axis}v4"/>`);
    parts.push(`<text x="${x(value)}" y="${height - 4}" text-anchor="middle">${shown(Number(value.toFixed(6)))}</text>`);
  }
  const flat = points.every(([, im]) => Math.abs(im) < 1e-9);
  const middle = flat ? axis - 9 : axis / 2 + 1;
  const seen = new Map();
  for (const [re, im] of points) {
    // Equal ones beside each other would hide that there are several.
    const key = `${x(re).toFixed(0)} ${im.toFixed(2)}`;
    const times = seen.get(key) ?? 0;
    seen.set(key, times + 1);
    const up = middle - im * (middle - 5) - times * 9;
    parts.push(`<circle class="pf-point${re > edge + 1e-9 ? " pf-bad" : ""}" cx="${x(re)}" cy="${Math.max(4, Math.min(axis - 3, up))}" r="4"/>`);
  }
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.innerHTML = parts.join("");
}
