// The pages: the overview, and one pipeline. A view is made once, and update is
// called with each state, so that nothing moves but what has changed.
import { el, say, attr, reuse, count, rate, span, bytes, clock, api, toast, ask } from "./dom.js";
import { chart, spark } from "./chart.js";
import { logView } from "./log.js";
import { traceView } from "./trace.js";
import { copiesView } from "./copies.js";
import { lettersView } from "./letters.js";

const words = { good: "Healthy", warned: "Warning", behind: "Behind", waiting: "Waiting", held: "Held", failed: "Failed" };
const tabs = [["tables", "Tables"], ["letters", "Dead letters"], ["copies", "Copies"], ["log", "Log"], ["trace", "Trace"], ["positions", "Positions"], ["settings", "Settings"], ["actions", "Actions"]];

export const pipelineLink = (name, tab) => "#/p/" + encodeURIComponent(name) + (tab ? "/" + tab : "");

const partName = (part) => part === "sink" ? "Target" : part[0].toUpperCase() + part.slice(1);

function figure(label) {
  const b = el("b"), root = el("div", { class: "figure" }, b, el("span", { text: label }));
  return { root, b };
}

export function overview() {
  const title = el("h1", { text: "Pipelines" }), list = el("div", { class: "list" });
  const root = el("div", { class: "list" }, el("div", { class: "head" }, title), list);
  const past = new Map();

  function make(name) {
    const pill = el("i", { class: "dot" }), label = el("span", { text: name }), text = el("div", { class: "say" });
    const line = el("canvas", { "aria-hidden": "true" });
    const r = figure("rows / s"), l = figure("lag"), w = figure("waiting");
    const row = el("a", { class: "row card", href: pipelineLink(name) },
      el("div", {}, el("div", { class: "name" }, pill, label), text), line, r.root, l.root, w.root);
    api("pipelines/" + encodeURIComponent(name) + "/history").then((h) => {
      past.set(name, h.points.map((p) => [p[0], p[1]]).concat(past.get(name) ?? []));
    }).catch(() => {});
    return { root: row, pill, text, line, r, l, w };
  }
  return {
    root,
    update(s) {
      const bad = s.pipelines.filter((p) => p.health === "failed" || p.health === "behind").length, n = s.pipelines.length;
      const warned = s.pipelines.filter((p) => p.health === "warned").length;
      say(title, bad ? bad + (n > 1 ? " of " + n + " pipelines" : " pipeline") + (bad > 1 ? " need you" : " needs you")
        : warned ? n + (n > 1 ? " pipelines, " + warned : " pipeline,") + " with a warning"
        : n + (n > 1 ? " pipelines, all" : " pipeline,") + " well");
      const rows = reuse(list, s.pipelines.map((p) => p.name), make);
      for (const p of s.pipelines) {
        const v = rows.get(p.name);
        attr(v.root, "data-health", p.health);
        say(v.text, (p.error ? p.error.text : p.warnings[0] ?? p.text).slice(0, 160));
        say(v.r.b, rate(p.rows_per_second));
        say(v.l.b, span(p.lag_seconds));
        say(v.w.b, count(p.waiting));
        const points = past.get(p.name) ?? [];
        points.push([Date.parse(s.at) / 1000, p.rows_per_second]);
        past.set(p.name, points.slice(-300));
        spark(v.line, past.get(p.name), 300);
      }
    },
    close() {},
  };
}

