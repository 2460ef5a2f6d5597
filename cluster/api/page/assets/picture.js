// The cluster as a drawing: drafters at the left, targets in the middle, their queues at the right.

import { makeSvg, plural, show } from "./dom.js";

const WIDTH = 340;
const ROW = 76;
const MAX_DRAFTERS = 8;
const MAX_TARGETS = 4;
const MAX_DOTS = 12;
const TARGET = { x: 122, width: 96, height: 48 };

export function drawPicture(host, cluster) {
  const targets = cluster.targets.slice(0, MAX_TARGETS);
  const drafters = Math.max(0, ...cluster.targets.map((target) => target.drafters_connected));
  const height = Math.max(1, targets.length) * ROW + 34;
  const svg = makeSvg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, "aria-hidden": "true" });
  const centres = targets.map((_, i) => 24 + i * ROW + ROW / 2);
  const middle = 24 + (Math.max(1, targets.length) * ROW) / 2;
  svg.append(label(40, 14, "Drafters"), label(TARGET.x + TARGET.width / 2, 14, "Target" + (targets.length > 1 ? "s" : "")));
  svg.append(label(284, 14, "Requests"));
  for (const [i, place] of drafterPlaces(drafters, middle).entries()) {
    for (const y of centres) svg.append(link(place.x + 6, place.y, TARGET.x, y));
    svg.append(makeSvg("circle", { class: "drafter", cx: place.x, cy: place.y, r: 6, "data-drafter": i }));
  }
  if (!drafters) svg.append(note(40, middle + 4, "none"));
  if (drafters > MAX_DRAFTERS) svg.append(note(40, height - 6, plural(drafters, "drafter")));
  targets.forEach((target, i) => svg.append(...targetParts(target, centres[i])));
  if (!targets.length) svg.append(note(TARGET.x + TARGET.width / 2, middle + 4, "none reached"));
  const more = cluster.targets.length - targets.length;
  if (more > 0) svg.append(note(TARGET.x + TARGET.width / 2, height - 6, `and ${more} more`));
  host.replaceChildren(svg);
  host.setAttribute("aria-label", described(cluster, drafters));
}

function targetParts(target, y) {
  const { x, width, height } = TARGET;
  const top = y - height / 2;
  const full = Math.min(1, target.kv_usage) * (height - 2);
  return [
    link(x + width, y, 232, y),
    makeSvg("rect", { class: "target", x, y: top, width, height, rx: 6 }),
    makeSvg("rect", { class: "kv", x: x + 1, y: top + height - 1 - full, width: width - 2, height: full, rx: 5 }),
    note(x + width / 2, y - 3, target.state === "serving" ? "serving" : "draining", "strong"),
    note(x + width / 2, y + 13, `KV cache ${show.share(target.kv_usage)}`),
    ...queueDots(target, y),
    note(284, y + 27, `${target.running} running, ${target.waiting} waiting`),
  ];
}

function queueDots(target, y) {
  const running = Math.min(target.running, MAX_DOTS);
  const waiting = Math.min(target.waiting, MAX_DOTS - running);
  const dots = [];
  for (let i = 0; i < MAX_DOTS; i++) {
    const kind = i < running ? "running" : i < running + waiting ? "waiting" : "free";
    dots.push(makeSvg("circle", { class: `dot ${kind}`, cx: 242 + (i % 6) * 16, cy: y - 11 + Math.floor(i / 6) * 16, r: 4.5 }));
  }
  return dots;
}

function drafterPlaces(count, middle) {
  const shown = Math.min(count, MAX_DRAFTERS);
  const gap = shown > 4 ? 16 : 22;
  return Array.from({ length: shown }, (_, i) => ({ x: 40, y: middle + (i - (shown - 1) / 2) * gap }));
}

function link(x1, y1, x2, y2) {
  const half = (x1 + x2) / 2;
  return makeSvg("path", { class: "link", d: `M${x1} ${y1} C${half} ${y1} ${half} ${y2} ${x2} ${y2}` });
}

function label(x, y, text) {
  return makeSvg("text", { class: "heading", x, y, text });
}

function note(x, y, text, kind = "") {
  return makeSvg("text", { class: `note ${kind}`, x, y, text });
}

function described(cluster, drafters) {
  const running = cluster.targets.reduce((sum, target) => sum + target.running, 0);
  const waiting = cluster.targets.reduce((sum, target) => sum + target.waiting, 0);
  const parts = [plural(drafters, "drafter"), plural(cluster.targets.length, "target")];
  return `${parts.join(" and ")}; ${plural(running, "request")} running, ${waiting} waiting`;
}
