// Live: server-sent events by fetch, which tells why where EventSource does not.
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
