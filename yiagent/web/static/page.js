const $ = (id) => document.getElementById(id);
// The address without a user and password that may stand in it: fetch refuses those.
const BASE = location.origin + location.pathname.replace(/[^/]*$/, "");
const ANSWER_TIMEOUT_MS = 30000;
// The agent says something at least every 15 s.
const SILENCE_MS = 40000;
const HIDDEN_MS = 60000;
const SPAN_S = 600;
const MOST_LINES = 1000;
const LEVELS = ["debug", "info", "warning", "error"];

const PHASES = {
  idle: ["Off", "quiet"],
  starting: ["Starting", "warn"],
  streaming: ["On air", "good"],
  stalled: ["Standing still", "bad"],
  backing_off: ["Not on air", "bad"],
  stopping: ["Stopping", "warn"],
  failed: ["Not on air", "bad"],
};
const SENTENCES = {
  idle: "Nothing is being streamed, as wanted.",
  starting: "ffmpeg is connecting; no video has left yet.",
  streaming: "Video is reaching the server.",
  stalled: "No more video is leaving. ffmpeg is replaced if it does not go on.",
  backing_off: "It failed, and is tried again.",
  stopping: "ffmpeg is ending; it still holds the camera.",
  failed: "A person has to change something. It is still tried every five minutes.",
};
const ADVICE = {
  source_unreachable: "Is the camera on, and is its RTSP server running? It goes on by itself when the camera answers.",
  source_unauthorized: "Set source.username and source.password as the camera has them, then restart the agent.",
  source_not_found: "Correct the camera\u2019s path in source.hd or source.sd. A player such as VLC shows when it is right.",
  source_no_video: "Check the camera\u2019s path. With transport udp, try tcp.",
  source_codec: "Set the camera to H.264, or use ffmpeg 6.1 or newer. For the sound: stream.audio: auto.",
  sink_unreachable: "Check the server URL, its port, and your connection to the internet.",
  sink_dns: "Check the server\u2019s name, and this machine\u2019s DNS.",
  sink_tls: "Check rtmps:// and the port, and this machine\u2019s clock.",
  sink_rejected: "Check the stream key, and the last part of the server URL. Is another sender using the key?",
  sink_closed: "Nothing to do: it is tried again. If it happens often, look at the server\u2019s own page.",
  uplink_slow: "Choose the SD channel, or Automatic, which steps down by itself. The stream goes on meanwhile.",
  stalled: "Nothing to do: ffmpeg is replaced. If it happens often, look at the camera or the uplink.",
  out_of_memory: "Choose the SD channel, or Automatic. Stop what else runs on this machine.",
  ffmpeg_missing: "Install ffmpeg, or set ffmpeg: to where it is.",
  ffmpeg_crashed: "Run yiagent doctor on the machine. log.level: debug shows all that ffmpeg said.",
  not_configured: "Fill in server and key under \u201cWhere it streams to\u201d.",
};
const SERVICES = [
  ["", "Your own server", "An RTMP server such as nginx-rtmp; its key is the stream\u2019s name."],
  ["rtmps://a.rtmps.youtube.com/live2", "YouTube", "The key: YouTube Studio, Create, Go live, Stream, \u201cStream key\u201d."],
  ["rtmps://ingest.global-contribute.live-video.net/app", "Twitch", "The key: Creator Dashboard, Settings, Stream, \u201cPrimary stream key\u201d."],
  ["rtmps://live-api-s.facebook.com:443/rtmp", "Facebook", "The key: Live Producer, Streaming software, \u201cStream key\u201d; turn on the persistent one."],
];

let state = null;
let sample = null;
let about = { channels: ["auto", "hd", "sd"], pictures: false };
let broker = null;
let skewMs = 0;

const text = (id, value) => {
  const element = $(id);
  const shown = value === "" || value === null || value === undefined ? "\u2013" : String(value);
  if (element.textContent !== shown) element.textContent = shown;
};
const say = (id, value) => {
  if ($(id).textContent !== value) $(id).textContent = value;
};
const now = () => Date.now() + skewMs;

// --- asking the agent ---

class Failure extends Error {}

