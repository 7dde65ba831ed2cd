// Charts over time on a canvas: an area with a line, three levels, the time below.

const ratio = () => Math.max(1, window.devicePixelRatio || 1);

function prepare(canvas) {
  const w = canvas.clientWidth, h = canvas.clientHeight, r = ratio();
  if (canvas.width !== Math.round(w * r) || canvas.height !== Math.round(h * r)) {
    canvas.width = Math.round(w * r);
    canvas.height = Math.round(h * r);
  }
  const g = canvas.getContext("2d");
  g.setTransform(r, 0, 0, r, 0, 0);
  g.clearRect(0, 0, w, h);
  return { g, w, h };
}

function colour(name) {
  // What a custom property of two colours means is known by an element only.
  const probe = colour.probe ??= document.body.appendChild(Object.assign(document.createElement("i"), { hidden: true }));
  probe.style.color = "var(" + name + ")";
  return getComputedStyle(probe).color;
}

/** level returns a round number that is not below v. */
export function level(v) {
  if (v <= 0) return 1;
  const p = 10 ** Math.floor(Math.log10(v));
  return [1, 2, 2.5, 5, 10].map((m) => m * p).find((l) => l >= v * 0.9999);
}

function trace(g, points, x, y, base) {
  g.beginPath();
  points.forEach(([t, v], i) => (i ? g.lineTo(x(t), y(v)) : g.moveTo(x(t), y(v))));
  g.stroke();
  if (points.length === 0) return;
  g.lineTo(x(points[points.length - 1][0]), base);
  g.lineTo(x(points[0][0]), base);
  g.closePath();
  g.globalAlpha = 0.12;
  g.fill();
  g.globalAlpha = 1;
}

/** spark draws points, [time, value], without any words. */
export function spark(canvas, points, seconds) {
  const { g, w, h } = prepare(canvas);
  const end = points.length ? points[points.length - 1][0] : 0, top = Math.max(...points.map((p) => p[1]), 1e-9);
  g.strokeStyle = g.fillStyle = colour("--accent");
  g.lineWidth = 1.5;
  trace(g, points, (t) => w - ((end - t) / seconds) * w, (v) => h - 2 - (v / top) * (h - 4), h);
}

/** chart makes a figure whose header tells the value under the pointer, or else
 * the latest. Levels, if given, are the round numbers above 1. */
export function chart(header, canvas, write, levels = []) {
  let points = [], seconds = 900, at = null, left = 56;
  const value = header.querySelector("b");

  function draw() {
    const { g, w, h } = prepare(canvas);
    if (w === 0) return;
    const bottom = 20, right = 4, high = h - bottom, now = Date.now() / 1000;
    const end = Math.max(now, points.length ? points[points.length - 1][0] : 0);
    const largest = Math.max(0, ...points.map((p) => p[1])), top = largest > 1 ? levels.find((l) => l >= largest) ?? level(largest) : level(largest);
    g.font = "11px " + getComputedStyle(document.body).fontFamily;
    left = Math.max(56, ...[0, 0.5, 1].map((part) => Math.ceil(g.measureText(write(top * part)).width) + 12));
    const x = (t) => w - right - ((end - t) / seconds) * (w - left - right);
    const y = (v) => high - (v / top) * (high - 8);
    g.textBaseline = "middle";
    g.lineWidth = 1;
    g.strokeStyle = colour("--line");
    g.fillStyle = colour("--dim");
    g.textAlign = "right";
    for (const part of [0, 0.5, 1]) {
      const yy = Math.round(y(top * part)) + 0.5;
      g.beginPath();
      g.moveTo(left, yy);
      g.lineTo(w - right, yy);
      g.stroke();
      g.fillText(write(top * part), left - 8, yy);
    }
    const step = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600].find((s) => (seconds / s) * 64 <= w - left) ?? 21600;
    const zone = new Date().getTimezoneOffset() * 60;
    for (let t = Math.ceil((end - seconds - zone) / step) * step + zone; t < end; t += step) {
      const d = new Date(t * 1000), text = String(d.getHours()).padStart(2, "0") + ":" + String(d.getMinutes()).padStart(2, "0");
      g.textAlign = "center";
      if (x(t) > left + 14 && x(t) < w - 18) g.fillText(text, x(t), h - 7);
    }
    g.save();
    g.beginPath();
    g.rect(left, 0, w - left - right + 2, h);
    g.clip();
    g.strokeStyle = g.fillStyle = colour("--accent");
    g.lineWidth = 1.75;
    g.lineJoin = "round";
    // A break in the points, as while the program was down, is a break of the line.
    let run = [];
    const gap = Math.max(5, (seconds / 900) * 5, seconds > 900 ? 75 : 0);
    for (const p of points) {
      if (run.length && p[0] - run[run.length - 1][0] > gap) {
        trace(g, run, x, y, high);
        run = [];
      }
      run.push(p);
    }
    trace(g, run, x, y, high);
    let shown = points[points.length - 1];
    if (at !== null && points.length) {
      const t = end - ((w - right - at) / (w - left - right)) * seconds;
      shown = points.reduce((a, b) => (Math.abs(b[0] - t) < Math.abs(a[0] - t) ? b : a));
      g.strokeStyle = colour("--dim");
      g.lineWidth = 1;
      g.beginPath();
      g.moveTo(x(shown[0]), 4);
      g.lineTo(x(shown[0]), high);
      g.stroke();
      g.beginPath();
      g.arc(x(shown[0]), y(shown[1]), 3.5, 0, 7);
      g.fill();
    }
    g.restore();
    const text = shown ? write(shown[1]) + (at !== null ? " at " + new Date(shown[0] * 1000).toTimeString().slice(0, 8) : "") : "no data yet";
    if (value.textContent !== text) value.textContent = text;
  }

  const move = (e) => { at = e.offsetX; draw(); };
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerdown", move);
  canvas.addEventListener("pointerleave", () => { at = null; draw(); });
  canvas.addEventListener("keydown", (e) => {
    const by = { ArrowLeft: -8, ArrowRight: 8 }[e.key];
    if (!by) return;
    e.preventDefault();
    at = Math.min(canvas.clientWidth - 4, Math.max(left, (at ?? canvas.clientWidth - 4) + by));
    draw();
  });
  canvas.addEventListener("blur", () => { at = null; draw(); });
  const size = new ResizeObserver(draw);
  size.observe(canvas);
  return {
    set(p, s) { points = p; seconds = s; draw(); },
    close() { size.disconnect(); },
  };
}
