// The picture.
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
