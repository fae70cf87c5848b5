// Two int16 pictures (numbers like Hounsfield's, NONE = no data) coloured into one canvas, with letters, a scale and a
// crosshair. Shared by by_hand.js and watch.js, which Python appends to this file.
const NONE = -32768;
const WINDOW = { fixed: [600, 150], moving: [600, 150] }; // width, level: soft tissue and bone
const bone = ([width, level], wider) => shades(wider * width, level + (wider - 0.7) * width); // for the brightest voxels

function shades(width, level) { // grey 0..255 of every int16, so that a pixel costs one look-up
  const table = new Uint8Array(65536);
  for (let v = -32768; v < 32768; v++)
    table[v + 32768] = Math.max(0, Math.min(255, Math.round(255 * ((v - level) / width + 0.5))));
  table[0] = 0;
  return table;
}

function colour(canvas, fixed, moved, look) {
  // look: { mode, mix (0: CBCT alone .. 1: CT alone), fixed: table, moving: table }
  const n = Math.round(Math.sqrt(fixed.length));
  if (canvas.store?.width !== n) { canvas.store = document.createElement("canvas"); canvas.store.width = canvas.store.height = n; }
  const context = canvas.store.getContext("2d"), image = context.createImageData(n, n), out = image.data;
  const wa = Math.min(1, 2 * (1 - look.mix)), wb = Math.min(1, 2 * look.mix), square = Math.max(4, n >> 3);
  for (let i = 0, o = 0; i < fixed.length; i++, o += 4) {
    const f = fixed[i], m = moved[i], a = look.fixed[f + 32768], b = look.moving[m + 32768];
    let red, green, blue;
    if (look.mode === "difference") {
      const d = f === NONE || m === NONE ? 0 : a - b;
      red = Math.max(d, 0); blue = Math.max(-d, 0); green = (red + blue) / 2;
    } else if (look.mode === "blend") {
      red = a * wa; blue = b * wb; green = (red + blue) / 2; // CBCT orange, CT blue, grey where they agree
    } else {
      const first = look.mode === "CBCT" || (look.mode === "checkerboard" && (((i % n) / square) & 1) === ((i / n / square) & 1));
      red = green = blue = first ? a : b;
    }
    out[o] = red; out[o + 1] = green; out[o + 2] = blue; out[o + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  const to = canvas.getContext("2d");
  to.imageSmoothingEnabled = true;
  to.drawImage(canvas.store, 0, 0, canvas.width, canvas.height);
}

function dress(canvas, { title, edges, half, cross }) {
  // edges: letters at left, right, top, bottom; half: mm from the middle to an edge; cross: [x, y] mm from the middle
  const c = canvas.getContext("2d"), w = canvas.width, mm = w / (2 * half);
  c.lineWidth = 1;
  if (cross) {
    const x = Math.round(w / 2 + cross[0] * mm) + 0.5, y = Math.round(w / 2 + cross[1] * mm) + 0.5, gap = w / 40;
    c.strokeStyle = "rgba(120,255,120,.75)";
    c.beginPath();
    for (const [x0, y0, x1, y1] of [[0, y, x - gap, y], [x + gap, y, w, y], [x, 0, x, y - gap], [x, y + gap, x, w]]) { c.moveTo(x0, y0); c.lineTo(x1, y1); }
    c.stroke();
  }
  const bar = half > 80 ? 50 : half > 30 ? 20 : 10, size = Math.max(11, Math.round(w / 26));
  c.font = `bold ${size}px sans-serif`; c.textBaseline = "middle"; c.textAlign = "center";
  const write = (text, x, y) => { c.strokeStyle = "#000"; c.lineWidth = 3; c.strokeText(text, x, y); c.fillStyle = "#fff"; c.fillText(text, x, y); };
  const [left, right, top, bottom] = edges;
  write(left, size * 0.8, w / 2); write(right, w - size * 0.8, w / 2); write(top, w / 2, size * 0.8); write(bottom, w / 2, w - size * 0.8);
  c.fillStyle = "#fff"; c.fillRect(w - 12 - bar * mm, w - 10, bar * mm, 3);
  c.font = `${Math.round(size * 0.8)}px sans-serif`; write(`${bar} mm`, w - 12 - (bar * mm) / 2, w - 20);
  c.textAlign = "left";
  c.strokeStyle = "#000"; c.strokeText(title, 6, size * 0.8); c.fillText(title, 6, size * 0.8);
}

const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const shorts = (view) => new Int16Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

function make(parent, tag, values = {}, text = "") {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(values)) name in node ? (node[name] = value) : node.setAttribute(name, value);
  if (text) node.textContent = text;
  parent?.append(node);
  return node;
}

function range(parent, label, min, max, step, value, change) {
  const box = make(parent, "label", { className: "line" });
  make(box, "span", {}, label);
  const input = make(box, "input", { type: "range", min, max, step, value, ariaLabel: label });
  input.value = value;
  input.addEventListener("input", () => change(Number(input.value)));
  return input;
}

function select(parent, label, options, value, change) {
  const box = make(parent, "label", { className: "line" });
  make(box, "span", {}, label);
  const input = make(box, "select", { ariaLabel: label });
  for (const option of options) make(input, "option", { value: option }, String(option));
  input.value = value;
  input.addEventListener("change", () => change(input.value));
  return input;
}

// JupyterLab hears a key before the page does: arrows lead it to another cell, z takes back a deleted one. Keys that
// `use(event)` says are the tool's own are kept from it; gives what ends that.
function keys(root, use) {
  const heard = (e) => { if (root.contains(e.target) && !e.ctrlKey && !e.metaKey && !e.altKey && use(e)) e.stopImmediatePropagation(); };
  window.addEventListener("keydown", heard, true);
  return () => window.removeEventListener("keydown", heard, true);
}
const ofControls = (e) => e.key.startsWith("Arrow") || e.key === " " || e.key === "Enter"; // sliders, lists, buttons

// One question at a time: what is done while a picture is on its way goes with the next question, so ten quick clicks
// cost two pictures and not ten. Gives `ask(op)`; `shown` gets each answer; `state(words)` is told when none comes.
function conversation(model, view, shown, state) {
  let waiting = false, todo = [], wanted = false, since = 0, sent = 0, number = 0, timer = 0;
  const taken = []; // ms from the first deed of a question to its picture
  function pump() {
    if (waiting || !wanted) return;
    try { model.send({ ask: ++number, do: todo, view: view() }); } catch { state(false); return; } // the kernel was shut down
    [waiting, wanted, sent, since, todo] = [true, false, since, 0, []];
    timer = setTimeout(() => { waiting = false; state(false); }, 8000);
  }
  function answer(message, buffers) {
    if (message.answer !== number) return;
    clearTimeout(timer);
    state(true);
    shown(message, buffers);
    waiting = false;
    if (sent) taken.push(Math.round(performance.now() - sent));
    pump();
  }
  model.on("msg:custom", answer);
  return {
    ask(op) {
      const last = todo[todo.length - 1];
      if (op && op[0] === "move" && op[3] && last && last[0] === "move" && last[3]) op[1].forEach((x, k) => (last[1][k] += x));
      else if (op) todo.push(op);
      if (!since) since = performance.now();
      wanted = true;
      pump();
    },
    taken,
    end: () => model.off("msg:custom", answer),
  };
}