export function pipeline(name, session) {
  const path = "pipelines/" + encodeURIComponent(name);
  const pill = el("span", { class: "pill" }), text = el("p", { class: "dim" });
  const actions = el("div", { class: "actions" });
  const trouble = { part: el("h2"), text: el("code"), remedy: el("p"), actions: el("div", { class: "actions" }) };
  trouble.root = el("section", { class: "card trouble", role: "alert", hidden: true }, trouble.part, trouble.text, trouble.remedy, trouble.actions);
  const pending = el("section", { class: "card notice", hidden: true });
  const warnings = el("section", { class: "card trouble", "data-health": "waiting", role: "status", hidden: true });
  let now = null;

  async function act(action, order) {
    await api(path + "/" + action, order ?? {});
    toast({ pause: "Paused.", resume: "Resumed.", stop: "Stopping.", drain: "Draining.", start: "Started.", skip: "The transaction will be skipped.",
      "stop-at": order && order.at ? "It will stop there." : "It will not stop.", unskip: "It will not be skipped." }[action]);
  }
  const quick = (action, order) => () => act(action, order).catch((e) => toast(e.message));
  const why = () => el("label", {}, "Why, for the log", el("input", { name: "why", autocomplete: "off", placeholder: "optional" }));

  function askStop() {
    const choice = (value, title, more, checked, off) => el("label", { class: "choice" },
      el("input", { type: "radio", name: "how", value, checked, disabled: off }), title, el("small", { text: more }));
    const can = (a) => now && now.can.includes(a);
    ask("Stop " + name, [
      el("fieldset", {},
        choice("stop", "Now", "Finishes the batch in hand. Nothing is lost; start goes on from there.", can("stop"), !can("stop")),
        choice("drain", "When the queue is empty", can("drain") ? "Reads no more from the source, and applies what is queued." : "For pipelines with a queue that run.", false, !can("drain")),
        choice("stop-at", "At a place", "Exactly between two transactions.", !can("stop"), false)),
      el("label", {}, "Place", el("input", { name: "at", autocomplete: "off", spellcheck: "false", placeholder: "gtid:… · file:NAME:POS · seq:N · time:2026-01-02T15:04:05Z" })),
      why()],
    "Stop", (f) => {
      const how = f.get("how");
      if (how === "stop-at" && !f.get("at").trim()) throw new Error("Name the place at which to stop.");
      return act(how, how === "stop-at" ? { at: f.get("at").trim(), why: f.get("why") } : { why: f.get("why") });
    });
  }
  function askSkip(id, restart) {
    ask("Skip one transaction", [
      el("p", { class: "dim", text: "The target steps over exactly this transaction, which is then missing there. The log says who asked for it." }),
      el("label", {}, "Transaction", el("input", { name: "id", value: id ?? "", autocomplete: "off", spellcheck: "false", required: true, placeholder: "its GTID, or as the error names it" })),
      why()],
    restart ? "Skip and start" : "Skip", async (f) => {
      await act("skip", { id: f.get("id").trim(), why: f.get("why") });
      if (restart) await act("start");
    });
  }

  const buttons = {
    pause: el("button", { type: "button", text: "Pause", click: quick("pause") }),
    resume: el("button", { type: "button", text: "Resume", click: quick("resume") }),
    start: el("button", { type: "button", class: "main", text: "Start", click: quick("start") }),
    stop: el("button", { type: "button", text: "Stop…", click: askStop }),
    skip: el("button", { type: "button", text: "Skip…", click: () => askSkip() }),
  };
  if (!session.read_only) actions.append(buttons.start, buttons.resume, buttons.pause, buttons.stop, buttons.skip);
  const mendSkip = el("button", { type: "button", text: "Skip this transaction…", click: () => askSkip(now.error.transaction, now.can.includes("start")) });
  const mendStart = el("button", { type: "button", class: "main", text: "Start again", click: quick("start") });
  if (!session.read_only) trouble.actions.append(mendStart, mendSkip);

  const tile = (label) => {
    const b = el("b", { text: "–" }), small = el("small"), root = el("div", { class: "tile" }, el("span", { text: label }), b, small);
    return { root, b, small };
  };
  const tiles = { lag: tile("Lag"), waiting: tile("Waiting"), catch: tile("Caught up in"), rows: tile("Rows / s"), txs: tile("Transactions / s") };
  const flow = el("div", { class: "flow" });

  // Charts. Points of the last quarter of an hour come with each state.
  let minutes = 15, points = [], fetched = 0;
  const figureOf = (title, write, levels) => {
    const header = el("header", {}, el("h2", { text: title }), el("b"));
    const canvas = el("canvas", { role: "img", tabindex: "0", "aria-label": title + " over time; left and right arrows move along it" });
    return { root: el("section", { class: "card chart" }, header, canvas), chart: chart(header, canvas, write, levels) };
  };
  const graphs = [[1, figureOf("Rows per second", rate)], [4, figureOf("Lag", span, times)]];
  const draw = () => graphs.forEach(([i, f]) => f.chart.set(points.map((p) => [p[0], p[i]]), minutes * 60));
  async function fetchPoints() {
    fetched = Date.now();
    try {
      points = (await api(path + "/history?minutes=" + minutes)).points;
      draw();
    } catch { /* the link tells */ }
  }
  const ranges = el("div", { class: "ranges", role: "group", "aria-label": "Range of the charts" },
    ...[[15, "15 min"], [60, "1 h"], [360, "6 h"], [1440, "24 h"]].map(([m, t]) => el("button", {
      type: "button", text: t, "aria-pressed": String(m === 15), click: (e) => {
        minutes = m;
        for (const b of ranges.children) b.setAttribute("aria-pressed", String(b === e.target));
        fetchPoints();
      },
    })));
  fetchPoints();

  const tabBar = el("nav", { class: "tabs", "aria-label": "Details" }), body = el("div");
  let tab = null, view = null;
  function show(which) {
    if (!tabs.some((t) => t[0] === which) || which === "trace" && !session.journal) which = "tables";
    if (which === tab) return;
    tab = which;
    tabBar.replaceChildren(...tabs.filter((t) => (t[0] !== "log" || session.log) && (t[0] !== "trace" || session.journal) && (t[0] !== "letters" || now?.letters.on)).map(([k, t]) =>
      el("a", { href: pipelineLink(name, k), text: t, "aria-current": k === tab ? "page" : null })));
    view?.close();
    view = { tables: tablesView, positions: positionsView, settings: settingsView, actions: actionsView, log: () => logView(name), trace: traceView, copies: copiesView, letters: lettersView }[tab](path, name, session);
    body.replaceChildren(view.root);
    if (now) view.update(now);
  }

  const root = el("div", { class: "list" },
    el("div", { class: "head" }, el("div", { class: "grow" }, el("div", { class: "head" }, el("h1", { text: name }), pill), text), actions),
    trouble.root, warnings, pending,
    el("section", { class: "card tiles", "aria-label": "Figures" }, ...Object.values(tiles).map((t) => t.root)),
    flow, el("div", { class: "head" }, el("h2", { class: "grow", text: "Over time" }), ranges),
    el("div", { class: "charts" }, ...graphs.map(([, f]) => f.root)), tabBar, body);

  return {
    root, show,
    close() { view?.close(); graphs.forEach(([, f]) => f.chart.close()); },
    update(s) {
      const p = s.pipelines.find((p) => p.name === name);
      if (!p) return;
      const had = now?.letters.on;
      now = p;
      if (had !== p.letters.on && tab) { // whether the tab is there is known now
        const which = tab;
        tab = null;
        show(which);
      }
      attr(pill, "data-health", p.health);
      say(pill, words[p.health]);
      say(text, p.text);
      for (const [k, b] of Object.entries(buttons)) {
        const has = k === "stop" ? p.can.includes("stop") || p.can.includes("stop-at") : p.can.includes(k);
        b.hidden = !has || k === "start" && p.error !== null || k === "resume" && p.state === "starting";
      }
      say(buttons.resume, p.state === "retrying" ? "Try now" : "Resume");
      trouble.root.hidden = !p.error;
      if (p.error) {
        attr(trouble.root, "data-health", p.error.passing ? "waiting" : "failed");
        say(trouble.part, (p.error.passing ? "Trying again" : "Stopped") + (p.error.part ? ": " + partName(p.error.part).toLowerCase() : ""));
        say(trouble.text, p.error.text);
        say(trouble.remedy, p.error.remedy);
        mendStart.hidden = !p.can.includes("start");
        mendSkip.hidden = !p.error.skippable || !p.can.includes("skip");
        trouble.actions.hidden = mendStart.hidden && mendSkip.hidden;
      }
      warnings.hidden = p.warnings.length === 0;
      const warned = p.warnings.join("\n");
      if (warnings.shown !== warned) {
        warnings.shown = warned;
        warnings.replaceChildren(...p.warnings.map((t) => el("p", { text: t })));
      }
      const asks = (p.stop_at ? [["Will stop at " + p.stop_at + ".", "stop-at", {}]] : []).concat(p.skip.map((id) => ["Will skip " + id + ".", "unskip", { id }]));
      pending.hidden = asks.length === 0;
      const key = JSON.stringify(asks);
      if (pending.key !== key) {
        pending.key = key;
        pending.replaceChildren(...asks.flatMap(([t, a, o]) => [el("span", { class: "mono", text: t }),
          session.read_only ? null : el("button", { type: "button", text: "Take back", click: quick(a, o) })].filter(Boolean)));
      }
      say(tiles.lag.b, span(p.lag_seconds));
      const apply = p.legs[p.legs.length - 1];
      say(tiles.lag.small, apply.committed ? "applied up to " + clock(apply.committed).slice(0, 8) : "nothing applied yet");
      say(tiles.waiting.b, count(p.waiting));
      say(tiles.waiting.small, p.waiting === 1 ? "transaction" : "transactions");
      const read = p.parts[0].state === "running" || p.parts[0].state === "paused"; // else nobody knows what is to come
      say(tiles.catch.b, p.catch_up_seconds === null || !read ? "–" : span(p.catch_up_seconds));
      say(tiles.catch.small, !read ? "the source is not read" : p.waiting === 0 ? "nothing waits" : p.catch_up_seconds === null ? "it does not come nearer" : "at the pace of the last minute");
      say(tiles.rows.b, rate(p.rows_per_second));
      say(tiles.rows.small, count(p.rows) + " in all");
      say(tiles.txs.b, rate(p.transactions_per_second));
      say(tiles.txs.small, p.rejected_transactions ? count(p.rejected_transactions) + " stepped over" : count(p.transactions) + " in all");
      updateFlow(p);
      if (minutes === 15) {
        const t = Date.parse(s.at) / 1000;
        if (!points.length || t > points[points.length - 1][0] + 0.5) {
          points.push([t, p.rows_per_second, p.transactions_per_second, p.bytes_per_second, p.lag_seconds, p.waiting]);
          while (points[0][0] < t - 900) points.shift();
        }
        draw();
      } else if (Date.now() - fetched > 30000) fetchPoints();
      view?.update(p);
    },
  };

  function updateFlow(p) {
    const health = { running: "good", paused: "held", stopped: "held", starting: "waiting", retrying: "waiting", waiting: "waiting", failed: "failed" };
    const parts = reuse(flow, p.parts.map((x) => x.name), (part) => {
      const dot = el("i", { class: "dot" }), state = el("span", { class: "dim small" }), list = el("dl");
      const label = partName(part);
      return { root: el("section", { class: "card part" }, el("header", {}, dot, label, state), list), state, list, cells: new Map() };
    });
    for (const x of p.parts) {
      const v = parts.get(x.name);
      attr(v.root, "data-health", health[x.state] ?? "held");
      say(v.state, x.state);
      const lines = factsOf(p, x);
      if (v.keys !== lines.map((l) => l[0]).join()) {
        v.keys = lines.map((l) => l[0]).join();
        v.list.replaceChildren(...lines.flatMap(([k, , help]) => [el("dt", { text: k, title: help }), el("dd")]));
      }
      lines.forEach(([, value], i) => say(v.list.children[2 * i + 1], value));
    }
  }
}

