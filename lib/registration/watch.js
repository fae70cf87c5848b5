// Walks beside each other: a slider and a play button along them, three planes for each, the curve and the twelve action
// values in step, the saliency map on top.
function render({ model, el }) {
  const { views, pixels, names, ticks, curves, values, actions, attention } = model.get("given");
  const look = { mode: "blend", mix: 0.5, fixed: shades(...WINDOW.fixed), moving: shades(...WINDOW.moving) };
  const view = { point: null, tick: 0, attention: false };
  let fixed = null, moved = null, heat = null, now = null, playing = false, last = 0, pause = 60;

  const root = make(el, "div", { className: "walk" });
  const bar = make(root, "div", { className: "bar" });
  const play = make(bar, "button", { title: "play" }, "▶");
  const slider = make(bar, "input", { type: "range", min: 0, max: ticks, step: 1, ariaLabel: "step" });
  slider.value = 0;
  const label = make(bar, "span", {}, "");
  const tools = make(root, "div", { className: "bar" });
  select(tools, "show", ["blend", "checkerboard", "difference", "CBCT", "CT"], "blend", (mode) => { look.mode = mode; draw(); });
  range(tools, "CBCT – CT", 0, 1, 0.05, 0.5, (mix) => { look.mix = mix; draw(); });
  select(tools, "speed", ["slow", "normal", "fast"], "normal", (s) => (pause = { slow: 300, normal: 60, fast: 0 }[s]));
  if (attention.length) {
    const box = make(make(tools, "label", { className: "line" }, "where it looks "), "input", { type: "checkbox", ariaLabel: "where it looks" });
    box.addEventListener("change", () => { view.attention = box.checked; talk.ask(); });
  }
  const grid = make(root, "div", { className: "pictures" });
  const rows = names.map((name) => {
    const title = make(grid, "div", { className: "name" }, name);
    return { title, canvases: views.map((v) => make(grid, "canvas", { width: 1.5 * pixels, height: 1.5 * pixels, className: v.name })) };
  });
  const charts = make(root, "div", { className: "charts" });
  const chart = curves.length ? make(charts, "canvas", { width: 892, height: 340, className: "curve" }) : null;
  const bars = values.length ? make(charts, "canvas", { width: 892, height: 340, className: "values" }) : null;

  const go = (tick) => { view.tick = Math.max(0, Math.min(ticks, tick)); slider.value = view.tick; talk.ask(); };
  slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
  const stop = () => { playing = false; play.textContent = "▶"; };
  play.addEventListener("click", () => {
    if (playing) return stop();
    playing = true; play.textContent = "⏸"; last = performance.now();
    go(view.tick >= ticks ? 0 : view.tick + 1);
  });

  function draw() {
    if (!fixed || !moved) return;
    rows.forEach((row, r) => {
      row.title.textContent = `${names[r]}: ${now.words[r]}`;
      row.canvases.forEach((canvas, k) => {
        colour(canvas, fixed[k], moved[3 * r + k], look);
        if (heat && r === names.length - 1) glow(canvas, heat[k]);
        const off = view.point.map((x, i) => x - now.centre[i]);
        dress(canvas, { title: views[k].name, edges: views[k].edges, half: now.half, cross: [dot(off, views[k].right), dot(off, views[k].down)] });
      });
    });
    label.textContent = now.label;
    if (chart) lines(chart);
    if (bars) strokes(bars);
  }

  function glow(canvas, map) { // from its 95th percentile (0) to its largest value (255), red to yellow
    const n = Math.round(Math.sqrt(map.length)), small = document.createElement("canvas");
    small.width = small.height = n;
    const c = small.getContext("2d"), image = c.createImageData(n, n);
    map.forEach((v, i) => { if (v > 0) image.data.set([255, v, 0, 150], 4 * i); });
    c.putImageData(image, 0, 0);
    canvas.getContext("2d").drawImage(small, 0, 0, canvas.width, canvas.height);
  }

  const number = (x) => (Math.abs(x) >= 10 ? x.toFixed(0) : x.toFixed(2));
  const COLOURS = ["#b35900", "#0047b3", "#0a6b2d"];
  function lines(canvas) { // curves: [{ name, unit, side, at: fractions of the walk, y }]
    const c = canvas.getContext("2d"), [x0, y0, w, h] = [80, 40, 720, 240];
    c.clearRect(0, 0, canvas.width, canvas.height);
    c.font = "22px sans-serif"; c.strokeStyle = "#999"; c.lineWidth = 1; c.strokeRect(x0, y0, w, h);
    const units = [...new Set(curves.map((k) => k.unit))];
    const span = units.map((u) => { const all = curves.filter((k) => k.unit === u).flatMap((k) => k.y); return [Math.min(0, ...all), Math.max(...all, 1e-6)]; });
    let left = x0;
    curves.forEach((k, i) => {
      const u = units.indexOf(k.unit), [low, high] = span[u], Y = (y) => y0 + h - ((y - low) / (high - low)) * h;
      c.strokeStyle = c.fillStyle = COLOURS[i % 3]; c.lineWidth = 3; c.beginPath();
      k.at.forEach((t, j) => c[j ? "lineTo" : "moveTo"](x0 + t * w, Y(k.y[j])));
      c.stroke();
      c.textAlign = "left"; c.fillText(k.name, left, 28); left += c.measureText(k.name).width + 24;
      c.textAlign = u ? "left" : "right";
      const x = u ? x0 + w + 8 : x0 - 8;
      c.fillText(number(high), x, y0 + 16); c.fillText(number(low), x, y0 + h); c.fillText(k.unit, x, y0 + h / 2);
    });
    const x = x0 + (view.tick / Math.max(ticks, 1)) * w;
    c.strokeStyle = "#222"; c.lineWidth = 2; c.beginPath(); c.moveTo(x, y0); c.lineTo(x, y0 + h); c.stroke();
    c.fillStyle = "#222"; c.textAlign = "center"; c.fillText(names.length > 1 ? "start to end of each walk" : "step", x0 + w / 2, y0 + h + 40);
  }

  function strokes(canvas) { // the twelve values that the agent saw at this step, its choice darker
    const c = canvas.getContext("2d"), q = values[Math.min(now.step, values.length - 1)], best = q.indexOf(Math.max(...q));
    const most = Math.max(...q), least = Math.min(...q), low = least - 0.25 * Math.max(most - least, 1e-6);
    const [x0, y0, w, h] = [80, 40, 790, 240], bottom = y0 + h; // from just below the least: their differences are what decides
    c.clearRect(0, 0, canvas.width, canvas.height);
    c.font = "22px sans-serif"; c.fillStyle = "#222"; c.textAlign = "left"; c.fillText("action values", x0, 28);
    q.forEach((v, k) => {
      const x = x0 + (k * w) / 12, height = ((v - low) / (most - low)) * h;
      c.fillStyle = k === best ? "#0047b3" : "#a9bcd9"; c.fillRect(x + 6, bottom - height, w / 12 - 12, height);
      c.fillStyle = "#222"; c.textAlign = "center"; c.fillText(actions[k], x + w / 24, y0 + h + 30);
    });
    c.textAlign = "right"; c.fillText(number(most), x0 - 4, y0 + 16); c.fillText(number(low), x0 - 4, bottom);
    c.strokeStyle = "#222"; c.beginPath(); c.moveTo(x0, bottom); c.lineTo(x0 + w, bottom); c.stroke();
  }

  function shown(message, buffers) {
    if (message.error) { label.textContent = message.error; return stop(); }
    now = message; view.point = view.point || message.point;
    const pictures = buffers.map(shorts);
    moved = pictures.splice(0, 3 * names.length);
    if (message.again) fixed = pictures.splice(0, 3);
    heat = pictures.length ? pictures : null;
    draw();
    Object.assign(root.dataset, { ms: JSON.stringify(talk.taken.slice(-50)), kernel: now.kernel_ms, answers: message.answer, tick: view.tick });
    if (playing && view.tick >= ticks) stop();
    else if (playing) { const rest = pause - (performance.now() - last); setTimeout(() => { if (playing) { last = performance.now(); go(view.tick + 1); } }, Math.max(0, rest)); }
  }

  rows.forEach((row) => row.canvases.forEach((canvas, k) => {
    canvas.addEventListener("pointerdown", (e) => { // the crosshair: the other planes go there
      if (!now) return;
      const w = canvas.clientWidth / 2, mm = now.half / w, x = (e.offsetX - w) * mm, y = (e.offsetY - w) * mm;
      const depth = [2, 1, 0][k];
      view.point = view.point.map((p, i) => (i === depth ? p : now.centre[i] + x * views[k].right[i] + y * views[k].down[i]));
      talk.ask();
    });
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      const depth = [2, 1, 0][k];
      view.point = view.point.map((p, i) => p + (i === depth ? (e.deltaY > 0 ? -2 : 2) : 0));
      talk.ask();
    }, { passive: false });
  }));

  const talk = conversation(model, () => view, shown, (there) => { if (!there) { stop(); label.textContent = "The kernel does not answer: run the cells again."; } });
  const release = keys(root, ofControls);
  talk.ask(["show"]);
  return () => { stop(); release(); talk.end(); };
}
export default { render };
