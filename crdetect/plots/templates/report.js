"use strict";
// Gallery and viewer. Each feature has one sprite: its images side by side, the codes last.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const count = data.images.length;       // images to look at
  const codes = count;                    // place of the codes in the sprite
  const sprite = (feature) => "data:image/png;base64," + feature.png;

  const make = (tag, properties, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };

  // ---- gallery ----------------------------------------------------------------------------
  const gallery = byId("gallery");
  const cards = new Map();

  const thumb = (feature, image) => {
    const node = make("span", { className: "thumb" });
    const place = (i) => (100 * i) / count + "% 0";
    node.mark = (marked) => {
      const url = "url(" + sprite(feature) + ")";
      node.style.backgroundImage = marked ? url + "," + url : url;
      node.style.backgroundPosition = marked ? place(codes) + "," + place(image) : place(image);
      node.style.backgroundSize = 100 * (count + 1) + "% 100%";
    };
    node.mark(false);
    node.style.aspectRatio = feature.columns + " / " + feature.rows;
    return node;
  };

  for (const feature of data.features) {
    const pair = make("span", { className: "pair" }, thumb(feature, data.before), thumb(feature, data.after));
    const text = "CR " + feature.number + " · " + feature.size + " px";
    const words = make("span", { className: "class" }, data.classes[feature.class]);
    const card = make("button", { className: "card", type: "button", title: feature.text }, pair, text, words);
    card.addEventListener("click", () => open(feature));
    cards.set(feature, card);
  }

  const classes = Object.keys(data.classes);
  const shownClasses = new Set(classes);
  for (const name of classes) {
    const total = data.features.filter((feature) => feature.class === name).length;
    const box = make("input", { type: "checkbox", checked: true, value: name });
    box.addEventListener("change", () => {
      box.checked ? shownClasses.add(name) : shownClasses.delete(name);
      arrange();
    });
    byId("classes").append(make("label", {}, box, " " + data.classes[name] + ": " + total));
  }

  const orders = {
    number: (a, b) => a.number - b.number,
    class: (a, b) => classes.indexOf(a.class) - classes.indexOf(b.class) || a.number - b.number,
    size: (a, b) => b.size - a.size || a.number - b.number,
    height: (a, b) => b.height - a.height || a.number - b.number,
  };
  let arranged = [];
  const arrange = () => {
    arranged = data.features.filter((feature) => shownClasses.has(feature.class));
    arranged.sort(orders[byId("sort").value]);
    gallery.replaceChildren(...arranged.map((feature) => cards.get(feature)));
  };
  byId("sort").addEventListener("change", arrange);
  byId("marks").addEventListener("change", (event) => {
    for (const node of document.querySelectorAll(".card .thumb")) node.mark(event.target.checked);
  });
  arrange();

  // ---- viewer -----------------------------------------------------------------------------
  const viewer = byId("viewer"), canvas = byId("canvas"), picture = new Image();
  let current = null, image = data.before, timer = null;

  const buttons = data.images.map((name, i) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => { stop(); show(i); });
    byId("images").append(button);
    return button;
  });
  byId("image").max = count - 1;

  const draw = () => {
    if (!current || !picture.complete) return;
    const { columns, rows } = current;
    const paint = canvas.getContext("2d");
    paint.imageSmoothingEnabled = false;
    paint.clearRect(0, 0, canvas.width, canvas.height);
    const put = (i) =>
      paint.drawImage(picture, i * columns, 0, columns, rows, 0, 0, canvas.width, canvas.height);
    put(image);
    if (byId("overlay").checked) {
      paint.globalAlpha = 0.6;
      put(codes);
      paint.globalAlpha = 1;
    }
  };

  const show = (i) => {
    image = (i + count) % count;
    byId("image").value = image;
    const hits = current.hits[image];
    byId("shown").textContent = data.images[image] + (hits === undefined ? "" : ": " + hits + " of " + current.size + " px masked");
    buttons.forEach((button, k) => button.setAttribute("aria-pressed", k === image));
    draw();
  };

  const open = (feature) => {
    current = feature;
    const zoom = Math.max(1, Math.floor(520 / Math.max(feature.columns, feature.rows)));
    canvas.width = zoom * feature.columns;
    canvas.height = zoom * feature.rows;
    byId("caption").textContent = feature.text;
    byId("pixel").textContent = "\u00a0";
    picture.src = sprite(feature);
    show(image);
    if (!viewer.open) viewer.showModal();
  };
  picture.addEventListener("load", draw);

  const step = (by) => {
    const i = arranged.indexOf(current) + by;
    if (arranged[i]) open(arranged[i]);
  };
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("image").addEventListener("input", (event) => { stop(); show(Number(event.target.value)); });
  byId("overlay").addEventListener("change", draw);

  const series = {
    pair: () => [data.before, data.after],
    exposures: () => data.exposures,
    all: () => [...data.images.keys()],
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
    byId("blink").setAttribute("aria-pressed", false);
  };
  const blink = () => {
    const places = series[byId("blinking").value]();
    let turn = 0;
    show(places[0]);
    timer = setInterval(() => show(places[++turn % places.length]), Number(byId("pace").value));
    byId("blink").setAttribute("aria-pressed", true);
  };
  byId("blink").addEventListener("click", () => (timer === null ? blink() : stop()));
  for (const id of ["blinking", "pace"]) {
    byId(id).addEventListener("change", () => { if (timer !== null) { stop(); blink(); } });
  }
  viewer.addEventListener("close", stop);

  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * current.columns);
    const y = Math.floor(((event.clientY - box.top) / box.height) * current.rows);
    const from = current.step;
    byId("pixel").textContent =
      "x " + (current.left + from * x) + ", y " + (current.bottom + from * (current.rows - 1 - y));
  });

  const keys = {
    ArrowLeft: () => { stop(); show(image - 1); },
    ArrowRight: () => { stop(); show(image + 1); },
    ArrowUp: () => step(-1),
    ArrowDown: () => step(1),
    b: () => byId("blink").click(),
    c: () => byId("overlay").click(),
  };
  viewer.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || ["SELECT", "INPUT"].includes(event.target.tagName)) return;
    event.preventDefault();
    keys[event.key]();
  });

  // ---- figures ----------------------------------------------------------------------------
  const large = byId("figure");
  large.querySelector("img").addEventListener("click", (event) => event.target.classList.toggle("whole"));
  for (const small of document.querySelectorAll(".figures img")) {
    small.addEventListener("click", () => {
      const img = large.querySelector("img");
      img.className = "";
      img.src = small.src;
      img.alt = small.alt;
      large.showModal();
    });
  }
})();
