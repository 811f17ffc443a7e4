// Where it streams to. What is typed is never overwritten.
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
