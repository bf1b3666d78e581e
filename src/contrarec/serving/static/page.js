"use strict";

const LENGTH = 20;
const SHORT = matchMedia("(max-width: 40rem)").matches ? 5 : 10; // of a history, at first
const OPTIONS = 12;
const WAIT = 120; // ms without a key stroke before ids are looked up

const at = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const plural = (n, one) => `${number(n)} ${one}${n === 1 ? "" : "s"}`;

let info = null;
let shown = { user: null, item: null };

class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Ask the server; of two questions on the same topic only the later one is answered. */
const asking = new Map();
async function ask(topic, path, parameters = {}) {
  asking.get(topic)?.abort();
  const stop = new AbortController();
  asking.set(topic, stop);
  const key = sessionStorage.getItem("key");
  let answer;
  try {
    answer = await fetch(`${path}?${new URLSearchParams(parameters)}`, {
      signal: stop.signal,
      headers: key ? { "X-API-Key": key } : {},
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "The server does not answer.");
  }
  const content = await answer.json().catch(() => ({}));
  if (answer.ok) return content;
  if (answer.status === 401) {
    at("key-form").hidden = false;
    at("key").focus();
  }
  throw new Refusal(answer.status, content.error ?? `The server says ${answer.status}.`);
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text; // never as HTML: ids may be anything
  return made;
}

function row(item) {
  const button = element("button", "", "");
  button.type = "button";
  button.dataset.item = item.item_id;
  button.disabled = !info.similar;
  button.setAttribute("aria-pressed", String(item.item_id) === shown.item);
  const bar = element("span", "bar", "");
  const share = Math.log1p(item.popularity) / Math.log1p(Math.max(info.max_popularity, 1));
  bar.style.setProperty("--share", `${100 * share}%`);
  const count = element("span", "count", number(item.popularity));
  count.title = "Training interactions of the item";
  button.append(element("span", "rank", item.rank ?? "·"), element("span", "id", item.item_id));
  const score = element("span", "score", "score" in item ? scoreText(item.score) : "");
  score.title = "Score";
  button.append(score, bar, count);
  button.addEventListener("click", () => go({ user: shown.user, item: String(item.item_id) }));
  const line = document.createElement("li");
  line.append(button);
  return line;
}

const scoreText = (score) => (Number.isInteger(score) ? number(score) : score.toPrecision(3));

function fill(list, items) {
  at(list).replaceChildren(...items.map(row));
}

async function showUser(user) {
  at("status").textContent = "…";
  const [history, answer] = await Promise.all([
    ask("history", "history", { user, limit: 200 }).catch((error) => {
      if (error.status === 404) return { total: 0, items: [] };
      throw error;
    }),
    ask("recommend", "recommend", { user, k: Math.min(LENGTH, info.max_k) }),
  ]);
  const { items, source } = answer.results[0];
  const listed = history.items.length < history.total ? `, the ${history.items.length} most popular` : "";
  at("history-note").textContent = history.total
    ? `${plural(history.total, "item")}${listed}.`
    : "Training has not seen this user.";
  const more = at("more");
  more.hidden = history.items.length <= SHORT;
  more.textContent = `Show all ${number(history.items.length)}`;
  more.onclick = () => {
    fill("history", history.items);
    more.hidden = true;
  };
  fill("history", history.items.slice(0, SHORT));
  at("recommended-note").textContent =
    source === "popularity"
      ? "Nothing is known of this user: these are the most popular items."
      : `The best of ${plural(info.items, "item")} for ${user}, with the model's score.`;
  fill("recommended", items);
  at("panels").hidden = false;
  at("status").textContent = "";
  document.title = `${user} · contrarec`;
}

async function showItem(item) {
  for (const button of document.querySelectorAll("ol button"))
    button.setAttribute("aria-pressed", button.dataset.item === item);
  at("similar-title").textContent = item === null ? "Similar items" : `Similar to ${item}`;
  at("similar").replaceChildren();
  if (item === null) {
    at("similar-note").textContent = info.similar
      ? "Choose an item to see which others are near to it."
      : "This model knows no similar items.";
    return;
  }
  at("similar-note").textContent = "…";
  const answer = await ask("similar", "similar", { item, k: Math.min(LENGTH, info.max_k) });
  fill("similar", answer.results[0].items);
  at("similar-note").textContent = "The nearest first, with how near they are.";
}

/** Show what the address says: users and items can be linked to, and the way back works. */
async function show() {
  const said = new URLSearchParams(location.hash.slice(1));
  const wanted = { user: said.get("user"), item: said.get("item") };
  const before = shown;
  shown = wanted;
  try {
    info ??= await about();
    if (wanted.user === null) {
      at("panels").hidden = true;
      at("user").focus();
      return;
    }
    if (wanted.user !== before.user) {
      at("user").value = wanted.user;
      await showUser(wanted.user);
    }
    if (wanted.item !== before.item || wanted.user !== before.user) await showItem(wanted.item);
    if (wanted.item !== null && wanted.item !== before.item) {
      at("similar-title").focus({ preventScroll: true });
      const box = at("similar-panel").getBoundingClientRect();
      if (box.top < 0 || box.top > innerHeight - 200) at("similar-panel").scrollIntoView();
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    shown = { user: null, item: null };
    at("status").textContent = error.message;
  }
}

function go({ user, item = null }) {
  const said = new URLSearchParams(item === null ? { user } : { user, item });
  if (location.hash === `#${said}`) show();
  else location.hash = said;
}

async function about() {
  const found = await ask("info", "info");
  at("run").textContent = found.run;
  const kind = found.backbone === "none" ? found.method : `${found.method} on ${found.backbone}`;
  at("about").textContent =
    `${kind}: ${plural(found.users, "user")}, ${plural(found.items, "item")}, ` +
    plural(found.interactions, "interaction");
  at("status").textContent = "";
  return found;
}

/* The list of users under the search field */

const field = at("user");
const options = at("users");
let timer = 0;
let chosen = -1;

function choose(place) {
  chosen = place;
  [...options.children].forEach((option, number) => {
    option.setAttribute("aria-selected", number === place);
    if (number === place) option.scrollIntoView({ block: "nearest" });
  });
  if (place < 0) field.removeAttribute("aria-activedescendant");
  else field.setAttribute("aria-activedescendant", options.children[place].id);
}

function close() {
  clearTimeout(timer);
  options.hidden = true;
  field.setAttribute("aria-expanded", "false");
  choose(-1);
}

async function open() {
  const prefix = field.value.trim();
  try {
    const { users } = await ask("users", "users", { prefix, limit: OPTIONS });
    options.replaceChildren(
      ...users.map((user, place) => {
        const option = element("li", "", user);
        option.id = `user-${place}`;
        option.setAttribute("role", "option");
        option.addEventListener("pointerdown", (event) => event.preventDefault()); // keeps the focus
        option.addEventListener("click", () => pick(String(user)));
        return option;
      }),
    );
    const found = users.length > 0 && document.activeElement === field;
    options.hidden = !found;
    field.setAttribute("aria-expanded", String(found));
    at("status").textContent = users.length ? "" : "No user id starts with this.";
    choose(-1);
  } catch (error) {
    if (error.name !== "AbortError") at("status").textContent = error.message;
  }
}

/* What the field says; or the only user whose id starts so, if the list shows that one alone. */
function typed() {
  const text = field.value.trim();
  const only = options.hidden || options.children.length !== 1 ? "" : options.children[0].textContent;
  return text && only.startsWith(text) ? only : text;
}

function pick(user) {
  asking.get("users")?.abort();
  close();
  field.value = user;
  if (user) go({ user });
}

field.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(open, WAIT);
});
field.addEventListener("blur", close);
field.addEventListener("keydown", (event) => {
  const n = options.children.length;
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    if (options.hidden) open();
    else choose((chosen + (event.key === "ArrowDown" ? 1 : n - (chosen < 0 ? 0 : 1))) % n);
  } else if (event.key === "Enter") {
    event.preventDefault();
    pick(chosen >= 0 ? options.children[chosen].textContent : typed());
  } else if (event.key === "Escape" && !options.hidden) {
    event.preventDefault();
    close();
  }
});

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", at("key").value);
  at("key-form").hidden = true;
  show();
});

addEventListener("hashchange", show);
show();
