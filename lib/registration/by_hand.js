// The tool for registration by hand: three planes, a volume view, six degrees of freedom. The kernel cuts slices and
// keeps the path; colours, window and level, the clock and the crosshair's lines are drawn here, without asking it.
function render({ model, el }) {
  const { views, directions, steps, pixels } = model.get("given");
  const look = { mode: "blend", mix: 0.5, fixed: shades(...WINDOW.fixed), moving: shades(...WINDOW.moving) };
  const wider = { fixed: 1, moving: 1.4 }; // cone-beam CT shows bone darker
  const through = { fixed: bone(WINDOW.fixed, wider.fixed), moving: bone(WINDOW.moving, wider.moving) }; // the volume view's
  const windows = { fixed: [...WINDOW.fixed], moving: [...WINDOW.moving] };
  const view = { point: null, zoom: 1, turned: 0 };
  let fixed = null, moved = null, now = null, since = 0, drag = "move the CT", step = 1, sure = 0;

  const root = make(el, "div", { className: "by-hand" });
  const bar = make(root, "div", { className: "bar" });
  const button = (parent, text, action, title = "") => { const b = make(parent, "button", { title }, text); b.addEventListener("click", action); return b; };
  const begin = button(bar, "Start", () => talk.ask(["start"]), "start the clock");
  const undo = button(bar, "Undo", () => talk.ask(["undo"]), "take the last move back (z)");
  const reset = button(bar, "Reset", () => talk.ask(["reset"]), "back to where it began");
  const finish = button(bar, "Finish", () => {
    if (performance.now() - sure > 4000) { sure = performance.now(); finish.textContent = "Press again to finish"; setTimeout(() => (finish.textContent = "Finish"), 4000); }
    else talk.ask(["stop"]);
  }, "stop the clock: this is your answer");
  const clock = make(bar, "span", { className: "clock" });
  const said = make(root, "div", { className: "said" });
  const body = make(root, "div", { className: "body" });
  const grid = make(body, "div", { className: "grid" }), panel = make(body, "div", { className: "panel" });

  const canvases = [...views, { name: "volume" }].map((v, k) => {
    const cell = make(grid, "div");
    const canvas = make(cell, "canvas", { width: 2 * pixels, height: 2 * pixels, tabIndex: 0, className: v.name });
    if (k < 3) canvas.slice = range(cell, "slice", -100, 100, 1, 0, (mm) => scroll(k, mm - place(k)));
    else canvas.slice = range(cell, "seen from", -90, 90, 5, 0, (angle) => { view.turned = angle; talk.ask(); });
    return canvas;
  });

  make(panel, "b", {}, "Move the CT");
  select(panel, "step (mm, °)", steps, 1, (value) => (step = Number(value)));
  const values = {}, nudges = [];
  Object.entries(directions).forEach(([name, [minus, plus]], k) => {
    const line = make(panel, "div", { className: "nudge" });
    const go = (sign) => talk.ask(["move", directions_of(k, sign * step), k > 2 ? view.point : null, false]);
    nudges.push(button(line, minus, () => go(-1), `${name} −`));
    values[name] = make(line, "span", { className: "value" });
    nudges.push(button(line, plus, () => go(1), `${name} +`));
  });
  const directions_of = (k, amount) => [0, 1, 2, 3, 4, 5].map((i) => (i === k ? amount : 0));
  make(panel, "b", {}, "Look");
  select(panel, "show", ["blend", "checkerboard", "difference", "CBCT", "CT"], "blend", (mode) => { look.mode = mode; draw(); });
  range(panel, "CBCT – CT", 0, 1, 0.05, 0.5, (mix) => { look.mix = mix; draw(); });
  range(panel, "zoom", 1, 5, 0.25, 1, (zoom) => { view.zoom = zoom; talk.ask(); });
  select(panel, "drag to", ["move the CT", "turn the CT", "set the crosshair", "window CBCT", "window CT"], drag, (mode) => (drag = mode));
  const levels = {};
  for (const [which, label] of [["fixed", "CBCT"], ["moving", "CT"]]) {
    levels[which] = [
      range(panel, `${label} window`, 50, 3000, 10, windows[which][0], (w) => { windows[which][0] = w; relevel(which); }),
      range(panel, `${label} level`, -1000, 2000, 10, windows[which][1], (l) => { windows[which][1] = l; relevel(which); }),
    ];
  }
  make(panel, "p", { className: "help" }, "Wheel: slices. Click: crosshair. Shift-drag: turn about the crosshair. Right-drag: window (CBCT). Arrow keys move in the picture last touched, z takes back.");

  function relevel(which) {
    look[which] = shades(...windows[which]); through[which] = bone(windows[which], wider[which]);
    levels[which].forEach((input, k) => (input.value = windows[which][k]));
    draw();
  }
  const signed = (x, unit) => `${x > -0.05 ? "+" : "−"}${Math.abs(x).toFixed(1)} ${unit}`;
  const normal = (k) => [[0, 0, 1], [0, 1, 0], [1, 0, 0]][k];
  const place = (k) => dot(view.point, normal(k)) - dot(now.centre, normal(k)); // mm from the window's centre
  const middle = () => (now.half < now.whole ? view.point : now.centre);
  const clamp = (point) => point.map((x, k) => Math.max(now.centre[k] - now.whole, Math.min(now.centre[k] + now.whole, x)));
  function scroll(k, mm) { view.point = clamp(view.point.map((x, i) => x + mm * normal(k)[i])); talk.ask(); }

  function draw() {
    if (!fixed || !moved) return;
    canvases.forEach((canvas, k) => {
      colour(canvas, fixed[k], moved[k], k < 3 ? look : { ...look, ...through });
      if (k === 3) {
        const a = (now.turned * Math.PI) / 180, right = [Math.cos(a), -Math.sin(a), 0];
        const off = view.point.map((x, i) => x - now.centre[i]), side = Math.abs(now.turned) <= 45 ? "RL" : now.turned > 0 ? "PA" : "AP";
        dress(canvas, { title: "volume (brightest)", edges: side + "HF", half: now.whole, cross: [dot(off, right), -off[2]] });
      } else {
        const off = view.point.map((x, i) => x - middle()[i]), v = views[k];
        dress(canvas, { title: `${v.name} ${place(k) >= 0 ? "+" : ""}${place(k).toFixed(0)} mm`, edges: v.edges, half: now.half, cross: [dot(off, v.right), dot(off, v.down)] });
        canvas.slice.value = place(k);
      }
    });
  }

  function shown(message, buffers) {
    if (message.error) { said.textContent = message.error; return; }
    now = message; since = performance.now();
    view.point = view.point || message.point;
    const pictures = buffers.map(shorts);
    moved = pictures.slice(0, 4);
    if (pictures.length > 4) fixed = pictures.slice(4);
    canvases.slice(0, 3).forEach((c) => { c.slice.min = -now.whole; c.slice.max = now.whole; });
    Object.keys(values).forEach((name, k) => (values[name].textContent = signed(now.params[k], k < 3 ? "mm" : "°")));
    begin.textContent = now.resumed ? "Go on" : "Start";
    begin.disabled = now.running || now.finished;
    [undo, reset, finish, ...nudges].forEach((b) => (b.disabled = !now.running));
    said.textContent = now.said;
    draw();
    Object.assign(root.dataset, { ms: JSON.stringify(talk.taken.slice(-50)), kernel: now.kernel_ms, answers: message.answer, moves: now.moves, running: now.running, finished: now.finished });
    tick();
  }

  function tick() {
    if (!now) return;
    const seconds = now.elapsed + (now.running ? (performance.now() - since) / 1000 : 0);
    clock.textContent = `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")} · ${now.moves} move${now.moves === 1 ? "" : "s"}`;
  }
  const ticking = setInterval(tick, 500);

  canvases.forEach((canvas, k) => {
    const mm = () => (2 * (k === 3 ? now.whole : now.half)) / canvas.clientWidth;
    const axes = () => (k < 3 ? [views[k].right, views[k].down] : [[Math.cos((view.turned * Math.PI) / 180), -Math.sin((view.turned * Math.PI) / 180), 0], [0, 0, -1]]);
    const shift = (dx, dy, more) => { const [r, d] = axes(); talk.ask(["move", [0, 1, 2].map((i) => dx * r[i] + dy * d[i]).concat([0, 0, 0]), null, more]); };
    const turn = (degrees, more) => { // clockwise on the screen
      const axis = k < 3 ? k : 1, sign = [1, 1, -1][axis];
      talk.ask(["move", [0, 1, 2, 3, 4, 5].map((i) => (i === [5, 4, 3][axis] ? sign * degrees : 0)), view.point, more]);
    };
    let held = null;
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    canvas.addEventListener("pointerdown", (e) => {
      canvas.focus(); canvas.setPointerCapture(e.pointerId); e.preventDefault();
      held = { x: e.offsetX, y: e.offsetY, x0: e.offsetX, y0: e.offsetY, more: false, mode: e.button === 2 ? "window CBCT" : e.shiftKey ? "turn the CT" : drag };
    });
    canvas.addEventListener("pointermove", (e) => {
      if (!held || !now) return;
      const dx = e.offsetX - held.x, dy = e.offsetY - held.y;
      if (!held.more && Math.hypot(e.offsetX - held.x0, e.offsetY - held.y0) < 3) return; // a click, so far
      if (held.mode === "move the CT") shift(dx * mm(), dy * mm(), held.more);
      else if (held.mode === "turn the CT" && k < 3) {
        const m = view.point.map((x, i) => x - middle()[i]), [r, d] = axes(), w = canvas.clientWidth / 2;
        const cx = w + dot(m, r) / mm(), cy = w + dot(m, d) / mm();
        const angle = Math.atan2(e.offsetY - cy, e.offsetX - cx) - Math.atan2(held.y - cy, held.x - cx);
        turn((Math.atan2(Math.sin(angle), Math.cos(angle)) * 180) / Math.PI, held.more);
      } else if (held.mode.startsWith("window")) {
        const which = held.mode === "window CT" ? "moving" : "fixed";
        windows[which][0] = Math.max(50, windows[which][0] + 4 * dx); windows[which][1] -= 4 * dy;
        relevel(which);
      } else if (held.mode === "set the crosshair") put(e);
      Object.assign(held, { x: e.offsetX, y: e.offsetY, more: true });
    });
    function put(e) {
      if (k === 3) return;
      const [r, d] = axes(), w = canvas.clientWidth / 2, x = (e.offsetX - w) * mm(), y = (e.offsetY - w) * mm(), m = middle();
      const beside = normal(k), depth = dot(view.point, beside);
      view.point = clamp([0, 1, 2].map((i) => (beside[i] ? depth : m[i] + x * r[i] + y * d[i])));
      talk.ask();
    }
    canvas.addEventListener("pointerup", (e) => { if (held && !held.more && now) put(e); held = null; });
    canvas.addEventListener("wheel", (e) => { e.preventDefault(); if (now && k < 3) scroll(k, (e.deltaY > 0 ? -1 : 1) * Math.max(1, (2 * now.half) / pixels)); }, { passive: false });
    canvas.pressed = (e) => {
      const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
      if (e.key === "z") talk.ask(["undo"]);
      else if (arrow && e.shiftKey) turn(step * (arrow[0] || arrow[1]), false);
      else if (arrow) shift(step * arrow[0], step * arrow[1], false);
      else return false;
      e.preventDefault();
      return true;
    };
  });

  const talk = conversation(model, () => view, shown, (there) => {
    root.classList.toggle("lost", !there);
    if (!there) said.textContent = "The kernel does not answer. What you did is kept: restart the kernel, run the cells again, and go on.";
  });
  const release = keys(root, (e) => (e.target.pressed ? e.target.pressed(e) : ofControls(e)));
  talk.ask(["show"]);
  return () => { clearInterval(ticking); release(); talk.end(); };
}
export default { render };
