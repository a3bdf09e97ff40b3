// Pointing at the last 24 hours, with a pointer or with keys. The lane, its words and the form that
// is filled in here are in the HTML; without this file one types the second.
"use strict";

(function () {
  const lane = document.getElementById("timeline-lane");
  if (!lane) return;
  const SVG = "http://www.w3.org/2000/svg";
  const MINUTE = 60, HOUR = 3600, AROUND = 5 * MINUTE, HEIGHT = 28;
  const NEWER = "nothing newer is stored", UNFOLLOWED = "changes were not followed"; // as in view/timeline.py
  const begin = Number(lane.dataset.begin), end = Number(lane.dataset.end);
  const spans = (name) => [...lane.querySelectorAll(name)].map((each) => ({
    from: Number(each.dataset.from), to: Number(each.dataset.to), reason: each.dataset.reason,
  }));
  const bars = spans(".good"), gaps = spans(".gap");
  const sets = [...lane.querySelectorAll(".set")].map((each) => Number(each.dataset.at));
  const earlier = lane.dataset.earlier ? [Number(lane.dataset.earlier)] : [];
  const seconds = bars.flatMap((bar) => [bar.from, bar.to]).concat(sets, earlier);
  const field = document.getElementById("at"), text = document.getElementById("timeline-chosen");
  let chosen = read(field.value) || Number(lane.dataset.chosen);

  // --- words: the same as of `Choice.words` in view/timeline.py ---

  function iso(second) {
    return new Date(second * 1000).toISOString().slice(0, 19);
  }

  function read(value) { // what the field has is UTC
    const found = Date.parse(value + "Z") / 1000;
    return Number.isFinite(found) ? Math.floor(found) : null;
  }

  function clock(second) {
    const time = iso(second).slice(11);
    if (iso(second).slice(0, 10) === iso(end).slice(0, 10)) return time;
    const month = new Date(second * 1000).toLocaleDateString("en-US", { month: "short", timeZone: "UTC" });
    return Number(iso(second).slice(8, 10)) + " " + month + ", " + time;
  }

  function within(list, second) {
    return list.find((each) => each.from <= second && second <= each.to);
  }

  function words(second) {
    const good = Math.max(...seconds.filter((each) => each <= second));
    if (within(bars, second) || good === second) return clock(second) + " can be restored.";
    const gap = within(gaps, second);
    const last = bars.length ? bars[bars.length - 1].to : Infinity;
    const reason = gap ? gap.reason : second > last ? NEWER : UNFOLLOWED;
    const near = Number.isFinite(good) ? " The nearest before it is " + clock(good) + "." : "";
    return clock(second) + ": no point, " + reason + "." + near;
  }

  // --- drawing: the cursor, and the ten minutes around it ---

  function draw(parent, name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    parent.append(made);
    return made;
  }

  function cursor(parent) {
    return draw(parent, "line", { class: "cursor", y1: -4, y2: HEIGHT + 4 });
  }

  function move(line, second, from, to) {
    const place = ((second - from) / (to - from)) * 100 + "%";
    line.setAttribute("x1", place);
    line.setAttribute("x2", place);
  }

  const whole = cursor(lane.querySelector("svg"));
  const near = draw(lane, "svg", { width: "100%", height: 50, "aria-hidden": "true" });
  let from = begin, to = begin + 2 * AROUND, nearCursor = null;

  function drawNear() {
    from = Math.min(Math.max(chosen - AROUND, begin), end - 2 * AROUND);
    to = from + 2 * AROUND;
    near.replaceChildren();
    const part = (kind, low, high) => {
      const start = Math.max(low, from), stop = Math.min(high, to);
      if (start > stop) return;
      draw(near, "rect", {
        class: kind, height: HEIGHT,
        x: ((start - from) / (to - from)) * 100 + "%", width: ((stop - start) / (to - from)) * 100 + "%",
      });
    };
    draw(near, "rect", { class: "track", width: "100%", height: HEIGHT, rx: 6 });
    for (const bar of bars) part("good", bar.from, bar.to);
    for (const gap of gaps) part("gap", gap.from, gap.to);
    for (const at of sets) {
      if (from <= at && at <= to) move(draw(near, "line", { class: "set", y1: 4, y2: HEIGHT - 4 }), at, from, to);
    }
    for (let minute = Math.ceil(from / MINUTE) * MINUTE; minute <= to; minute += MINUTE) {
      const tooNear = minute - from < 15 || to - minute < 15; // to an end, where it would stick out
      if (minute % (2 * MINUTE) || tooNear) continue;
      const label = draw(near, "text", {
        x: ((minute - from) / (to - from)) * 100 + "%", y: 45, class: minute % (4 * MINUTE) ? "minor" : "",
      });
      label.textContent = iso(minute).slice(11, 16);
    }
    nearCursor = cursor(near);
  }

  // --- choosing ---

  function choose(second, options) {
    chosen = Math.min(Math.max(Math.round(second), begin), end);
    if (!(options && options.typed)) field.value = iso(chosen);
    if (!(options && options.dragging)) drawNear();
    move(whole, chosen, begin, end);
    move(nearCursor, chosen, from, to);
    const said = words(chosen);
    text.textContent = said;
    lane.setAttribute("aria-valuenow", chosen - begin);
    lane.setAttribute("aria-valuetext", said);
  }

  const STEPS = {
    ArrowLeft: -1, ArrowRight: 1, ArrowDown: -MINUTE, ArrowUp: MINUTE, PageDown: -HOUR, PageUp: HOUR,
  };

  lane.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in STEPS) choose(chosen + STEPS[event.key]);
    else if (event.key === "Home") choose(begin);
    else if (event.key === "End") choose(end);
    else if (event.key === "Enter") field.form.requestSubmit();
    else return;
    event.preventDefault();
  });

  function follow(svg, range) {
    const at = (event) => {
      const box = svg.getBoundingClientRect(), [low, high] = range();
      return low + ((event.clientX - box.left) / box.width) * (high - low);
    };
    svg.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      svg.setPointerCapture(event.pointerId);
      lane.focus();
      choose(at(event), { dragging: svg === near });
    });
    svg.addEventListener("lostpointercapture", () => choose(chosen));
    svg.addEventListener("pointermove", (event) => {
      if (svg.hasPointerCapture(event.pointerId)) choose(at(event), { dragging: svg === near });
    });
  }

  follow(lane.querySelector("svg"), () => [begin, end]);
  follow(near, () => [from, to]);
  field.addEventListener("input", () => {
    const typed = read(field.value);
    if (typed !== null && begin <= typed && typed <= end) choose(typed, { typed: true });
    else text.textContent = "";
  });

  lane.classList.add("points");
  lane.querySelector("svg").removeAttribute("role");
  lane.querySelector("svg").setAttribute("aria-hidden", "true");
  for (const [name, value] of Object.entries({
    role: "slider", tabindex: 0, "aria-labelledby": "timeline-title", "aria-describedby": "timeline-summary",
    "aria-valuemin": 0, "aria-valuemax": end - begin, "aria-orientation": "horizontal",
  })) lane.setAttribute(name, value);
  choose(chosen, { typed: true });
})();