async function ask(path, body) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ANSWER_TIMEOUT_MS);
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  try {
    const response = await fetch(BASE + path, { ...(body === undefined ? {} : post), signal: abort.signal, cache: "no-store" });
    const data = await response.json().catch(() => null);
    if (response.ok) return data;
    throw new Failure(data?.error?.message ?? `The agent answered with status ${response.status}.`);
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure("The agent did not answer. Nothing may have been changed: try again.");
  } finally {
    clearTimeout(timer);
  }
}

// Shows on its button that an action is under way, and its refusal where it belongs.
async function act(button, label, work, refused) {
  if (button.getAttribute("aria-busy") === "true") return undefined;
  const before = button.textContent;
  button.setAttribute("aria-busy", "true");
  button.textContent = label;
  try {
    return await work();
  } catch (error) {
    refused(error.message);
    return undefined;
  } finally {
    button.removeAttribute("aria-busy");
    if (button.textContent === label) button.textContent = before;
    show();
  }
}

const sentence = (words) => words && words[0].toUpperCase() + words.slice(1) + (/[.?!]$/.test(words) ? "" : ".");

function fault(prefix, field, message) {
  say(`${prefix}${field}-error`, sentence(message));
  const input = $(prefix + field);
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }
}

function clearFaults(prefix, fields) {
  for (const field of fields) {
    say(`${prefix}${field}-error`, "");
    $(prefix + field)?.removeAttribute("aria-invalid");
  }
}

// A refusal begins with the name of the field that caused it.
function refuse(prefix, fields, general, message, only) {
  const named = message.match(/^(\w+): ([^]*)$/);
  const field = named && fields.includes(named[1]) ? named[1] : only;
  if (field) fault(prefix, field, named && named[1] === field ? named[2] : message);
  else say(general, sentence(message));
}

// --- state ---

