// The bandwidth of the last ten minutes.
const chart = {
  points: [],
  cursor: null,
  keyed: false,
  series: [["stream", 1], ["upload", 2], ["download", 3]],
  add(at, values) {
    this.points.push([at, ...values]);
    this.trim();
  },
  fill(rows) {
    const t = performance.now() / 1000;
    this.points = rows.map(([age, ...values]) => [t - age, ...values]);
    this.draw();
  },
  trim() {
    const first = performance.now() / 1000 - SPAN_S;
    while (this.points.length && this.points[0][0] < first) this.points.shift();
  },
  // So long between two points, and something is missing.
  gap() {
    const steps = this.points.slice(1).map((point, at) => point[0] - this.points[at][0]).sort((a, b) => a - b);
    return Math.max(12, 2.5 * (steps[steps.length >> 1] ?? 5));
  },
  draw() {
    this.trim();
    const svg = $("plot");
    const box = $("chart").getBoundingClientRect();
    const [w, h, left, right, top, bottom] = [Math.max(200, box.width), Math.max(100, box.height), 46, 8, 26, 22];
    const t = performance.now() / 1000;
    const most = Math.max(10, ...this.points.flatMap((point) => point.slice(1).map((value) => value ?? 0)));
    const [step, unit, divisor] = scale(most);
    const high = Math.ceil(most / step) * step;
    const x = (at) => left + (w - left - right) * (1 - (t - at) / SPAN_S);
    const y = (value) => h - bottom - (h - top - bottom) * (value / high);
    const parts = [];
    const add = (name, attributes, words) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      if (words !== undefined) element.textContent = words;
      parts.push(element);
    };
    for (let value = 0; value <= high; value += step) {
      add("line", { class: "grid", x1: left, x2: w - right, y1: y(value), y2: y(value) });
      add("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(Math.round(value / divisor * 10) / 10));
    }
    add("text", { x: 0, y: 11 }, unit);
    for (const minutes of w < 460 ? [10, 5, 0] : [10, 8, 6, 4, 2, 0]) {
      const anchor = minutes === 10 ? "start" : minutes ? "middle" : "end";
      add("text", { x: x(t - minutes * 60), y: h - 6, "text-anchor": anchor }, minutes ? `\u2212${minutes} min` : "now");
    }
    const gap = this.gap();
    for (const [name, column] of this.series) {
      let path = "";
      let last = null;
      for (const point of this.points) {
        const value = point[column];
        if (value === null || value === undefined) {
          last = null;
          continue;
        }
        const joined = last !== null && point[0] - last <= gap;
        path += `${joined ? "L" : "M"}${x(point[0]).toFixed(1)} ${y(value).toFixed(1)}`;
        // A point with no neighbour is seen too.
        if (!joined) path += "h.01";
        last = point[0];
      }
      if (path) add("path", { class: name, d: path, "stroke-linecap": "round", "stroke-linejoin": "round" });
    }
    const point = this.at();
    if (point && this.cursor !== null) {
      add("line", { class: "cursor", x1: x(point[0]), x2: x(point[0]), y1: top, y2: h - bottom });
      for (const [name, column] of this.series) if (point[column] !== null) add("circle", { class: name, cx: x(point[0]), cy: y(point[column]), r: 3.5 });
    }
    svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
    svg.replaceChildren(...parts);
    this.x = x;
    this.read(point, t, gap);
  },
  at() {
    if (!this.points.length) return null;
    if (this.cursor === null) return this.points[this.points.length - 1];
    return this.points.reduce((best, point) => Math.abs(point[0] - this.cursor) < Math.abs(best[0] - this.cursor) ? point : best);
  },
  read(point, t, gap) {
    const pointed = this.cursor !== null && point;
    const stale = !pointed && point && t - point[0] > gap;
    for (const [name, column] of this.series) text(`now-${name}`, !point || stale ? "" : rate(point[column]));
    const clock = pointed ? new Date(Date.now() - (t - point[0]) * 1000).toLocaleTimeString() : "Now";
    say("chart-at", clock);
    const words = !point || stale ? "No bandwidth is being measured" : `${clock}: stream ${rate(point[1])}, upload ${rate(point[2])}, download ${rate(point[3])}`;
    $("plot").setAttribute("aria-label", words);
    if (this.keyed) say("chart-said", words);
  },
  point(event) {
    if (!this.points.length || !this.x) return;
    const box = $("chart").getBoundingClientRect();
    const t = performance.now() / 1000;
    const share = (event.clientX - box.left - 46) / (Math.max(200, box.width) - 54);
    this.cursor = t - SPAN_S * (1 - Math.min(1, Math.max(0, share)));
    this.keyed = false;
    this.draw();
  },
  leave() {
    this.cursor = null;
    this.keyed = false;
    this.draw();
  },
};
function scale(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  return most >= 2000 ? [step, "Mbit/s", 1000] : [step, "kbit/s", 1];
}
$("chart").addEventListener("pointermove", (event) => chart.point(event));
$("chart").addEventListener("pointerdown", (event) => chart.point(event));
$("chart").addEventListener("pointerleave", () => chart.leave());
$("chart").addEventListener("blur", () => chart.leave());
$("chart").addEventListener("keydown", (event) => {
  const move = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
  if (event.key === "Escape") chart.leave();
  if (move === undefined || !chart.points.length) return;
  event.preventDefault();
  const at = chart.points.indexOf(chart.at());
  chart.cursor = chart.points[Math.min(chart.points.length - 1, Math.max(0, at + (chart.cursor === null && move === -1 ? 0 : move)))][0];
  chart.keyed = true;
  chart.draw();
});
new ResizeObserver(() => chart.draw()).observe($("chart"));
