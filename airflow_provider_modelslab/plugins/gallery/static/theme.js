// Light or dark as in Airflow. Airflow does not pass its theme to frames, so it is read from the page around, if allowed.
// Loaded before anything is drawn, so that nothing flashes.
"use strict";
(() => {
  const own = document.documentElement;
  const prefers = window.matchMedia("(prefers-color-scheme: dark)");

  function around() {
    try {
      return window.parent === window ? null : window.parent.document.documentElement;
    } catch {
      return null; // a page of another origin
    }
  }

  function themeOf(element) {
    const named = element && (element.dataset.theme || ["dark", "light"].find((name) => element.classList.contains(name)));
    if (named === "dark" || named === "light") return named;
    let stored = null;
    try {
      stored = window.localStorage.getItem("theme");
    } catch {
      // storage is switched off
    }
    if (stored === "dark" || stored === "light") return stored;
    return prefers.matches ? "dark" : "light";
  }

  function apply() {
    const outer = around();
    own.dataset.theme = themeOf(outer);
    if (!outer) return;
    const { backgroundColor } = window.parent.getComputedStyle(outer);
    if (backgroundColor && !/^(transparent|rgba\(0, 0, 0, 0\))$/.test(backgroundColor)) own.style.setProperty("--page", backgroundColor);
  }

  apply();
  prefers.addEventListener("change", apply);
  window.addEventListener("storage", apply);
  const outer = around();
  if (outer) new MutationObserver(apply).observe(outer, { attributes: true, attributeFilter: ["class", "data-theme", "style"] });
})();