function duration(s) {
  s = Math.max(0, Math.round(s));
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => s >= size);
  if (first < 0) return "0 s";
  const [name, size] = units[first];
  const [next, small] = units[first + 1] ?? ["", 0];
  const rest = small ? Math.floor((s % size) / small) : 0;
  return `${Math.floor(s / size)} ${name}${rest ? ` ${rest} ${next}` : ""}`;
}
const amount = (bytes) => bytes < 1e6 ? `${Math.round(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
const rate = (kbps) => kbps === null || kbps === undefined ? "\u2013" : kbps < 9999.5 ? `${kbps < 99.5 ? kbps.toFixed(1) : Math.round(kbps)} kbit/s` : `${(kbps / 1000).toFixed(1)} Mbit/s`;
const number = (value, digits, unit) => value === null || value === undefined ? "" : `${value.toFixed(digits)}${unit}`;

function show() {
  document.body.className = live.lost ? "lost" : live.heard ? "heard" : "";
  say("link-text", live.trouble || (live.heard ? "Connected to the agent" : "Connecting to the agent"));
  $("toggle").disabled = $("restart").disabled = !state;
  if (!state) return;
  const [name, tone] = live.lost ? ["Not reachable", "bad"] : PHASES[state.phase] ?? [state.phase, "warn"];
  const reason = live.lost ? null : state.reason;
  $("status").dataset.tone = reason && tone === "good" ? "warn" : tone;
  say("phase", name);
  say("reason", live.lost ? `The agent does not answer. The last it said: ${PHASES[state.phase]?.[0] ?? state.phase}.` : reason ? reason.message : SENTENCES[state.phase] ?? "");
  say("advice", live.lost ? "Whatever was streaming may still be. This page comes back by itself." : reason ? ADVICE[reason.code] ?? "" : quietly());
  const busy = $("toggle").getAttribute("aria-busy") === "true";
  if (!busy) say("toggle", state.stream === "ON" ? "Stop" : "Start");
  const waits = !live.lost && (state.phase === "backing_off" || state.phase === "failed");
  if ($("restart").getAttribute("aria-busy") !== "true") say("restart", waits ? "Try now" : "Restart");
  $("restart").disabled = state.stream !== "ON";
  text("fact-wanted", state.stream === "ON" ? "live" : "off");
  text("fact-channel", state.active_channel ? (state.channel === "auto" ? `${state.active_channel.toUpperCase()} (auto)` : state.active_channel.toUpperCase()) : state.channel === "auto" ? "auto" : state.channel.toUpperCase());
  text("fact-attempt", state.attempt);
  say("key-state", state.key_set ? "set" : "not set");
  for (const input of document.querySelectorAll("[name=channel]")) input.closest("label").hidden = !about.channels.includes(input.value);
  settings.follow();
  tick();
}

// What is worth knowing while nothing is wrong.
function quietly() {
  if (state.phase === "streaming") return `It goes to ${state.server}.`;
  if (state.phase !== "idle") return "";
  if (!state.server || !state.key_set) return `Fill in ${!state.server ? "server" : ""}${!state.server && !state.key_set ? " and " : ""}${!state.key_set ? "stream key" : ""} under \u201cWhere it streams to\u201d, then start.`;
  return `Start goes live to ${state.server}.`;
}

function tick() {
  if (!state) return;
  const since = (now() - Date.parse(state.since)) / 1000;
  text("fact-since", live.lost ? "" : duration(since));
  say("fact-since-name", `${PHASES[state.phase]?.[0] ?? "So"} for`);
  let wait = "\u00a0";
  if (!live.lost && (state.phase === "backing_off" || state.phase === "failed")) {
    if (state.retry_at) {
      const left = Math.ceil((Date.parse(state.retry_at) - now()) / 1000);
      wait = left > 0 ? `Next try in ${duration(left)}.` : "Trying again now.";
    } else if (state.reason && state.reason.code !== "not_configured") {
      wait = "Starts when camera and server answer.";
    }
  }
  say("countdown", wait);
}

function showSample() {
  if (!sample) return;
  text("fact-fps", number(sample.fps, 1, " fps"));
  text("fact-sent", amount(sample.sent_bytes));
  text("m-cpu", number(sample.cpu_percent, 0, " %"));
  text("m-load", number(sample.load_1m, 2, ""));
  text("m-memory", sample.memory_available_kb === null ? "" : amount(sample.memory_available_kb * 1024));
  text("m-agent", sample.agent_rss_kb === null ? "" : amount(sample.agent_rss_kb * 1024));
  text("m-ffmpeg", sample.remux_rss_kb === null ? "" : amount(sample.remux_rss_kb * 1024));
  text("m-temperature", number(sample.temperature_c, 0, " \u00b0C"));
  text("m-uptime", sample.uptime_s === null ? "" : duration(sample.uptime_s));
  text("m-interface", sample.interface);
}

$("toggle").addEventListener("click", () => {
  const starting = state.stream !== "ON";
  const wishes = starting ? settings.changes() : {};
  clearAll();
  act($("toggle"), starting ? "Starting\u2026" : "Stopping\u2026", async () => {
    take(await ask("api/request", { stream: starting ? "ON" : "OFF", ...wishes }));
    if (starting) settings.saved(wishes);
  }, (message) => refuse("", settings.fields, "status-error", message));
});
$("restart").addEventListener("click", () => {
  clearAll();
  act($("restart"), "Trying\u2026", async () => take(await ask("api/restart", {})), (message) => say("status-error", sentence(message)));
});
function take(answer) {
  if (answer?.state) state = answer.state;
}
function clearAll() {
  say("status-error", "");
  say("settings-error", "");
  clearFaults("", settings.fields);
}

// --- settings: what is typed is never overwritten ---

const settings = {
  fields: ["server", "key", "channel"],
  shown: { server: "", channel: "" },
  keep: "",
  get channel() {
    return document.querySelector("[name=channel]:checked")?.value ?? "";
  },
  set channel(value) {
    for (const input of document.querySelectorAll("[name=channel]")) input.checked = input.value === value;
  },
  changes() {
    this.cut();
    const changes = {};
    const server = $("server").value.trim();
    if (server !== this.shown.server) changes.server = server;
    if ($("key").value !== "") changes.key = $("key").value.trim();
    if (this.channel && this.channel !== this.shown.channel) changes.channel = this.channel;
    return changes;
  },
  // What the agent has goes into a field only while nobody has typed there.
  follow() {
    const server = state.server ?? "";
    if (document.activeElement !== $("server") && $("server").value.trim() === this.shown.server) {
      if ($("server").value !== server) $("server").value = server;
      this.shown.server = server;
    }
    if (this.channel === this.shown.channel || this.channel === "") this.channel = this.shown.channel = state.channel;
    this.look();
  },
  saved(changes) {
    if (changes.server !== undefined && $("server").value.trim() === changes.server) {
      this.shown.server = $("server").value = state.server ?? "";
      say("server-note-text", "");
      $("uncut").hidden = true;
    }
    if (changes.channel !== undefined && this.channel === changes.channel) this.shown.channel = state.channel;
    if (changes.key !== undefined && $("key").value.trim() === changes.key) {
      $("key").value = "";
      this.conceal(true);
    }
    this.look();
  },
  look() {
    const server = $("server").value.trim();
    const service = SERVICES.findIndex(([url]) => url && server.replace(/\/+$/, "") === url);
    if (document.activeElement !== $("preset")) $("preset").value = String(Math.max(0, service));
    say("preset-help", SERVICES[$("preset").value][2]);
    $("discard").disabled = server === this.shown.server && $("key").value === "" && this.channel === this.shown.channel;
  },
  conceal(hidden) {
    $("key").type = hidden ? "password" : "text";
    $("key-show").setAttribute("aria-pressed", String(!hidden));
    say("key-show", hidden ? "Show" : "Hide");
  },
  // A whole URL, as servers show it to be copied, is server and key in one.
  cut() {
    const value = $("server").value.trim();
    const parts = value.match(/^(rtmps?:\/\/[^/?#]+\/[^?#]*[^/?#])\/([^/?#]+(?:\?[^#]*)?)$/i);
    if (!parts || value === this.keep || value === this.shown.server) return;
    this.uncut = [value, $("key").value];
    $("server").value = parts[1];
    $("key").value = parts[2];
    say("server-note-text", "The last part of the URL was moved to the stream key.");
    $("uncut").hidden = false;
    this.look();
  },
};
for (const [at, [, name]] of SERVICES.entries()) $("preset").append(new Option(name, at));
settings.look();
$("preset").addEventListener("change", () => {
  const [url] = SERVICES[$("preset").value];
  $("server").value = url;
  say("server-note-text", "");
  $("uncut").hidden = true;
  clearAll();
  settings.look();
  (url ? $("key") : $("server")).focus();
});
$("server").addEventListener("paste", () => setTimeout(() => settings.cut()));
$("server").addEventListener("change", () => settings.cut());
$("uncut").addEventListener("click", () => {
  [$("server").value, $("key").value] = settings.uncut;
  settings.keep = settings.uncut[0];
  say("server-note-text", "");
  $("uncut").hidden = true;
  $("server").focus();
  settings.look();
});
$("key-show").addEventListener("click", () => settings.conceal($("key").type === "text"));
$("discard").addEventListener("click", () => {
  if (!state) return;
  $("server").value = settings.shown.server = state.server ?? "";
  $("key").value = "";
  settings.channel = settings.shown.channel = state.channel;
  say("server-note-text", "");
  $("uncut").hidden = true;
  clearAll();
  settings.look();
});
$("settings-form").addEventListener("input", (event) => {
  clearFaults("", [event.target.name || event.target.id].filter((field) => settings.fields.includes(field)));
  say("saved", "");
  // The choice of a service comes as a change right after this, and is not to be undone before it.
  if (event.target.id !== "preset") settings.look();
});
$("settings-form").addEventListener("submit", (event) => {
  event.preventDefault();
  clearAll();
  say("saved", "");
  const changes = settings.changes();
  const names = Object.keys(changes);
  if (!names.length) {
    say("saved", "Nothing was changed.");
    return;
  }
  act($("save"), "Saving\u2026", async () => {
    take(await ask("api/request", changes));
    settings.saved(changes);
    say("saved", state.stream === "ON" ? "Saved; the stream restarts once." : "Saved.");
  }, (message) => refuse("", settings.fields, "settings-error", message, names.length === 1 ? names[0] : null));
});

// --- chart ---

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

// --- log ---

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

// --- picture ---

const picture = {
  has: false,
  count: 0,
  show() {
    $("take").disabled = !about.pictures;
    $("take").hidden = !about.pictures;
    if (!about.pictures) say("picture-text", "Pictures are off on this machine, since decoding one takes memory that a camera does not have. On a larger one: snapshot.enabled: true in the configuration, then restart the agent.");
    else if (!this.has) say("picture-text", "No picture has been taken yet.");
  },
  load(ts) {
    if (!about.pictures) return;
    const image = new Image();
    image.onload = () => {
      this.has = true;
      $("image").src = image.src;
      $("image").alt = `What the camera showed at ${new Date(ts).toLocaleTimeString()}`;
      $("image").hidden = false;
      $("picture-text").hidden = true;
      say("picture-at", `Taken at ${new Date(ts).toLocaleTimeString()}`);
    };
    // Two may be of the same second.
    this.count += 1;
    image.src = `${BASE}snapshot.jpg?${encodeURIComponent(ts)}&${this.count}`;
  },
};
$("take").addEventListener("click", () => {
  say("picture-error", "");
  act($("take"), "Taking\u2026", () => ask("api/snapshot", {}), (message) => say("picture-error", sentence(message)));
});

// --- broker ---

const brokerForm = {
  fields: ["host", "port", "username", "password", "tls"],
  shown: {},
  value(field) {
    const input = $(`broker-${field}`);
    return field === "tls" ? input.checked : field === "password" ? input.value : input.value.trim();
  },
  changes() {
    const changes = {};
    for (const field of ["host", "port", "username", "tls"]) {
      const value = this.value(field);
      if (value !== this.shown[field]) changes[field] = field === "port" ? (/^\d+$/.test(value) ? Number(value) : value) : value;
    }
    if (this.value("password") !== "") changes.password = this.value("password");
    else if (this.value("username") === "" && this.shown.username) changes.password = "";
    return changes;
  },
  show() {
    const there = { host: broker.host ?? "", port: String(broker.port), username: broker.username ?? "", tls: broker.tls };
    for (const [field, value] of Object.entries(there)) {
      const input = $(`broker-${field}`);
      if (this.shown[field] === undefined || (this.value(field) === this.shown[field] && document.activeElement !== input)) {
        if (field === "tls") input.checked = value;
        else input.value = value;
        this.shown[field] = value;
      }
    }
    say("broker-password-state", broker.password_set ? "set" : "not set");
    $("broker-reset").hidden = !broker.chosen_here;
    this.status();
  },
  status() {
    if (!broker) return;
    const where = broker.host ? `${broker.host}:${broker.port}${broker.chosen_here ? " (set on this page)" : ""}` : "";
    const why = broker.message ? `: ${broker.message}` : "";
    say("broker-status", !broker.host ? "No broker is set: this page alone commands the agent." : broker.connected ? `Connected to ${where}.` : sentence(`Not connected to ${where}${why}`));
    $("broker-note").hidden = !broker.host || broker.connected || !broker.message;
    say("broker-note-text", sentence(`The MQTT broker is away${why}`) + " This page goes on without it.");
  },
  clear() {
    clearFaults("broker-", this.fields);
    say("broker-error", "");
    say("broker-answer", "\u00a0");
  },
  async keep(changes) {
    broker = await ask("api/broker", changes);
    for (const field of ["host", "port", "username", "tls"]) this.shown[field] = this.value(field);
    $("broker-password").value = "";
    $("broker-save").hidden = true;
    this.show();
  },
  refused(message) {
    refuse("broker-", this.fields, "broker-error", message);
  },
};
$("broker-form").addEventListener("input", () => {
  brokerForm.clear();
  $("broker-save").hidden = true;
});
$("broker-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!broker) return;
  brokerForm.clear();
  $("broker-save").hidden = true;
  const changes = brokerForm.changes();
  act($("broker-connect"), "Connecting\u2026", async () => {
    const trial = await ask("api/broker/try", changes);
    if (!trial.accepted) {
      say("broker-error", sentence(`The broker did not let this agent in: ${trial.message}`));
      $("broker-save").hidden = !Object.keys(changes).length;
      return;
    }
    if (Object.keys(changes).length || !broker.connected) await brokerForm.keep(changes);
    say("broker-answer", `${trial.message}${Object.keys(changes).length ? " It is kept, and wins over the file." : ""}`);
  }, (message) => brokerForm.refused(message));
});
$("broker-save").addEventListener("click", () => {
  brokerForm.clear();
  act($("broker-save"), "Keeping\u2026", async () => {
    await brokerForm.keep(brokerForm.changes());
    say("broker-answer", "Kept. It is tried again for ever.");
  }, (message) => brokerForm.refused(message));
});
$("broker-reset").addEventListener("click", () => {
  brokerForm.clear();
  act($("broker-reset"), "Going back\u2026", async () => {
    broker = await ask("api/broker/reset", {});
    brokerForm.shown = {};
    $("broker-password").value = "";
    brokerForm.show();
    say("broker-answer", "The configuration\u2019s broker holds again.");
  }, (message) => brokerForm.refused(message));
});

// --- live: server-sent events by fetch, which tells why where EventSource does not ---

const live = {
  heard: false,
  lost: false,
  trouble: "",
  lastId: "",
  tries: 0,
  abort: null,
  timer: 0,
  async run() {
    clearTimeout(this.timer);
    this.timer = 0;
    const abort = this.abort = new AbortController();
    let silence = 0;
    const hear = () => {
      clearTimeout(silence);
      silence = setTimeout(() => abort.abort(), SILENCE_MS);
    };
    hear();
    try {
      const headers = this.lastId ? { "Last-Event-ID": this.lastId } : {};
      const response = await fetch(`${BASE}api/events`, { headers, signal: abort.signal, cache: "no-store" });
      if (response.status === 401) return this.end("The password has changed. Load this page again to log in.");
      if (!response.ok) throw new Failure((await response.json().catch(() => null))?.error?.message ?? "");
      await this.begin();
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        hear();
        const blocks = (rest + decoder.decode(value, { stream: true })).split("\n\n");
        rest = blocks.pop();
        blocks.forEach((block) => this.event(block));
      }
      this.again("");
    } catch (error) {
      if (this.abort === abort) this.again(error instanceof Failure ? error.message : "");
    } finally {
      clearTimeout(silence);
    }
    return undefined;
  },
  // Everything that events do not tell, anew after each interruption: the agent may be another one.
  async begin() {
    const before = about.boot;
    let history;
    [about, history, broker] = await Promise.all([ask("api/about"), ask("api/history"), ask("api/broker")]);
    if (before && before !== about.boot) log.forget();
    skewMs = Date.parse(about.now) - Date.now();
    say("name", about.name);
    document.title = about.name;
    say("about", `${about.device}, yiagent ${about.agent}, ffmpeg ${about.ffmpeg ?? "not found"}`);
    chart.fill(history.points);
    picture.show();
    brokerForm.show();
    this.tries = 0;
    this.heard = true;
    this.lost = false;
    this.trouble = "";
    show();
  },
  event(block) {
    const fields = {};
    for (const line of block.split("\n")) {
      const colon = line.indexOf(":");
      if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 1).replace(/^ /, "");
    }
    if (!fields.event) return;
    const data = JSON.parse(fields.data);
    if (fields.id) this.lastId = fields.id;
    if (fields.event === "state") {
      state = data;
      show();
    } else if (fields.event === "telemetry") {
      // The first one after a connection is in the history already.
      if (sample && sample.ts !== data.ts) chart.add(performance.now() / 1000, [data.stream_kbps, data.tx_kbps, data.rx_kbps]);
      sample = data;
      showSample();
      chart.draw();
    } else if (fields.event === "log") {
      log.add(data);
    } else if (fields.event === "broker") {
      if (broker) Object.assign(broker, data);
      brokerForm.status();
    } else if (fields.event === "snapshot") {
      picture.load(data.ts);
    }
  },
  again(why) {
    this.heard = false;
    this.lost = true;
    this.tries += 1;
    const wait = Math.min(5, this.tries) * 1000 * (0.7 + 0.6 * Math.random());
    this.trouble = `The agent does not answer${why ? ` (${why})` : ""}; trying again`;
    show();
    if (!document.hidden) this.timer = setTimeout(() => this.run(), wait);
  },
  end(why) {
    this.heard = false;
    this.lost = true;
    this.trouble = why;
    show();
  },
  pause() {
    const abort = this.abort;
    this.abort = null;
    clearTimeout(this.timer);
    this.timer = 0;
    abort?.abort();
  },
};
// A page that nobody looks at costs the camera nothing.
let leaving = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(leaving);
  if (document.hidden) leaving = setTimeout(() => live.pause(), HIDDEN_MS);
  else if (!live.abort || live.timer) live.run();
});
addEventListener("online", () => live.timer && live.run());
setInterval(() => {
  tick();
  if (live.lost) chart.draw();
}, 1000);
live.run();
