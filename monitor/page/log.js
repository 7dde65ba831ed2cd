// The live log. Lines are kept for all views; a view shows those that match.
import { el, say, attr, clock } from "./dom.js";

const keep = 2000; // lines in memory
const tail = 80;   // lines in the document while the newest are followed
const more = 60;   // lines that are added where somebody scrolls to
const most = 300;  // lines in the document
const tooFast = " lines came too fast to be shown";
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
  if (frame.missed > 0) add = [{ gap: frame.missed.toLocaleString("en") + tooFast, missed: frame.missed }, ...add];
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

/** logView shows the lines of one pipeline, or of all for null. The document has those
 * that can be seen, and some before and after; so drawing takes as long however many
 * come. */
export function logView(pipeline) {
  const box = el("div", { class: "log", role: "log", "aria-live": "off", "aria-label": "Log", tabindex: "0" });
  const filter = el("input", { type: "search", placeholder: "Filter by text", "aria-label": "Filter the log by text", input: again });
  const level = el("select", { "aria-label": "Least level", change: again },
    ...["debug", "info", "warn", "error"].map((v) => el("option", { value: v, text: v === "error" ? "errors" : v + " and up", selected: v === "info" })));
  const pause = el("button", { type: "button", "aria-pressed": "false", text: "Pause", click: () => {
    held = !held;
    if (!held) again();
    mark();
  } });
  const newest = el("button", { type: "button", text: "To the newest", hidden: true, click: () => {
    if (held) pause.click();
    else { follow = true; draw(); }
    box.focus({ preventScroll: true });
  } });
  const state = el("span", { class: "dim small", role: "status" });
  const empty = el("p", { class: "empty" });
  // shown are the lines that match; the one at index i has the number base + i, and those
  // from first up to next are in the document.
  let shown = [], base = 0, first = 0, next = 0;
  let held = false, unseen = 0, missed = 0, follow = true, frame = 0;

  function match(l) {
    if (l.gap) return true;
    const own = l.attrs.find((a) => a[0] === "pipeline");
    if (pipeline !== null && own && own[1] !== pipeline) return false;
    if (order[l.level] < order[level.value]) return false;
    const want = filter.value.trim().toLowerCase();
    return !want || l.text.toLowerCase().includes(want) || l.attrs.some((a) => (a[0] + "=" + a[1]).toLowerCase().includes(want));
  }
  function mark() {
    attr(pause, "aria-pressed", String(held));
    say(pause, held ? "Go on" : "Pause");
    newest.hidden = follow && !held;
    say(state, unseen ? unseen.toLocaleString("en") + " new" : held ? "paused" : missed ? missed.toLocaleString("en") + tooFast : "");
    if (shown.length === 0) {
      say(empty, filter.value || level.value !== "debug" ? "No line matches. Clear the filter, or choose a lower level." : "Nothing has been logged yet.");
      if (box.firstChild !== empty) box.replaceChildren(empty);
    } else empty.remove();
  }
  function again() {
    shown = lines.filter(match);
    base = first = next = 0;
    follow = true;
    box.replaceChildren();
    draw();
  }
  function come(add) {
    const some = add.filter(match);
    missed = add[0]?.missed ?? 0; // the place of which is out of sight by the lines behind it
    if (some.length === 0) return;
    if (held || !follow) unseen += some.length;
    if (held) return mark();
    shown = shown.concat(some);
    const over = shown.length - keep;
    if (over > 0) {
      shown = shown.slice(over);
      base += over;
    }
    frame ||= requestAnimationFrame(draw);
  }
  const rows = (from, to) => shown.slice(from - base, to - base).map(row);
  // draw shows the newest lines, if they are followed.
  function draw() {
    cancelAnimationFrame(frame);
    frame = 0;
    if (follow) {
      const end = base + shown.length, start = Math.max(base, end - tail);
      unseen = 0;
      if (next <= start || first > start) box.replaceChildren(...rows(start, end));
      else {
        for (; first < start; first++) box.firstElementChild.remove();
        box.append(...rows(next, end));
      }
      first = start;
      next = end;
    }
    mark();
    if (follow) box.scrollTop = 1e9;
  }
  // Where the reader is, is known from the events: asking the box would make the
  // browser lay it out each time.
  box.addEventListener("scroll", () => {
    const below = box.scrollHeight - box.scrollTop - box.clientHeight, end = base + shown.length;
    const was = follow;
    // While they are followed, more may have come than are drawn yet.
    follow = !held && below < 40 && (was || next === end);
    if (follow) unseen = 0;
    if (was !== follow) mark();
    if (was && follow) return;
    if (box.scrollTop < 400 && first > base) { // also if some of those in the document are not kept any more
      const from = Math.max(base, first - more), high = box.scrollHeight;
      box.prepend(...rows(from, first));
      first = from;
      box.scrollTop += box.scrollHeight - high; // the lines that are read stay where they are
      for (; next - first > most; next--) box.lastElementChild.remove();
    } else if (below < 400 && next < end) {
      if (next < base) return again(); // what comes next is not kept any more
      const to = Math.min(end, next + more);
      box.append(...rows(next, to));
      next = to;
      const high = box.scrollHeight;
      for (; next - first > most; first++) box.firstElementChild.remove();
      box.scrollTop -= high - box.scrollHeight;
    }
  }, { passive: true });
  listeners.add(come);
  const root = el("section", { class: "card", "aria-label": "Log" }, el("div", { class: "bar" }, filter, level, pause, newest, state), box);
  requestAnimationFrame(again);
  return { root, update() {}, close() { listeners.delete(come); cancelAnimationFrame(frame); } };
}
