"use strict";
const all = (query, within = document) => [...within.querySelectorAll(query)];
const one = (query, within = document) => within.querySelector(query);

// A click on a picture opens it, at a whole number of screen pixels for each of its own.
const viewer = one("dialog"), shown = one("img", viewer);
const magnify = (scale) => {
  shown.width = shown.naturalWidth * scale;
  for (const button of all("[data-scale]", viewer)) button.setAttribute("aria-pressed", String(button.dataset.scale == scale));
};
for (const button of all("button.open")) {
  button.addEventListener("click", async () => {
    const picture = one("img", button);
    shown.src = picture.src;
    shown.alt = one("p", viewer).textContent = picture.alt;
    viewer.showModal();
    await shown.decode();
    magnify(shown.naturalWidth > 1200 ? 1 : shown.naturalWidth > 400 ? 2 : 3);
  });
}
for (const button of all("[data-scale]", viewer)) button.addEventListener("click", () => magnify(Number(button.dataset.scale)));
viewer.addEventListener("click", (event) => { if (event.target === viewer) viewer.close(); });

// Curves: a vertical line at the step under the pointer, or moved by the arrow keys, and the values there.
const values = JSON.parse(one("#values").textContent);
const short = (value) => value === null ? "" : String(Number(value.toPrecision(4)));
for (const figure of all(".chart")) {
  const drawing = one("svg", figure), cursor = one(".cursor", drawing), readout = one("output", figure);
  const left = Number(drawing.dataset.left), right = Number(drawing.dataset.right), last = Number(drawing.dataset.last);
  const columns = all("[data-column]", figure), name = drawing.getAttribute("aria-label");
  const rows = values.step.map((_, row) => row).filter((row) => columns.some((each) => values[each.dataset.column][row] !== null));
  let at = rows.length - 1;
  const show = (index) => {
    at = Math.max(0, Math.min(rows.length - 1, index));
    const row = rows[at], step = values.step[row], x = left + (right - left) * step / last;
    cursor.setAttribute("x1", x); cursor.setAttribute("x2", x); cursor.style.visibility = "visible";
    for (const each of columns) one("b", each).textContent = short(values[each.dataset.column][row]);
    readout.textContent = `step ${step.toLocaleString("en")}`;
    drawing.setAttribute("aria-valuenow", step);
    drawing.setAttribute("aria-valuetext", `step ${step}: ` + columns.map((each) => each.textContent.trim()).join(", "));
  };
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * drawing.viewBox.baseVal.width;
    const step = (x - left) / (right - left) * last;
    show(rows.reduce((best, row, index) => Math.abs(values.step[row] - step) < Math.abs(values.step[rows[best]] - step) ? index : best, 0));
  });
  drawing.addEventListener("keydown", (event) => {
    const far = Math.max(1, Math.round(rows.length / 20));
    const moved = { ArrowLeft: at - 1, ArrowRight: at + 1, PageDown: at - far, PageUp: at + far, Home: 0, End: rows.length - 1 }[event.key];
    if (moved !== undefined) { event.preventDefault(); show(moved); }
  });
  drawing.setAttribute("role", "slider");
  drawing.setAttribute("tabindex", "0");
  drawing.setAttribute("aria-label", name);
  show(at);
}

// The training's progress: one frame at a time, and its epoch in the curves.
const frames = all(".frames li"), slider = one("#epoch"), play = one("#play");
if (frames.length > 1) {
  const epochs = Number(frames.at(-1).dataset.epoch);
  const show = (number) => {
    slider.value = number;
    frames.forEach((frame, index) => frame.classList.toggle("now", index === number));
    const label = one(".soft", frames[number]).textContent;
    one("#shown-epoch").textContent = number ? `${label} of ${epochs}` : label;
    slider.setAttribute("aria-valuetext", label);
    for (const drawing of all(".chart svg")) {
      const left = Number(drawing.dataset.left), right = Number(drawing.dataset.right);
      const x = left + (right - left) * frames[number].dataset.epoch / epochs, line = one(".epoch", drawing);
      line.setAttribute("x1", x); line.setAttribute("x2", x); line.style.visibility = "visible";
    }
  };
  let timer = 0;
  const stop = () => { clearInterval(timer); timer = 0; play.textContent = "Play"; };
  slider.addEventListener("input", () => { stop(); show(Number(slider.value)); });
  play.addEventListener("click", () => {
    if (timer) return stop();
    play.textContent = "Stop";
    let next = Number(slider.value) >= frames.length - 1 ? 0 : Number(slider.value) + 1;
    show(next);
    timer = setInterval(() => { if (next >= frames.length - 1) stop(); else show(++next); }, 300);
  });
  one(".slider").hidden = false;
  one(".frames").classList.add("one");
  show(frames.length - 1);
}
