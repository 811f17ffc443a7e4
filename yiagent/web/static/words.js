// What the page says, and what all of its script uses. The files are put together in one, in the order that page.py names.
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
