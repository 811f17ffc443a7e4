// The MQTT broker’s settings.
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
