// Small tools of the page. Text from pipelines reaches the document as text only:
// nothing here or elsewhere reads it as HTML.

/** el makes an element. Props that are functions are listeners, and "text" and
 * "class" are what they say; null and false leave an attribute out. */
export function el(tag, props = {}, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (typeof v === "function") e.addEventListener(k, v);
    else if (k === "text") e.textContent = v;
    else if (k === "class") e.className = v;
    else if (v !== null && v !== undefined && v !== false) e.setAttribute(k, v === true ? "" : v);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

/** say sets a text if it has changed, so that the browser has nothing to do if not. */
export function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

/** attr sets an attribute if it has changed; null removes it. */
export function attr(e, name, value) {
  if (value === null) e.removeAttribute(name);
  else if (e.getAttribute(name) !== value) e.setAttribute(name, value);
}

/** reuse makes parent's children those that make returns for the keys, and keeps
 * those that are there already. */
export function reuse(parent, keys, make) {
  const old = parent.kept ?? new Map(), now = new Map();
  for (const k of keys) now.set(k, old.get(k) ?? make(k));
  if (keys.length !== old.size || keys.some((k, i) => parent.children[i] !== now.get(k).root)) {
    parent.replaceChildren(...[...now.values()].map((v) => v.root));
  }
  parent.kept = now;
  return now;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const count = (n) => whole.format(n);

/** rate writes a number per second: small ones with a digit after the point. */
export function rate(n) {
  if (n >= 1e6) return short.format(n);
  return n > 0 && n < 10 ? n.toFixed(1) : whole.format(n);
}

/** span writes seconds as people say them. */
export function span(s) {
  if (s === null || s === undefined) return "–";
  if (s < 0.0005) return "0 s";
  if (s < 1) return Math.round(s * 1000) + " ms";
  if (s < 60) return Math.round(s * 10) / 10 + " s";
  s = Math.round(s);
  const two = (of, unit, part, name) => Math.floor(s / of) + unit + (Math.floor((s % of) / part) ? " " + Math.floor((s % of) / part) + name : "");
  if (s < 3600) return two(60, " min", 1, " s");
  if (s < 86400) return two(3600, " h", 60, " min");
  return two(86400, " d", 3600, " h");
}

export function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (n < 1024 || unit === "TiB") return (unit === "B" || n >= 100 ? Math.round(n) : n.toFixed(1)) + " " + unit;
    n /= 1024;
  }
}

export function clock(t, seconds = true) {
  const d = new Date(t), p = (n, w = 2) => String(n).padStart(w, "0");
  return p(d.getHours()) + ":" + p(d.getMinutes()) + (seconds ? ":" + p(d.getSeconds()) + "." + p(d.getMilliseconds(), 3) : "");
}

/** api calls the server. An answer that is an error becomes an Error with its text
 * and status. */
export async function api(path, post) {
  let r;
  try {
    r = await fetch("api/" + path, post === undefined ? {} :
      { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(post) });
  } catch {
    throw Object.assign(new Error("The monitor cannot be reached. Is the program running?"), { status: 0 });
  }
  const v = await r.json().catch(() => ({}));
  if (!r.ok) throw Object.assign(new Error(v.error ?? "The monitor answered " + r.status + "."), { status: r.status });
  return v;
}

let toastTimer;
export function toast(text) {
  const t = document.getElementById("toast");
  t.textContent = text;
  t.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { t.hidden = true; }, 6000);
}

/** ask shows a form and sends what it holds; send's Error is shown in it. */
export function ask(title, fields, button, send) {
  const d = document.getElementById("dialog");
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const go = el("button", { class: "main", text: button });
  const form = el("form", {
    method: "dialog", submit: async (e) => {
      e.preventDefault();
      go.disabled = true;
      error.hidden = true;
      try {
        await send(new FormData(form));
        d.close();
      } catch (err) {
        error.textContent = err.message;
        error.hidden = false;
      }
      go.disabled = false;
    },
  }, el("h2", { id: "dialog-title", text: title }), ...fields, error,
    el("div", { class: "actions" }, el("button", { type: "button", text: "Cancel", click: () => d.close() }), go));
  d.replaceChildren(form);
  d.showModal();
}