// What a part's card tells: of its measures, those that matter first.
const worth = {
  source: ["received_bytes", "transactions", "filtered_transactions", "connections"],
  queue: ["bytes", "file_bytes", "transactions", "full"],
  sink: ["commits", "inserts", "updates", "deletes", "conflicts"],
};
function factsOf(p, part) {
  const facts = [], has = new Map(part.measures.map((m) => [m.name, m]));
  const names = worth[part.name] && worth[part.name].some((n) => has.has(n)) ? worth[part.name].filter((n) => has.has(n)) : part.measures.slice(0, 5).map((m) => m.name);
  for (const n of names) {
    const m = has.get(n);
    facts.push([n.replaceAll("_", " ").replace(/ ?bytes$/, "") || "size", n.endsWith("bytes") ? bytes(m.value) : n === "full" ? (m.value ? "yes" : "no") : count(m.value), m.help]);
  }
  if (part.name === "source" && p.source) {
    const s = p.source;
    if (s.unread !== null) facts.push(["unread", count(s.unread), "transactions of its log that have not been read, followed or not, once a minute"]);
    else if (s.unread_bytes !== null) facts.push(["unread", bytes(s.unread_bytes), "of its log have not been read, once a minute"]);
    if (s.purge_known) facts.push(["kept for", s.purge_in_seconds === null ? "ever" : s.purge_in_seconds <= 0 ? "no longer" : span(s.purge_in_seconds), "how long the source keeps what has not been read"]);
    if (Math.abs(s.clock_offset_seconds) > Math.max(0.05, s.clock_error_seconds)) facts.push(["clock", (s.clock_offset_seconds > 0 ? "+" : "−") + span(Math.abs(s.clock_offset_seconds)), "how far its clock is ahead of this host's; the lag is corrected by it"]);
  }
  if (facts.length) return facts;
  const leg = part.name === "sink" || p.legs.length === 1 ? p.legs[p.legs.length - 1] : p.legs[0];
  return part.name.startsWith("stage") ? [["kind", part.kind, "Go type"]] :
    [["last", count(leg.seq), "number of the last transaction"], ["transactions", count(leg.transactions), "since Run began"], ["size", bytes(leg.bytes), "since Run began"]];
}

