"use strict";
// Draws the viewer of a page: one slice and frame with outlines, a line of pixels over time, the phases beside each
// other, and the frame shown in every plot. Positions in a slice are [column, row] in pixels of the source.
(() => {
  const root = document.querySelector(".viewer");
  const data = JSON.parse(root.querySelector("script").textContent);
  const find = (selector) => root.querySelector(selector);
  const main = find(".main canvas"), profile = find(".profile canvas");
  const sliders = { slice: find("input.slice"), frame: find("input.frame") };
  const play = find(".play"), boxes = [...root.querySelectorAll("[data-label]")];
  const phases = [...root.querySelectorAll(".phases canvas")];
  const whole = [0, data.height, 0, data.width];
  const [rowSize, columnSize] = data.spacing;
  const tall = data.spacing[0] / data.spacing[1]; // height of a pixel over its width
  const slices = data.numbers.length;
  const state = { slice: data.start.slice, frame: data.start.frame, line: data.line.slice(), playing: 0 };
  const stacks = new Map(); // slice -> { sheet, labels, paths }
  const limited = (value, low, high) => Math.min(high, Math.max(low, value));
  const ticked = (selector) => Boolean(find(selector) && find(selector).checked);
  const region = () => (data.region && !ticked("input.whole") ? data.region : whole);

  // ---- slices: decoded when they are needed, and kept

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }
  async function sheet(z) {
    if (!data.images.length) return null;
    return createImageBitmap(new Blob([bytes(data.images[z])], { type: "image/jpeg" }));
  }
  async function labels(z) {
    if (!data.labels.length) return null;
    const stream = new Blob([bytes(data.labels[z])]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  function stack(z) {
    if (!stacks.has(z)) {
      const loading = { done: false, paths: new Map() };
      loading.promise = Promise.all([sheet(z), labels(z)]).then((both) => {
        [loading.sheet, loading.labels] = both;
        loading.done = true;
        redraw();
      });
      stacks.set(z, loading);
    }
    return stacks.get(z);
  }
  async function loadAll() {
    for (let z = 0; z < slices; z++) await stack(z).promise;
  }

  // ---- drawing

  function drawTile(context, from, frame) {
    if (!from.sheet) return;
    const [tileHeight, tileWidth] = data.tile;
    const x = (frame % data.across) * tileWidth, y = Math.floor(frame / data.across) * tileHeight;
    const width = data.width / data.step, height = data.height / data.step;
    context.drawImage(from.sheet, x, y, width, height, 0, 0, data.width, data.height);
  }
  function outline(from, frame, value) {
    const key = frame * 256 + value;
    if (from.paths.has(key)) return from.paths.get(key);
    const { width, height } = data, path = new Path2D(), start = frame * width * height;
    const at = (x, y) => x >= 0 && y >= 0 && x < width && y < height && from.labels[start + y * width + x] === value;
    for (let y = 0; y <= height; y++) {
      for (let x = 0; x <= width; x++) {
        const here = at(x, y);
        if (here !== at(x - 1, y)) { path.moveTo(x, y); path.lineTo(x, y + 1); }
        if (here !== at(x, y - 1)) { path.moveTo(x, y); path.lineTo(x + 1, y); }
      }
    }
    from.paths.set(key, path);
    return path;
  }
  function sized(canvas, aspect) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(width / aspect));
    if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
    return canvas.getContext("2d");
  }
  function aspectOf([top, bottom, left, right]) {
    return (right - left) / ((bottom - top) * tall);
  }
  function drawSlice(canvas, frame) {
    const shown = region(), [top, bottom, left, right] = shown, from = stack(state.slice);
    canvas.style.setProperty("--aspect", aspectOf(shown));
    const context = sized(canvas, aspectOf(shown));
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!from.done) return false;
    const x = canvas.width / (right - left), y = canvas.height / (bottom - top);
    context.setTransform(x, 0, 0, y, -left * x, -top * y);
    context.imageSmoothingQuality = "high";
    drawTile(context, from, frame);
    if (from.labels) {
      context.lineWidth = Math.max(1.5, canvas.width / 300) / x;
      context.lineCap = "round";
      data.outlines.forEach((each, index) => {
        if (!boxes[index].checked) return;
        context.strokeStyle = each.colour;
        context.stroke(outline(from, frame, each.value));
      });
    }
    return true;
  }
  function drawLine() {
    const context = main.getContext("2d"), [x0, y0, x1, y1] = state.line;
    const unit = 1 / context.getTransform().a * (window.devicePixelRatio || 1);
    for (const [colour, width] of [["#000", 4], ["#fff", 1.5]]) {
      context.strokeStyle = colour;
      context.fillStyle = "#fff";
      context.lineWidth = width * unit;
      context.beginPath();
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
      context.stroke();
      for (const [x, y] of [[x0, y0], [x1, y1]]) {
        context.beginPath();
        context.ellipse(x, y, 5 * unit, 5 * unit / tall, 0, 0, 7);
        context.stroke();
        if (width < 2) context.fill();
      }
    }
  }
  function drawProfile() {
    const from = stack(state.slice), [x0, y0, x1, y1] = state.line;
    const across = x1 - x0, down = y1 - y0, length = Math.hypot(across, down) || 1;
    const samples = Math.max(2, Math.round(2 * length)), raw = new OffscreenCanvas(data.frames, samples);
    const context = raw.getContext("2d"), gain = samples / length;
    const u = [across / length, down / length], n = [-u[1], u[0]];
    for (let frame = 0; frame < data.frames; frame++) { // turned so that the line runs down the column of the frame
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.save();
      context.beginPath();
      context.rect(frame, 0, 1, samples);
      context.clip();
      const right = frame + 0.5 - (x0 * n[0] + y0 * n[1]), low = -(x0 * u[0] + y0 * u[1]) * gain;
      context.setTransform(n[0], u[0] * gain, n[1], u[1] * gain, right, low);
      drawTile(context, from, frame);
      context.restore();
    }
    const target = sized(profile, 2.4), column = profile.width / data.frames;
    target.imageSmoothingEnabled = false;
    target.fillStyle = "#000";
    target.fillRect(0, 0, profile.width, profile.height);
    target.drawImage(raw, 0, 0, profile.width, profile.height);
    target.strokeStyle = "#ffd54a";
    target.lineWidth = 2;
    target.strokeRect(state.frame * column + 1, 1, Math.max(2, column - 2), profile.height - 2);
    const size = Math.hypot(across * columnSize, down * rowSize);
    find(".profile figcaption").textContent =
      `Line over time: ${size.toFixed(0)} mm from top to bottom, frames from left to right.`;
  }
  function markPlots() {
    for (const plot of document.querySelectorAll(".plot")) {
      if (Number(plot.dataset.frames) !== data.frames) continue;
      let mark = plot.querySelector(".now");
      if (!mark) {
        mark = document.createElementNS(plot.namespaceURI, "line");
        mark.setAttribute("class", "now");
        mark.setAttribute("y1", plot.dataset.top);
        mark.setAttribute("y2", plot.dataset.bottom);
        plot.append(mark);
      }
      const x = Number(plot.dataset.left) + state.frame * Number(plot.dataset.step);
      mark.setAttribute("x1", x);
      mark.setAttribute("x2", x);
    }
  }
  function whereText() {
    const parts = [`Slice ${data.numbers[state.slice]} of ${data.total}`];
    if (data.frames > 1) parts.push(`frame ${state.frame + 1} of ${data.frames}`);
    if (data.frames > 1 && data.frame_time) parts.push(`${Math.round(1000 * state.frame * data.frame_time)} ms`);
    const phase = data.phases.find((each) => each.frame === state.frame);
    return [...parts, ...(phase ? [phase.name] : [])].join(", ");
  }
  function draw() {
    state.waiting = false;
    sliders.slice.value = state.slice + 1;
    sliders.frame.value = state.frame + 1;
    find(".main figcaption").textContent = whereText();
    main.setAttribute("aria-label", whereText());
    markPlots();
    const drawn = drawSlice(main, state.frame);
    for (const canvas of phases) drawSlice(canvas, Number(canvas.dataset.frame));
    if (!drawn) return;
    if (profile) {
      profile.parentElement.hidden = !ticked("input.line");
      if (ticked("input.line")) { drawLine(); drawProfile(); }
    }
    if (!root.dataset.drawn) {
      performance.mark("first-picture");
      setTimeout(loadAll, 50);
    }
    root.dataset.drawn = `${state.slice} ${state.frame}`;
  }
  function redraw() {
    if (!state.waiting) { state.waiting = true; requestAnimationFrame(draw); }
  }

  // ---- what the reader does

  function show(slice, frame) {
    state.slice = limited(slice, 0, slices - 1);
    state.frame = (frame + data.frames) % data.frames;
    redraw();
  }
  function setPlaying(on) {
    if (!play) return;
    state.playing += 1;
    play.textContent = on ? "pause" : "play";
    if (!on) return;
    const run = state.playing, began = performance.now(), first = state.frame;
    const interval = 1000 * limited(data.frame_time || 0.04, 0.02, 0.5);
    const next = (now) => {
      if (state.playing !== run) return;
      show(state.slice, (first + Math.floor(Math.max(0, now - began) / interval)) % data.frames);
      requestAnimationFrame(next);
    };
    requestAnimationFrame(next);
  }
  function step(slice, frame) {
    setPlaying(false);
    show(state.slice + slice, state.frame + frame);
  }
  function place(event) { // of a pointer, in pixels of the slice; and how many of them are a point of the screen
    const box = main.getBoundingClientRect(), [top, bottom, left, right] = region();
    const scale = (right - left) / box.width;
    return [left + (event.clientX - box.left) * scale, top + (event.clientY - box.top) * scale / tall, scale];
  }
  function grip(event) { // indices of the coordinates of the line that a pointer takes hold of
    if (!profile || !ticked("input.line")) return null;
    const [x, y, scale] = place(event), reach = (event.pointerType === "mouse" ? 10 : 22) * scale;
    const [x0, y0, x1, y1] = state.line;
    if (Math.hypot(x - x0, (y - y0) * tall) < reach) return [0, 1];
    if (Math.hypot(x - x1, (y - y1) * tall) < reach) return [2, 3];
    const along = limited(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2 || 1), 0, 1);
    const apart = Math.hypot(x - x0 - along * (x1 - x0), (y - y0 - along * (y1 - y0)) * tall);
    return apart < reach ? [0, 1, 2, 3] : null;
  }
  function moveLine(indices, across, down) {
    const xs = indices.filter((each) => each % 2 === 0).map((each) => state.line[each]);
    const ys = indices.filter((each) => each % 2).map((each) => state.line[each]);
    const right = limited(across, -Math.min(...xs), data.width - Math.max(...xs));
    const low = limited(down, -Math.min(...ys), data.height - Math.max(...ys));
    for (const index of indices) state.line[index] += index % 2 ? low : right;
    redraw();
  }
  function turnLine(angle) {
    const [x0, y0, x1, y1] = state.line, x = (x0 + x1) / 2, y = (y0 + y1) / 2;
    const turned = (a, b) => [
      x + (a - x) * Math.cos(angle) - (b - y) * Math.sin(angle), y + (a - x) * Math.sin(angle) + (b - y) * Math.cos(angle),
    ];
    state.line = [...turned(x0, y0), ...turned(x1, y1)];
    redraw();
  }
  let drag = null;
  main.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    setPlaying(false);
    const [x, y] = place(event);
    drag = { grip: grip(event), x, y, screen: event.clientX, frame: state.frame };
    main.setPointerCapture(event.pointerId);
  });
  main.addEventListener("pointermove", (event) => {
    if (!drag) { main.style.cursor = grip(event) ? "move" : "ew-resize"; return; }
    const [x, y] = place(event);
    if (drag.grip) {
      moveLine(drag.grip, x - drag.x, y - drag.y);
      [drag.x, drag.y] = [x, y];
    } else {
      const frames = Math.round((event.clientX - drag.screen) / main.clientWidth * 1.5 * data.frames);
      show(state.slice, (drag.frame + frames % data.frames + data.frames) % data.frames);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) main.addEventListener(name, () => { drag = null; });
  main.addEventListener("touchstart", (event) => { // a finger on the line must not scroll the page
    const touch = event.touches[0];
    if (grip({ clientX: touch.clientX, clientY: touch.clientY, pointerType: "touch" })) event.preventDefault();
  }, { passive: false });
  let turned = 0;
  main.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return; // zooms the page
    event.preventDefault();
    turned += event.deltaMode ? 40 * (event.deltaY || event.deltaX) : event.deltaY || event.deltaX;
    const steps = Math.trunc(turned / 40);
    turned -= 40 * steps;
    if (!steps) return;
    if (event.shiftKey || slices === 1) step(0, Math.sign(steps));
    else step(Math.sign(steps), 0);
  }, { passive: false });
  document.addEventListener("keydown", (event) => { // the page keeps the keys that scroll it, until the image has focus
    const focused = root.contains(event.target) && event.target.tagName === "CANVAS";
    const free = event.target === document.body || event.target.type === "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey || !(focused || free)) return;
    if (!focused && ["ArrowUp", "ArrowDown", " "].includes(event.key)) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const box = /^[1-9]$/.test(key) ? boxes[Number(key) - 1] : null;
    if (key in ways && event.target === profile) {
      const [across, down] = ways[key];
      if (event.shiftKey) turnLine((across + down) * Math.PI / 36);
      else moveLine([0, 1, 2, 3], across, down);
    } else if (key in ways) step(ways[key][1], ways[key][0]);
    else if (key === " " && play) setPlaying(play.textContent === "play");
    else if (key === "o") {
      const on = !boxes.some((each) => each.checked);
      for (const each of boxes) each.checked = on;
    } else if (box) box.checked = !box.checked;
    else if (key === "w" && find("input.whole")) find("input.whole").checked = !ticked("input.whole");
    else if ((key === "d" || key === "s") && data.phases.length) {
      step(0, data.phases[key === "d" ? 0 : data.phases.length - 1].frame - state.frame);
    } else return;
    event.preventDefault();
    redraw();
  });
  sliders.slice.addEventListener("input", () => { setPlaying(false); show(sliders.slice.value - 1, state.frame); });
  sliders.frame.addEventListener("input", () => { setPlaying(false); show(state.slice, sliders.frame.value - 1); });
  for (const box of root.querySelectorAll("input[type=checkbox]")) box.addEventListener("change", redraw);
  if (play) play.addEventListener("click", () => setPlaying(play.textContent === "play"));
  for (const canvas of phases) {
    canvas.addEventListener("click", () => step(0, Number(canvas.dataset.frame) - state.frame));
  }
  function frameAt(event, frames, left, right) {
    return limited(Math.floor((event.clientX - left) / (right - left) * frames), 0, frames - 1);
  }
  function scrubbed(target, frameOf) { // a press and a drag on a picture over time
    const follow = (event) => { if (event.buttons) step(0, frameOf(event) - state.frame); };
    target.addEventListener("pointerdown", follow);
    target.addEventListener("pointermove", follow);
  }
  if (profile) {
    scrubbed(profile, (event) => {
      const box = profile.getBoundingClientRect();
      return frameAt(event, data.frames, box.left, box.right);
    });
  }
  for (const plot of document.querySelectorAll(".plot")) {
    if (Number(plot.dataset.frames) !== data.frames) continue;
    scrubbed(plot, (event) => {
      const box = plot.getBoundingClientRect(), scale = box.width / plot.viewBox.baseVal.width;
      const first = box.left + plot.dataset.left * scale, distance = plot.dataset.step * scale;
      return limited(Math.round((event.clientX - first) / distance), 0, data.frames - 1);
    });
  }
  new ResizeObserver(redraw).observe(root);
  window.addEventListener("beforeprint", draw);
  redraw();
})();
