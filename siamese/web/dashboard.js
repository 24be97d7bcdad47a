// What a page does by itself: its icon, the button Back, when it may be pressed, and what it says
// when dashboard.py is gone.
(() => {
  const COLOURS = { warn: "%23f2b64d", bad: "%23cf3341", off: "%23808080" };
  const icon = document.querySelector("link[rel~=icon]");
  const usual = icon.href;
  let tone = "good";

  function show(shown) {
    const colour = COLOURS[shown];
    icon.href = colour ? usual.replace(/%23[0-9a-f]{6}/, colour) : usual;
  }

  window.siamese = {
    icon(now) {
      tone = now;
      show(tone);
    },
    compact(figure) {
      const notation = figure < 1e6 ? "standard" : "compact";
      return figure.toLocaleString("en", { notation });
    },
    localTime(at) {
      // In the time zone of this browser; Swedes write dates as ISO 8601 does.
      return new Date(1000 * at).toLocaleString("sv-SE");
    },
  };

  class LocalTime extends HTMLElement {
    connectedCallback() {
      const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
      this.textContent = `${siamese.localTime(this.getAttribute("at"))} ${zone}`;
    }
  }
  customElements.define("local-time", LocalTime);

  // What is pressed before the page is connected would be lost: see .live in dashboard.css.
  const waiting = setInterval(() => {
    if (!window.did_handshake) return;
    clearInterval(waiting);
    document.body.classList.add("live");
  }, 50);

  // A session may end before its page is connected; then nothing else would tell.
  async function askForLogin() {
    const answer = await fetch("/dashboard.js").catch(() => ({}));
    const here = encodeURIComponent(location.pathname + location.search);
    if (answer.status === 401) location.href = `/login?next=${here}&ended`;
  }
  window.addEventListener("load", () => window.socket?.on("connect_error", askForLogin));

  // The address says all that a page shows, see address.py.
  window.addEventListener("popstate", () => location.reload());

  const popup = document.getElementById("popup");
  let title = "";
  popup.setAttribute("role", "alert");

  function onChange() {
    const isGone = popup.ariaHidden === "false";
    if (isGone === document.body.classList.contains("gone")) return;
    document.body.classList.toggle("gone", isGone);
    if (isGone) {
      title = document.title;
      const at = new Date().toISOString().slice(11, 19);
      popup.textContent =
        `dashboard.py does not answer since ${at} UTC, so all of this is old. ` +
        "Start it again: this page then comes back by itself.";
    }
    document.title = isGone ? `(?) ${title}` : title;
    show(isGone ? "off" : tone);
  }

  new MutationObserver(onChange).observe(popup, { attributeFilter: ["aria-hidden"] });
})();