/** polled is a view whose content is asked for each few seconds while it is seen. */
function polled(root, ms, load) {
  let at = 0, busy = false;
  return {
    root, close() {},
    async update() {
      if (busy || Date.now() - at < ms || document.hidden) return;
      busy = true;
      try { await load(); at = Date.now(); } catch { /* the link tells */ }
      busy = false;
    },
  };
}

// Levels of a chart of seconds, whose halves read well too.
const times = [1, 2, 4, 10, 20, 30, 60, 120, 240, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200];

const most = 300; // rows of a table in the document

function tablesView(path) {
  const body = el("tbody"), note = el("p", { class: "empty" });
  let all = [];
  const filter = el("input", { type: "search", placeholder: "Filter by name", "aria-label": "Filter tables by name", input: draw });
  const table = el("table", {}, el("thead", {}, el("tr", {}, el("th", { text: "Table" }), ...["Received", "Applied", "Rejected"].map((t) => el("th", { class: "num", text: t })))), body);
  function draw() {
    const want = filter.value.trim().toLowerCase(), some = all.filter((t) => t.name.toLowerCase().includes(want));
    const rows = reuse(body, some.slice(0, most).map((t) => t.name), (n) => {
      const cells = [0, 1, 2].map(() => el("td", { class: "num" }));
      return { root: el("tr", {}, el("td", { class: "mono", text: n }), ...cells), cells };
    });
    for (const t of some.slice(0, most)) [t.received, t.applied, t.rejected].forEach((n, i) => say(rows.get(t.name).cells[i], count(n)));
    table.hidden = some.length === 0;
    note.hidden = some.length > 0 && some.length <= most;
    say(note, all.length === 0 ? "No rows have come yet. Change a row of a table that is followed, and it appears here."
      : some.length === 0 ? "No table's name has that. Clear the filter." : "And " + count(some.length - most) + " more. Filter to see them.");
  }
  const root = el("section", { class: "card", "aria-label": "Tables" }, el("div", { class: "bar" }, filter, el("span", { class: "dim small", text: "Rows since the start. Received by the source's name, applied by the target's." })),
    el("div", { class: "scroll" }, table), note);
  draw();
  return polled(root, 2000, async () => { all = (await api(path + "/tables")).tables; draw(); });
}

