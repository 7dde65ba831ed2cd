// How far copies of tables are, and what can be asked about tables: to copy one once
// more, to follow one more, to leave one out.
import { el, say, attr, reuse, count, rate, span, bytes, api, toast, ask } from "./dom.js";

const most = 300; // rows in the document
const health = { waiting: "held", copying: "waiting", copied: "good", failed: "failed" };
const order = { failed: 0, copying: 1, waiting: 2, copied: 3 };

export function copiesView(path, name, session) {
  const field = (label, props) => el("label", {}, label, el("input", { autocomplete: "off", spellcheck: "false", ...props }));
  const table = (value) => field("Table", { name: "table", required: true, value: value ?? "", placeholder: "schema.table, as the source calls it" });
  const why = () => field("Why, for the log", { name: "why", placeholder: "optional" });
  const act = async (action, text, order) => { await api(path + "/" + action, order); toast(text); at = 0; };

  const askCopy = (value) => ask("Copy a table once more", [
    el("p", { class: "dim", text: "Its rows are read again while changes go on, and written over those that the target has. Rows that only the target has stay." }),
    table(value), field("Only rows that meet", { name: "where", placeholder: "a condition in SQL; empty: all rows" }), why()],
  "Copy", (f) => act("copy", "The table is being copied.", { table: f.get("table").trim(), where: f.get("where").trim(), why: f.get("why") }));
  const askFollow = () => ask("Follow one more table", [
    el("p", { class: "dim", text: "Its changes come from now on, for good: also after a restart. Write it into the configuration too." }), table(),
    el("label", { class: "choice" }, el("input", { type: "checkbox", name: "rows", checked: true }), "Copy the rows that it has", el("small", { text: "The target's table must be empty." })), why()],
  "Follow", (f) => act("follow", "The table is followed.", { table: f.get("table").trim(), without_rows: !f.get("rows"), why: f.get("why") }));
  const askUnfollow = () => ask("Leave a table out", [
    el("p", { class: "dim", text: "None of its changes comes from now on, also after a restart. What the target has of it stays." }), table(), why()],
  "Leave it out", (f) => act("unfollow", "The table is left out.", { table: f.get("table").trim(), why: f.get("why") }));

  const buttons = {
    copy: el("button", { type: "button", text: "Copy a table…", click: () => askCopy() }),
    follow: el("button", { type: "button", text: "Follow a table…", click: askFollow }),
    unfollow: el("button", { type: "button", text: "Leave one out…", click: askUnfollow }),
  };
  const body = el("tbody"), note = el("p", { class: "empty" });
  const grid = el("table", {}, el("thead", {}, el("tr", {}, el("th", { text: "Table" }), el("th", { text: "State" }),
    ...["Rows", "Of about", "Size", "Rows / s", "Left"].map((t) => el("th", { class: "num", text: t })))), body);
  const sum = el("span", { class: "dim small" });
  const root = el("section", { class: "card", "aria-label": "Copies" },
    el("div", { class: "bar" }, el("div", { class: "actions" }, ...Object.values(buttons)), sum), el("div", { class: "scroll" }, grid), note);
  let all = null, at = 0, busy = false, can = [];

  function make(key) {
    const cells = [0, 1, 2, 3, 4].map(() => el("td", { class: "num" })), pill = el("span", { class: "pill" });
    const error = el("p", { class: "error", hidden: true });
    const again = el("button", { type: "button", text: "Copy it anew…", hidden: true, click: () => askCopy(key.slice(key.indexOf(" ") + 1)) });
    return { root: el("tr", {}, el("td", { class: "mono", text: key.slice(key.indexOf(" ") + 1) }), el("td", {}, pill, error, again), ...cells), cells, pill, error, again };
  }
  function draw() {
    for (const [k, b] of Object.entries(buttons)) b.hidden = session.read_only || !can.includes(k);
    const list = all ?? [], keyed = list.map((c, i) => [i + " " + c.name, c]).sort((a, b) => order[a[1].state] - order[b[1].state]).slice(0, most);
    const rows = reuse(body, keyed.map((k) => k[0]), make);
    for (const [key, c] of keyed) {
      const r = rows.get(key);
      attr(r.pill, "data-health", health[c.state]);
      say(r.pill, c.state);
      say(r.error, c.error);
      r.error.hidden = !c.error;
      r.again.hidden = c.state !== "failed" || session.read_only || !can.includes("copy");
      [count(c.rows), c.total ? count(c.total) : "–", bytes(c.bytes), c.state === "copying" ? rate(c.rows_per_second) : "–",
        c.left_seconds === null ? "–" : span(c.left_seconds)].forEach((t, i) => say(r.cells[i], t));
    }
    const of = (s) => list.filter((c) => c.state === s).length;
    say(sum, list.length ? of("copied") + " of " + count(list.length) + " tables copied" + (of("failed") ? ", " + of("failed") + " failed" : "") : "");
    grid.hidden = list.length === 0;
    note.hidden = all === null || list.length > 0 && list.length <= most;
    say(note, list.length ? "And " + count(list.length - most) + " more." : "No rows are being copied. A copy of the rows that are there already, at the start or of one table, shows here.");
  }
  draw();
  return {
    root, close() {},
    async update(p) {
      can = p.can;
      if (busy || Date.now() - at < 1000 || document.hidden) return draw();
      busy = true;
      try { all = (await api(path + "/copies")).copies; at = Date.now(); } catch { /* the link tells */ }
      busy = false;
      draw();
    },
  };
}
