// Trace: what became of a row or a transaction, from its place in the source's log
// to the target's statement, as the journal has it.
import { el, say, count, span, clock, api } from "./dom.js";

const outcome = (t) => t.skipped ? "Skipped" : t.parked ? "Parked" : t.error ? "Refused" : "Applied";
const tone = (t) => t.skipped ? "held" : t.parked ? "behind" : t.error ? "failed" : "good";
const field = (label, props) => el("label", {}, label, el("input", { autocomplete: "off", spellcheck: "false", ...props }));

export function traceView(path) {
  const form = el("form", { class: "bar trace-form", submit: (e) => { e.preventDefault(); ask(); } },
    field("Table", { name: "table", placeholder: "shop.orders" }),
    field("Key", { name: "key", placeholder: "42, or several with commas" }),
    field("or transaction", { name: "tx", placeholder: "its number, or its name at the source" }),
    el("button", { class: "main", text: "Find" }), el("button", { type: "button", text: "What was refused", click: () => load("failed=true", "Nothing was refused.") }));
  const note = el("p", { class: "dim small", role: "status" }), list = el("div", { class: "list" });
  const root = el("section", { class: "card list", "aria-label": "Trace" }, form, note, list);
  let asked = 0;

  function ask() {
    const f = new FormData(form), table = f.get("table").trim(), key = f.get("key").trim(), tx = f.get("tx").trim(), q = new URLSearchParams();
    if (tx && !table) q.set(/^[0-9]+$/.test(tx) ? "seq" : "id", tx);
    else {
      if (!table) {
        asked++; // an answer that is under way would write over it
        return say(note, "Name a table and a key, or a transaction.");
      }
      q.set("table", table);
      for (const k of key ? splitKey(key) : []) q.append("key", k);
    }
    load(q, "The journal has nothing of it.");
  }
  async function load(query, none) {
    const mine = ++asked;
    say(note, "Looking…");
    try {
      const t = await api(path + "/trace?" + query);
      if (mine !== asked) return;
      show(t, none);
    } catch (e) {
      if (mine === asked) { say(note, e.message); list.replaceChildren(); }
    }
  }
  function show(t, none) {
    const since = t.since ? "It goes back to " + new Date(t.since).toLocaleString() + "." : "It is empty.";
    const keeps = { errors: "The journal keeps only what is refused (level errors).", sampled: "The journal keeps samples and what is refused (level sampled).", all: "The journal keeps all." }[t.level];
    const gaps = t.gaps.length ? " It lacks transactions " + t.gaps.slice(0, 5).map((g) => count(g.first) + (g.last > g.first ? " to " + count(g.last) : "")).join(", ") + (t.gaps.length > 5 ? " and more" : "") + "." : "";
    say(note, (t.transactions.length ? count(t.transactions.length) + (t.more ? " and older ones, newest first. " : ", newest first. ") : none + " ") + keeps + " " + since + gaps);
    list.replaceChildren(...t.transactions.map(transaction));
  }
  if (path) load("failed=true", "Nothing was refused.");
  return { root, update() {}, close() { asked++; } };
}

/** splitKey splits at commas, but not within double quotes. */
export function splitKey(text) {
  return [...text.matchAll(/\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)/g)].slice(0, -1)
    .map((m) => m[1] !== undefined ? m[1].replace(/\\(.)/g, "$1") : m[2].trim());
}

function transaction(t) {
  const facts = [["Committed", t.committed ? new Date(t.committed).toISOString() : "not known"], ["Position", t.position],
    ["Read", clock(t.read)], [outcome(t), clock(t.at) + (t.committed ? ", " + span(Math.max(0, (Date.parse(t.at) - Date.parse(t.committed)) / 1000)) + " after the commit" : "")]];
  const steps = t.steps.map((s, i) => el("li", {},
    el("h3", {}, (i === 0 ? "Received" : i === t.steps.length - 1 && !t.error.startsWith("stage ") ? "To the target" : "Behind the stage") + (i ? " · " : ""), i ? el("code", { text: s.name }) : null),
    s.same ? el("p", { class: "dim", text: "as before" }) : null,
    ...s.changes.map(change),
    s.others > 0 ? el("p", { class: "dim small", text: "and " + count(s.others) + " other " + (s.others > 1 ? "changes" : "change") + " of the transaction" }) : null,
    !s.same && s.changes.length === 0 && s.others === 0 ? el("p", { class: "dim", text: "nothing is left of it" }) : null));
  return el("article", { class: "traced", "data-health": tone(t) },
    el("header", {}, el("span", { class: "pill", "data-health": tone(t), text: outcome(t) }),
      el("b", { text: "Transaction " + count(t.seq) }), t.part ? el("span", { class: "dim small", text: "goes on" }) : null, t.snapshot ? el("span", { class: "dim small", text: "copied row" }) : null, el("code", { text: t.id })),
    t.parked ? el("p", {}, t.error[0].toUpperCase() + t.error.slice(1) + ". ", el("a", { href: "#/p/" + encodeURIComponent(t.pipeline) + "/letters", text: "Dead letters" }))
      : t.error ? el("p", { class: "error mono", text: t.error }) : null,
    el("dl", { class: "pairs small" }, ...facts.flatMap(([k, v]) => [el("dt", { text: k }), el("dd", { class: "mono", text: v })])),
    el("ol", { class: "steps" }, ...steps, t.statements.length ? el("li", {}, el("h3", { text: "Statement" }), ...t.statements.map((s) => el("pre", { class: "mono", text: s }))) : null));
}

function change(c) {
  if (c.query) return el("pre", { class: "mono", text: c.query });
  const value = (v) => el("td", { class: "mono" + (v && v.kind !== "text" ? " dim" : ""), text: v === null ? "" : v.kind === "null" ? "NULL" : v.kind === "bytes" ? "0x" + v.text : v.text });
  const same = (a, b) => a && b && a.kind === b.kind && a.text === b.text;
  const before = c.columns.some((x) => x.before), after = c.columns.some((x) => x.after);
  return el("div", { class: "scroll" }, el("table", { class: "diff" },
    el("caption", {}, el("b", { text: c.op + " " }), el("code", { text: c.table })),
    el("tbody", {}, ...c.columns.map((x) => el("tr", { "data-changed": before && after && x.after && !same(x.before, x.after) },
      el("th", { scope: "row", text: x.name + (x.key ? " (key)" : "") }), before ? value(x.before) : null, after ? value(before && after && x.after === null ? x.before : x.after) : null)))));
}
