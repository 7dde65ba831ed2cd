// The live log. Lines are kept for all views; a view shows those that match.
import { el, say, clock } from "./dom.js";

const keep = 2000; // lines in memory
const show = 600;  // lines in the document
const step = 25;   // lines that are drawn in one frame, so that none takes long
const order = { debug: 0, info: 1, warn: 2, error: 3 };

let lines = [], listeners = new Set();

/** take is given the frames of the WebSocket. After a reconnect some lines come
 * again, and after a restart of the server they count from one. */
export function take(frame, fresh) {
  const last = lines.length ? lines[lines.length - 1].n : 0;
  let add = frame.lines;
  if (fresh && add.length && lines.length) {
    const same = lines.find((l) => l.n === add[0].n);
    if (same && same.time === add[0].time) add = add.filter((l) => l.n > last);
    else if (add[0].n <= last) add = [{ gap: "the program was started anew" }, ...add];
  }
  if (frame.missed > 0) add = [{ gap: frame.missed.toLocaleString("en") + " lines came too fast to be shown" }, ...add];
  lines = lines.concat(add);
  let over = lines.length - keep;
  if (over > 0) { // errors stay longer than noise, within the same bound
    lines = lines.filter((l) => l.gap || order[l.level] >= order.warn || --over < 0).slice(-keep);
  }
  for (const f of listeners) f(add);
}

function row(l) {
  if (l.gap) return el("div", { class: "gap", text: "· · ·  " + l.gap + "  · · ·" });
  const text = el("span", { text: l.text });
  for (const [k, v] of l.attrs) if (k !== "pipeline") text.append(el("em", {}, k + "=", el("u", { text: v })));
  return el("div", { "data-level": l.level }, el("time", { datetime: l.time, text: clock(l.time) }), el("b", { text: l.level }), text);
}

/** logView shows the lines of one pipeline, or of all for null. */
export function logView(pipeline) {
  const box = el("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Log", tabindex: "0" });
  const filter = el("input", { type: "search", placeholder: "Filter by text", "aria-label": "Filter the log by text", input: again });
  const level = el("select", { "aria-label": "Least level", change: again },
    ...["debug", "info", "warn", "error"].map((v) => el("option", { value: v, text: v === "error" ? "errors" : v + " and up", selected: v === "info" })));
  const pause = el("button", { type: "button", "aria-pressed": "false", text: "Pause", click: () => {
    held = !held;
    if (held) {
      cancelAnimationFrame(frame);
      frame = 0;
      waiting = [];
    } else again();
    mark();
  } });
  const state = el("span", { class: "dim small" });
  const empty = el("p", { class: "empty" });
  let held = false, unseen = 0, follow = true, waiting = [], frame = 0;

  function match(l) {
    if (l.gap) return true;
    const own = l.attrs.find((a) => a[0] === "pipeline");
    if (pipeline !== null && own && own[1] !== pipeline) return false;
    if (order[l.level] < order[level.value]) return false;
    const want = filter.value.trim().toLowerCase();
    return !want || l.text.toLowerCase().includes(want) || l.attrs.some((a) => (a[0] + "=" + a[1]).toLowerCase().includes(want));
  }
  function mark() {
    pause.setAttribute("aria-pressed", String(held));
    say(pause, held ? "Go on" : "Pause");
    say(state, held ? (unseen ? unseen.toLocaleString("en") + " new" : "paused") : "");
    const none = box.childElementCount === 0;
    if (none) {
      say(empty, filter.value || level.value !== "debug" ? "No line matches. Clear the filter, or choose a lower level." : "Nothing has been logged yet.");
      box.append(empty);
    }
  }
  function again() {
    unseen = 0;
    follow = true;
    box.replaceChildren();
    waiting = lines.filter(match).slice(-show);
    draw();
    mark();
  }
  function come(add) {
    const some = add.filter(match);
    if (held) {
      unseen += some.length;
      return mark();
    }
    if (some.length === 0) return;
    waiting.push(...some);
    // Whoever reads far above keeps what is there, within bounds.
    if (waiting.length > show) waiting = waiting.slice(-show);
    frame ||= requestAnimationFrame(draw);
  }
  // draw draws some of the lines that wait, and asks for another frame if there are more.
  function draw() {
    cancelAnimationFrame(frame);
    frame = 0;
    const some = waiting.splice(0, step);
    if (some.length === 0) return;
    empty.remove();
    box.append(...some.map(row));
    const most = follow ? show : 3 * show;
    while (box.childElementCount > most) box.firstElementChild.remove();
    if (follow) box.scrollTop = 1e9;
    if (waiting.length) frame = requestAnimationFrame(draw);
  }
  // Where the reader is, is known from the events: asking the box would make the
  // browser lay it out each time.
  box.addEventListener("scroll", () => { follow = box.scrollHeight - box.scrollTop - box.clientHeight < 40; }, { passive: true });
  listeners.add(come);
  const root = el("section", { class: "card", "aria-label": "Log" }, el("div", { class: "bar" }, filter, level, pause, state), box);
  requestAnimationFrame(again);
  return { root, update() {}, close() { listeners.delete(come); cancelAnimationFrame(frame); } };
}
