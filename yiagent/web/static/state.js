// The state: large, at the top, with what to do about it.
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
