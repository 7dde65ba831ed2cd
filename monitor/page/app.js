// The page: which view is shown, who is logged in, and the link to the server.
import { el, say, attr, api } from "./dom.js";
import { connect } from "./live.js";
import { take, logView } from "./log.js";
import { overview, pipeline, pipelineLink } from "./views.js";

const main = document.getElementById("main"), nav = document.getElementById("nav"), link = document.getElementById("link");
let session = null, state = null, view = null, key = null, disconnect = null, fresh = false;

// Theme: as the system has it, or as chosen here.
const root = document.documentElement;
let theme = null;
try { theme = localStorage.getItem("dfs-theme"); } catch { /* private windows */ }
if (theme) root.dataset.theme = theme;
document.getElementById("theme").addEventListener("click", () => {
  const dark = getComputedStyle(root).colorScheme === "dark" || getComputedStyle(root).colorScheme.includes("light dark") && matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("dfs-theme", root.dataset.theme); } catch { /* then it is for this page only */ }
  if (state) view?.update(state);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (state) view?.update(state); });
document.getElementById("logout").addEventListener("click", async () => {
  await api("logout", {}).catch(() => {});
  location.reload();
});

function route() {
  if (!session || !state) return;
  const [page, name, tab] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const names = state.pipelines.map((p) => p.name);
  let want = page === "p" && names.includes(name) ? "p/" + name : page === "log" && session.log ? "log" : "";
  let one = name;
  if (want === "" && names.length === 1) { // an overview of one is that one
    want = "p/" + names[0];
    one = names[0];
  }
  const links = [["", "Overview", "#/"], ...(session.log ? [["log", "Log", "#/log"]] : [])];
  if (names.length === 1) links[0] = ["p/" + names[0], "Pipeline", "#/"];
  nav.replaceChildren(...links.map(([k, t, h]) => el("a", { href: h, text: t, "aria-current": k === want ? "page" : null })));
  if (want !== key) {
    view?.close();
    key = want;
    view = want === "log" ? logPage() : want ? pipeline(one, session) : overview();
    main.replaceChildren(view.root);
    if (document.activeElement !== document.body) main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  view.show?.(page === "p" ? tab : undefined);
  view.update(state);
}

function logPage() {
  const v = logView(null);
  v.root.classList.add("page");
  return { ...v, root: el("div", { class: "list" }, el("div", { class: "head" }, el("h1", { text: "Log" })), v.root) };
}

const worst = ["failed", "behind", "waiting", "warned", "held", "good"];
function takeState(s) {
  const first = state === null;
  const renamed = first || s.pipelines.map((p) => p.name).join("\0") !== state.pipelines.map((p) => p.name).join("\0");
  state = s;
  const h = worst.find((w) => s.pipelines.some((p) => p.health === w));
  document.title = (h === "failed" || h === "behind" ? "! " : "") + (s.pipelines.length === 1 ? s.pipelines[0].name + " · " : "") + "DFS";
  if (renamed) route();
  else view?.update(s);
}

let lostTimer;
function takeLink(up, since) {
  clearInterval(lostTimer);
  attr(link, "data-health", up ? "good" : "waiting");
  if (up) {
    fresh = true;
    say(link, "Live");
    document.body.removeAttribute("data-stale");
    return;
  }
  const tell = () => {
    const s = Math.round((Date.now() - since) / 1000);
    say(link, "Reconnecting" + (s > 2 ? ", " + s + " s" : "…"));
    if (s > 2) document.body.dataset.stale = "";
  };
  tell();
  lostTimer = setInterval(tell, 1000);
}

// What the server has put into the page spares a round trip before the first view.
let first = JSON.parse(document.getElementById("first")?.textContent ?? "null");

async function start() {
  try {
    session = first ? first.session : await api("session");
  } catch (e) {
    if (e.status === 401 || e.status === 429) return login();
    main.replaceChildren(el("p", { class: "empty", role: "alert", text: e.message }));
    if (e.status === 0) setTimeout(start, 2000);
    return;
  }
  document.getElementById("logout").hidden = !session.login;
  if (first) takeState(first.state);
  first = null;
  disconnect?.();
  disconnect = connect({
    state: takeState, link: takeLink,
    log(f) { take(f, fresh); if (f.lines.length) fresh = false; },
    refused() { disconnect(); start(); },
  });
}

function login() {
  view?.close();
  view = key = state = null;
  const error = el("p", { class: "error", role: "alert", hidden: true });
  const form = el("form", {
    submit: async (e) => {
      e.preventDefault();
      error.hidden = true;
      const f = new FormData(form);
      try {
        await api("login", { name: f.get("name"), password: f.get("password") });
        main.replaceChildren(el("p", { class: "empty", text: "Loading…" }));
        start();
      } catch (err) {
        error.textContent = err.message;
        error.hidden = false;
      }
    },
  }, el("h1", { text: "Log in" }), el("label", {}, "Name", el("input", { name: "name", autocomplete: "username", required: true, autofocus: true })),
  el("label", {}, "Password", el("input", { name: "password", type: "password", autocomplete: "current-password", required: true })), error,
  el("button", { class: "main", text: "Log in" }));
  main.replaceChildren(el("section", { class: "card login" }, form));
  say(link, "Not logged in");
  form.elements.name.focus();
}

addEventListener("hashchange", route);
start();
