// The log.
const log = {
  lines: [],
  waiting: [],
  paused: false,
  drawing: false,
  seq: 0,
  add(line) {
    if (line.seq <= this.seq) return;
    this.seq = line.seq;
    this.lines.push(line);
    if (this.lines.length > MOST_LINES) this.lines.shift();
    this.waiting.push(line);
    if (this.waiting.length > MOST_LINES) this.waiting.shift();
    if (!this.drawing && !this.paused) {
      this.drawing = true;
      setTimeout(() => this.draw(), 50);
    }
    if (this.paused) say("log-note", `Paused; ${this.waiting.length} newer`);
  },
  forget() {
    this.lines = [];
    this.waiting = [];
    this.seq = 0;
    $("lines").replaceChildren();
  },
  get atEnd() {
    const list = $("lines");
    return list.scrollHeight - list.scrollTop - list.clientHeight < 24;
  },
  draw() {
    this.drawing = false;
    if (this.paused) return;
    const list = $("lines");
    const stays = this.atEnd;
    list.append(...this.waiting.map(lineElement));
    this.waiting = [];
    while (list.childElementCount > MOST_LINES) list.firstElementChild.remove();
    if (stays) list.scrollTop = list.scrollHeight;
    $("latest").hidden = this.atEnd;
  },
  get chosen() {
    return this.lines.filter((line) => LEVELS.indexOf(line.level) >= Number($("level").value));
  },
  get asText() {
    return this.chosen.map((line) => `${line.ts} ${line.level.toUpperCase().padEnd(7)} ${line.source}: ${line.message}\n`).join("");
  },
};
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "short" });
function lineElement(line) {
  const item = document.createElement("li");
  item.className = line.level === "error" ? "error-line" : line.level;
  const when = new Date(line.ts);
  const time = document.createElement("time");
  time.dateTime = line.ts;
  time.title = when.toLocaleString();
  time.textContent = day.format(when) === day.format(new Date()) ? clock.format(when) : `${day.format(when)} ${clock.format(when)}`;
  item.append(time);
  if (line.level === "warning" || line.level === "error") {
    const mark = document.createElement("b");
    mark.textContent = line.level;
    item.append(mark);
  }
  item.append(line.source === "ffmpeg" ? `ffmpeg: ${line.message}` : line.message);
  return item;
}
const filter = () => {
  const end = log.atEnd;
  $("lines").className = `at-${$("level").value}`;
  if (end) $("lines").scrollTop = $("lines").scrollHeight;
};
filter();
$("level").addEventListener("change", filter);
$("lines").addEventListener("scroll", () => { $("latest").hidden = log.atEnd; }, { passive: true });
$("latest").addEventListener("click", () => { $("lines").scrollTop = $("lines").scrollHeight; });
$("pause").addEventListener("click", () => {
  log.paused = !log.paused;
  $("pause").setAttribute("aria-pressed", String(log.paused));
  say("pause", log.paused ? "Go on" : "Pause");
  say("log-note", log.paused ? "Paused" : "");
  log.draw();
});
$("copy").addEventListener("click", async () => {
  const lines = log.chosen.length;
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(log.asText);
    else copyOldWay(log.asText);
    say("log-note", `${lines} line${lines === 1 ? "" : "s"} copied`);
  } catch {
    say("log-note", "The browser does not let this page copy: use Download");
  }
});
// Browsers give the clipboard only to encrypted pages, and a camera in the house seldom is one.
function copyOldWay(words) {
  const area = document.createElement("textarea");
  area.value = words;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  $("copy").focus();
  if (!done) throw new Failure("refused");
}
$("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([log.asText], { type: "text/plain" }));
  link.download = `${about.device ?? "camera"}-${new Date().toISOString().slice(0, 19).replace(/:/g, "-")}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
