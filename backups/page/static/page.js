// What the page does beyond plain HTML: ages and countdown that tick, live progress, the chart.
// Everything it shows is in the HTML too; without this file the page is whole.
"use strict";

(function () {
  const SECOND = 1000;

  function age(milliseconds) { // the same words as backups/view/units.py
    const total = Math.max(Math.floor(milliseconds / SECOND), 0);
    const hours = Math.floor(total / 3600), rest = total % 3600;
    if (hours >= 48) return Math.floor(hours / 24) + " days";
    if (hours) return hours + " h " + Math.floor(rest / 60) + " min";
    return Math.floor(rest / 60) + " min " + (rest % 60) + " s";
  }

  function size(count) {
    let amount = count;
    for (const unit of ["bytes", "kB", "MB", "GB"]) {
      if (amount < 1000) return (unit === "bytes" ? amount : amount.toFixed(1)) + " " + unit;
      amount /= 1000;
    }
    return amount.toFixed(1) + " TB";
  }

  function day(seconds) {
    return new Date(seconds * SECOND).toLocaleDateString("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
  }

  // --- ages and the countdown ---

  function tick() {
    for (const element of document.querySelectorAll("[data-age-of]")) {
      element.textContent = age(Date.now() - Date.parse(element.dataset.ageOf));
    }
    for (const element of document.querySelectorAll("[data-countdown-to]")) {
      const left = Date.parse(element.dataset.countdownTo) - Date.now();
      element.textContent = left > 0 ? countdown(left) : element.dataset.countdownOver;
    }
  }

  function countdown(milliseconds) {
    const total = Math.floor(milliseconds / SECOND);
    if (total >= 172800) return age(milliseconds);
    const two = (number) => String(number).padStart(2, "0");
    return Math.floor(total / 3600) + ":" + two(Math.floor((total % 3600) / 60)) + ":" + two(total % 60);
  }

  // The mark of a login that has just been made; the address is the page's own again.
  if (location.search === "?login") history.replaceState(null, "", location.pathname);

  tick();
  setInterval(tick, SECOND);

  // --- the run that is in progress ---

  const address = document.body.dataset.events;
  if (address) follow(address, document.body.dataset.newestRun);

  function follow(address, shown) {
    const events = new EventSource(address);
    addEventListener("pagehide", () => events.close());
    events.addEventListener("run", (event) => {
      const run = JSON.parse(event.data);
      if (!run) return;
      const named = run.id + " " + run.status;
      if (run.status === "running") {
        showProgress(run);
      } else if (named !== shown) {
        events.close();
        location.reload(); // the outcome is told by the server's page
      }
    });
  }

  function showProgress(run) {
    const live = document.querySelector("[data-live-run]");
    live.hidden = false;
    live.dataset.liveRun = run.id;
    setText(live.querySelector("[data-live-operation]"), run.operation);
    setText(live.querySelector("[data-live-step]"), run.step || run.stage || "");
    setText(live.querySelector("[data-live-bytes]"), run.text);
    const bar = live.querySelector("progress");
    if (run.total) { bar.max = run.total; bar.value = run.done; } else bar.removeAttribute("value");
    let before = true;
    for (const step of document.querySelectorAll("[data-steps] li")) {
      const current = step.dataset.stage === run.stage;
      if (current) before = false;
      mark(step, current ? "current" : before ? "done" : "open");
    }
  }

  function mark(step, state) {
    if (step.className === state) return;
    step.className = state;
    step.querySelector(".mark").textContent = state === "done" ? "✓" : "";
    step.querySelector("[data-state]").textContent = { done: ", done", current: ", now", open: "" }[state];
    if (state === "current") step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  }

  function setText(element, text) { // a status region speaks whenever its text is set
    if (element.textContent !== text) element.textContent = text;
  }

  // --- the chart: drawn from the rows of its table ---

  const place = document.getElementById("chart");
  const rows = [...document.querySelectorAll("#chart-data tbody tr")].reverse();
  if (place && rows.length > 1 && window.uPlot) {
    let chart = draw();
    const again = () => { chart.destroy(); chart = draw(); };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: chart.height })).observe(place);
  }

  function draw() {
    const number = (text) => (text === "" ? null : Number(text));
    const data = [
      rows.map((row) => Number(row.dataset.at)),
      rows.map((row) => number(row.dataset.bytes)),
      rows.map((row) => number(row.dataset.seconds)),
    ];
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const axis = { stroke: colour("--quiet"), font: font, grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const fromZero = (_plot, _least, most) => [0, most > 0 ? most * 1.15 : 1];
    return new uPlot({
      width: place.clientWidth || 600,
      height: 190,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * SECOND), "Etc/UTC"),
      legend: { live: false },
      cursor: { show: false },
      scales: { size: { range: fromZero }, time: { range: fromZero } },
      axes: [
        { ...axis, grid: { show: false }, space: 70, values: (_plot, values) => values.map(day) },
        { ...axis, scale: "size", size: 64, values: (_plot, values) => values.map(size) },
        { ...axis, scale: "time", side: 1, size: 50, grid: { show: false }, values: (_plot, values) => values.map((value) => value + " s") },
      ],
      series: [
        {},
        { label: "Size", scale: "size", stroke: colour("--chart-size"), width: 2, spanGaps: true },
        { label: "Duration", scale: "time", stroke: colour("--chart-time"), width: 2, dash: [5, 4], spanGaps: true },
      ],
    }, data, place);
  }
})();
