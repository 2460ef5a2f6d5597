// Tokens per second over the last minute, as a line.

import { makeSvg } from "./dom.js";
import { between, figures } from "./rates.js";

const SPAN_S = 60;
const NEWEST = 3;
const WIDTH = 120;
const HEIGHT = 32;

export class SpeedLine {
  constructor(svg) {
    this.svg = svg;
    this.before = null;
    this.points = [];
  }

  /** Take a reading; targets report twice a second, so a reading may bring nothing new. */
  add(cluster) {
    const past = this.before && between(this.before.targets, cluster.targets);
    if (this.before && !past) return;
    this.before = cluster;
    if (!past) return;
    this.points.push({ at: cluster.now, speed: figures(past).tokensPerSecond });
    while (cluster.now - this.points[0].at > SPAN_S) this.points.shift();
    this.draw(cluster.now);
  }

  /** The mean of the newest readings. */
  get speed() {
    const newest = this.points.slice(-NEWEST);
    return newest.reduce((sum, point) => sum + point.speed, 0) / newest.length;
  }

  draw(now) {
    const most = Math.max(1, ...this.points.map((point) => point.speed));
    const x = (point) => WIDTH - ((now - point.at) / SPAN_S) * WIDTH;
    const y = (point) => HEIGHT - 1 - (point.speed / most) * (HEIGHT - 3);
    const places = this.points.map((point) => `${x(point).toFixed(1)},${y(point).toFixed(1)}`);
    this.svg.replaceChildren(makeSvg("polyline", { points: places.join(" ") }));
  }
}
