// Nodes from text. Nothing on this page is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

export function byId(id) {
  return document.getElementById(id);
}

/** Make an element; `attributes` may hold `text` for its content. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, { text, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const precise = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const ratio = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const percent = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 0 });

/** Numbers as people read them; a dash where there is none. */
export const show = {
  count: (value) => dashed(value, whole),
  rate: (value) => dashed(value, Math.abs(value) < 100 ? precise : whole),
  ratio: (value) => dashed(value, ratio),
  share: (value) => dashed(value, percent),
  milliseconds: (value) => (Number.isFinite(value) ? `${whole.format(value)} ms` : "–"),
};

function dashed(value, format) {
  return Number.isFinite(value) ? format.format(value) : "–";
}

/** "1 drafter", "2 drafters". */
export function plural(count, noun) {
  return `${whole.format(count)} ${noun}${count === 1 ? "" : "s"}`;
}
