// Asking the agent for something, and showing that it is under way.
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
