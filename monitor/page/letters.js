// Dead letters: the transactions that the target lacks, what is in them, and what
// can be done with them.
import { el, say, count, bytes, api, toast, ask } from "./dom.js";

const states = { parked: "waits", retrying: "to be applied", applied: "applied", skipped: "skipped", void: "comes again" };
const tones = { parked: "behind", retrying: "waiting", applied: "good", skipped: "held", void: "held" };

const plural = (n, one) => count(n) + " " + one + (n === 1 ? "" : "s");
const why = () => el("label", {}, "Why, for the log", el("input", { name: "why", autocomplete: "off", placeholder: "optional" }));

function reason(l) {
  if (l.state === "applied") return "Applied together with transaction " + count(l.at) + ".";
  if (l.why) return l.why;
  if (l.error) return (l.part ? l.part + ": " : "") + l.error;
  return l.after.length ? "Waits for letter " + l.after.join(", ") + ", which touches the same rows." : "";
}

export function lettersView(path, _name, session) {
  const act = !session.read_only;
  let list = [], open = null, shown = "", key = null;
  const body = el("tbody"), note = el("p", { class: "empty" }), detail = el("div");
  const table = el("table", { class: "stack" }, el("thead", {}, el("tr", {}, ...["Letter", "Transaction", "What", "Why"].map((t) => el("th", { text: t })))), body);
  const buttons = {
    retry: el("button", { type: "button", class: "main", text: "Retry all", click: () => order({ action: "retry", all: true }) }),
    skip: el("button", { type: "button", text: "Skip all…", click: () => askSkip({ all: true }, "all letters that wait") }),
    purge: el("button", { type: "button", text: "Purge settled…", click: askPurge }),
  };
  const sum = el("span", { class: "dim" });
  const bar = el("div", { class: "bar" }, el("span", { class: "grow" }, sum), act ? buttons.retry : null, act ? buttons.skip : null, act ? buttons.purge : null);
  const root = el("section", { class: "card", "aria-label": "Dead letters" }, bar, el("div", { class: "scroll" }, table), note, detail);

  async function send(o) {
    const n = (await api(path + "/letters", o)).letters;
    toast({ retry: plural(n, "letter") + " will be applied.", park: "It will not be applied.", skip: plural(n, "letter") + " skipped.",
      purge: plural(n, "letter") + " purged.", edit: "The letter is changed. Retry it now." }[o.action]);
    await load(true);
  }
  const order = (o) => send(o).catch((e) => toast(e.message));

  function askSkip(which, text) {
    ask("Skip " + text, [el("p", { class: "dim", text: "What it did is then missing on the target, and what waits for it waits no more. The letter is kept until it is purged." }), why()],
      "Skip", (f) => send({ action: "skip", why: f.get("why"), ...which }));
  }
  function askPurge() {
    ask("Purge settled letters", [el("p", { class: "dim", text: "Letters that were applied or skipped are forgotten. A target that is put back from a backup of before then may lack what they did." })],
      "Purge", () => send({ action: "purge", all: true }));
  }
  function askEdit(l, i, c, col) {
    const image = c.op === "delete" ? "before" : "after", value = col[image];
    const none = el("input", { type: "checkbox", name: "null" });
    none.checked = value === undefined && (col.nulls === image || col.nulls === "both");
    ask("Change " + col.name, [
      el("p", { class: "dim", text: c.op + " of " + c.table + " · " + col.type }),
      el("label", {}, "Value", el("input", { name: "value", value: value ?? "", autocomplete: "off", spellcheck: "false" })),
      el("label", { class: "choice" }, none, el("span", { text: "NULL" })),
      el("p", { class: "dim small", text: "Bytes are written as 0x and hexadecimal digits. What came in is kept." })],
    "Change", (f) => send({ action: "edit", letters: [l.number], edits: [{ change: i, column: col.name, image, value: f.get("null") ? null : f.get("value") }] }));
  }

  function draw() {
    const waiting = list.filter((l) => l.state === "parked" || l.state === "retrying"), settled = list.length - waiting.length;
    say(sum, waiting.length ? plural(waiting.length, "transaction") + (waiting.length === 1 ? " is" : " are") + " missing on the target. Mend what the first names, then retry."
      : settled ? "Nothing waits." : "");
    buttons.retry.hidden = !list.some((l) => l.state === "parked");
    buttons.skip.hidden = waiting.length === 0;
    buttons.purge.hidden = settled === 0;
    table.hidden = list.length === 0;
    note.hidden = list.length > 0;
    say(note, "No dead letters. A transaction that the target refuses for good is kept here, with those that depend on it, while the rest goes on.");
    body.replaceChildren(...list.map((l) => {
      const b = el("button", { type: "button", class: "plain", "aria-expanded": String(open === l.number), text: String(l.number), click: () => show(open === l.number ? null : l.number) });
      return el("tr", { "data-letter": l.number }, el("td", {}, b, " ", el("span", { class: "pill", "data-health": tones[l.state], text: states[l.state] })),
        el("td", {}, el("code", { text: l.id || String(l.seq) }), el("div", { class: "dim small", text: new Date(l.came).toLocaleString() })),
        el("td", {}, plural(l.rows, "row") + (l.statements ? ", " + plural(l.statements, "statement") : ""), el("div", { class: "dim small mono", text: l.tables.join(", ") })),
        el("td", { class: l.state === "parked" && l.error ? "error" : "dim", text: reason(l).slice(0, 400) }));
    }));
  }

  async function show(number) {
    open = number;
    key = null;
    draw();
    if (number === null) {
      detail.replaceChildren();
      return;
    }
    await loadOpen();
    detail.querySelector("h3")?.focus();
  }

  async function loadOpen() {
    if (open === null) return;
    let l;
    try {
      l = await api(path + "/letters/" + open);
    } catch (e) {
      detail.replaceChildren(el("p", { class: "error", text: e.message }));
      return;
    }
    const now = JSON.stringify(l);
    if (l.number !== open || now === key) return;
    key = now;
    detail.replaceChildren(card(l));
  }

  function card(l) {
    const one = { letters: [l.number] };
    const actions = el("div", { class: "actions" });
    if (act && l.state === "parked") actions.append(el("button", { type: "button", class: "main", text: "Retry letter " + l.number, click: () => order({ action: "retry", ...one }) }));
    if (act && l.state === "retrying") actions.append(el("button", { type: "button", text: "Do not retry", click: () => order({ action: "park", ...one }) }));
    if (act && (l.state === "parked" || l.state === "retrying")) actions.append(el("button", { type: "button", text: "Skip letter " + l.number + "…", click: () => askSkip(one, "letter " + l.number) }));
    if (act && l.state !== "parked" && l.state !== "retrying") actions.append(el("button", { type: "button", text: "Purge letter " + l.number, click: () => { order({ action: "purge", ...one }); show(null); } }));
    const facts = [["State", states[l.state]], ["Why", reason(l)], ["Statement", l.statement], ["Waits for", l.after.length ? "letter " + l.after.join(", ") : ""],
      ["Committed", l.committed ? new Date(l.committed).toISOString() : ""], ["Tried", l.attempts ? plural(l.attempts, "time") : "not yet"],
      ["Edited", l.edits ? plural(l.edits, "time") : ""], ["Size", bytes(l.bytes)]].filter((f) => f[1]);
    return el("section", { class: "letter list", "aria-label": "Letter " + l.number },
      el("div", { class: "head" }, el("h3", { class: "grow", tabindex: "-1", text: "Letter " + l.number }), actions),
      el("dl", { class: "pairs" }, ...facts.flatMap(([k, v]) => [el("dt", { text: k }), el("dd", { class: "mono", text: v })])),
      ...(l.changes ?? []).map((c, i) => change(l, c, i)),
      l.cut ? el("p", { class: "empty", text: "And more, which are not shown." }) : null);
  }

  function change(l, c, i) {
    const editable = act && l.state === "parked";
    const head = el("div", { class: "head" }, el("h4", { class: "grow" }, c.op + " ", el("code", { text: c.table })),
      editable ? el("button", { type: "button", class: "plain", text: "Leave out", click: () => order({ action: "edit", letters: [l.number], edits: [{ change: i, drop: true }] }) }) : null);
    if (c.query !== undefined) return el("div", { class: "change" }, head, el("code", { text: c.query }));
    const value = (col, image) => {
      const none = col.nulls === image || col.nulls === "both";
      return el("td", { class: "mono" + (col[image] === undefined ? " dim" : ""), text: col[image] ?? (none ? "NULL" : "–") });
    };
    const images = c.op === "update" ? ["before", "after"] : [c.op === "delete" ? "before" : "after"];
    return el("div", { class: "change" }, head, el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, el("th", { text: "Column" }), ...images.map((m) => el("th", { text: { before: "Before", after: "After" }[m] })), editable ? el("th", {}, el("span", { class: "hide", text: "Change" })) : null)),
      el("tbody", {}, ...(c.columns ?? []).map((col) => el("tr", { class: col.changed ? "changed" : null },
        el("td", {}, el("span", { class: "mono", text: col.name }), col.key ? el("span", { class: "dim small", text: " key" }) : null), ...images.map((m) => value(col, m)),
        editable ? el("td", { class: "num" }, el("button", { type: "button", class: "plain", "aria-label": "Change " + col.name, text: "Edit", click: () => askEdit(l, i, c, col) })) : null))))));
  }

  let at = 0, busy = false;
  async function load(now) {
    if (!now && (busy || Date.now() - at < 2000 || document.hidden)) return;
    busy = true;
    try {
      const next = (await api(path + "/letters")).letters, text = JSON.stringify(next);
      at = Date.now();
      list = next;
      if (text !== shown) {
        shown = text;
        draw();
        await loadOpen();
      }
    } catch { /* the link tells */ }
    busy = false;
  }
  draw();
  return { root, close() {}, update() { load(false); } };
}
