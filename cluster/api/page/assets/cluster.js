// Asks for the cluster's state while somebody looks.

import { getJson } from "./api.js";
import { byId, show } from "./dom.js";
import { showDrafters } from "./drafters.js";
import { drawFigures } from "./figures.js";
import { drawPicture } from "./picture.js";
import { between } from "./rates.js";
import { SpeedLine } from "./speed_line.js";

const EVERY_MS = 1000;
const AFTER_FAILURE_MS = 5000;
const WINDOW_S = 10;

export class ClusterView {
  constructor() {
    this.samples = [];
    this.line = new SpeedLine(byId("speed-line"));
    this.timer = null;
    this.asking = null;
    document.addEventListener("visibilitychange", () => this.wake());
  }

  /** Ask now, and from now on as long as the page is visible. */
  wake() {
    clearTimeout(this.timer);
    this.asking?.abort();
    if (document.visibilityState === "visible") this.poll();
    else this.samples = [];
  }

  async poll() {
    const asking = (this.asking = new AbortController());
    let pause = EVERY_MS;
    try {
      const cluster = await getJson("v1/cluster", asking.signal);
      this.show(cluster);
    } catch (error) {
      if (asking.signal.aborted) return;
      pause = AFTER_FAILURE_MS;
      this.samples = [];
      byId("cluster-state").textContent = error.status === 401 ? "needs an API key" : "not reachable";
    }
    this.timer = setTimeout(() => this.poll(), pause);
  }

  show(cluster) {
    this.samples.push(cluster);
    while (cluster.now - this.samples[0].now > WINDOW_S) this.samples.shift();
    byId("cluster-state").textContent = cluster.targets_missing ? "targets are missing" : "live";
    drawPicture(byId("picture"), cluster);
    showDrafters(cluster.targets);
    const past = between(this.samples[0].targets, cluster.targets);
    this.line.add(cluster);
    byId("cluster-speed").textContent = show.rate(this.line.speed);
    drawFigures(byId("cluster-figures"), past, cluster);
  }
}