function positionsView() {
  const root = el("div", { class: "list" });
  return {
    root, close() {},
    update(p) {
      const legs = reuse(root, p.legs.map((l) => l.name), (n) => {
        const list = el("dl", { class: "pairs" });
        return { root: el("section", { class: "card list" }, el("h2", { text: n === "capture" ? "Source to queue" : "To the target" }), list), list };
      });
      for (const l of p.legs) {
        const facts = [["Transaction", l.seq ? count(l.seq) : "none yet"], ["Its name at the source", l.id || "–"],
          ["Committed", l.committed ? new Date(l.committed).toISOString() : "–"], ["From commit to here", l.committed ? span(l.latency_seconds) : "–"],
          ["Position", l.position || "not started"], ["Retries", count(l.retries)]];
        const list = legs.get(l.name).list;
        if (!list.children.length) list.append(...facts.flatMap(([k]) => [el("dt", { text: k }), el("dd", { class: "mono" })]));
        facts.forEach(([, v], i) => say(list.children[2 * i + 1], v));
      }
    },
  };
}

function settingsView(path) {
  const root = el("section", { class: "card", "aria-label": "Settings" });
  return polled(root, 60000, async () => {
    const { settings } = await api(path + "/settings");
    root.replaceChildren(settings.length ? el("dl", { class: "pairs" }, ...settings.flatMap((s) => [el("dt", { text: s.name }), el("dd", { class: "mono", text: s.value })]))
      : el("p", { class: "empty", text: "The program shows no settings. Give them as Options.Settings." }));
  });
}

function actionsView(path, name) {
  const root = el("section", { class: "card", "aria-label": "Actions" });
  let shown = null;
  return polled(root, 2000, async () => {
    const list = (await api("audit")).actions.filter((a) => a.pipeline === name).reverse(), key = JSON.stringify(list);
    if (key === shown) return;
    shown = key;
    root.replaceChildren(list.length ? el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ...["When", "Who", "What", "Why"].map((t) => el("th", { text: t })))),
      el("tbody", {}, ...list.map((a) => el("tr", {}, el("td", { class: "mono", text: new Date(a.time).toLocaleString() }), el("td", { text: a.by + " · " + a.from }),
        el("td", {}, a.action + " ", el("code", { text: a.argument }), a.error ? el("p", { class: "error", text: a.error }) : null), el("td", { text: a.why }))))))
      : el("p", { class: "empty", text: "Nobody has asked anything of this pipeline yet. What you do with the buttons above is listed here, and logged." }));
  });
}
