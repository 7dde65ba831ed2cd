// The WebSocket: it is opened again whenever it ends, and also when it is silent,
// as after a laptop has slept.
import { api } from "./dom.js";

const silence = 10000; // ms; a state comes each second, or each four where many look

/** connect calls on.state, on.log, on.link(up, since) and on.refused, and returns
 * what ends it. */
export function connect(on) {
  let socket = null, wait = 250, heard = 0, timer, lost = 0;

  function open() {
    const url = new URL("api/live", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const s = socket = new WebSocket(url);
    let greeted = false;
    heard = Date.now();
    s.onmessage = (m) => {
      heard = Date.now();
      wait = 250;
      lost = 0;
      if (!greeted) on.link(true);
      greeted = true;
      const f = JSON.parse(m.data);
      if (f.type === "state") on.state(f);
      if (f.type === "log") on.log(f);
    };
    s.onclose = drop;
  }
  function close() {
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close();
    }
    socket = null;
  }
  function drop() {
    close();
    lost ||= Date.now();
    on.link(false, lost);
    clearTimeout(timer);
    timer = setTimeout(retry, wait * (0.75 + Math.random() / 2));
    wait = Math.min(wait * 2, 5000);
  }
  async function retry() {
    try {
      await api("session"); // a browser does not tell why a WebSocket was refused
    } catch (e) {
      return e.status === 401 || e.status === 403 ? on.refused(e) : drop();
    }
    open();
  }

  const watch = setInterval(() => { if (socket && Date.now() - heard > silence) drop(); }, 1000);
  const renew = setInterval(() => api("session").catch(() => {}), 3600e3);
  const online = () => { if (!socket) { wait = 250; drop(); } };
  addEventListener("online", online);
  open();
  return () => {
    close();
    clearTimeout(timer);
    clearInterval(watch);
    clearInterval(renew);
    removeEventListener("online", online);
  };
}
