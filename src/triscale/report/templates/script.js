// Makes a report interactive for pointer and keyboard. The report is complete without it: figures carry their tooltips
// as titles, tables are sorted by what matters most, and every class has its card.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const all = (root, selector) => [...root.querySelectorAll(selector)];
  const make = (tag, values = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), values);
    element.append(...children);
    return element;
  };

  // Points and epochs of a figure show their tooltip when hovered or focused; arrow keys move from one to the next.
  for (const figure of all(document, "figure")) {
    const drawing = figure.querySelector(".drawing svg");
    const marks = drawing ? all(drawing, ".mark") : [];
    if (!marks.length) continue;
    const tip = make("div", { className: "tip", hidden: true });
    const guide = document.createElementNS(SVG, "g");
    guide.setAttribute("class", "guide");
    drawing.insertBefore(guide, drawing.querySelector(".marks"));
    figure.append(tip);
    let active = null;

    const line = (mark) => {
      const x = mark.dataset.x, top = mark.y.baseVal.value, bottom = top + mark.height.baseVal.value;
      const rule = document.createElementNS(SVG, "path");
      rule.setAttribute("d", `M${x} ${top}V${bottom}`);
      const dots = mark.dataset.dots.split(" ").filter(Boolean).map((dot) => {
        const [cx, cy] = dot.split(","), circle = document.createElementNS(SVG, "circle");
        circle.setAttribute("cx", cx);
        circle.setAttribute("cy", cy);
        circle.setAttribute("r", 3.5);
        return circle;
      });
      guide.replaceChildren(rule, ...dots);
    };
    const activate = (mark) => {
      if (active) active.classList.remove("active");
      active = mark;
      tip.hidden = !mark;
      if (!mark) return guide.replaceChildren();
      mark.classList.add("active");
      tip.textContent = mark.getAttribute("aria-label");
      if (mark.dataset.dots) line(mark);
      const frame = figure.getBoundingClientRect(), box = mark.getBoundingClientRect();
      const middle = box.left + box.width / 2 - frame.left;
      const above = (mark.dataset.dots ? box.top + 6 : box.top - 8) - frame.top - tip.offsetHeight;
      tip.style.left = `${Math.max(4, Math.min(middle - tip.offsetWidth / 2, frame.width - tip.offsetWidth - 4))}px`;
      tip.style.top = `${Math.max(4, above)}px`;
    };
    const shown = () => marks.filter((mark) => !mark.classList.contains("hidden-series"));
    const stop = (mark) => marks.forEach((one) => one.setAttribute("tabindex", one === mark ? 0 : -1));
    for (const mark of marks) {
      const title = mark.querySelector("title");
      mark.setAttribute("aria-label", title.textContent);
      title.remove(); // or the browser would show it a second time
      mark.addEventListener("pointerenter", () => activate(mark));
      mark.addEventListener("pointerdown", () => activate(mark));
      mark.addEventListener("focus", () => activate(mark));
      mark.addEventListener("blur", () => activate(null));
      mark.addEventListener("keydown", (event) => {
        const list = shown(), at = list.indexOf(mark);
        const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1,
          Home: 0, End: list.length - 1 }[event.key];
        if (event.key === "Escape") activate(null);
        if (next === undefined) return;
        event.preventDefault();
        const chosen = list[Math.max(0, Math.min(next, list.length - 1))];
        stop(chosen);
        chosen.focus();
      });
    }
    stop(marks[0]);
    drawing.addEventListener("pointerleave", () => activate(null));

    // The legend shows and hides series.
    for (const item of all(figure, ".legend li")) {
      const button = make("button", { type: "button" }, ...item.childNodes);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const show = button.getAttribute("aria-pressed") === "false";
        button.setAttribute("aria-pressed", show);
        all(drawing, `[data-series="${item.dataset.series}"]`).forEach((part) => part.classList.toggle("hidden-series", !show));
        activate(null);
        const left = shown();
        if (left.length) stop(left[0]);
      });
      item.append(button);
    }
  }

  // Clicking a heading sorts the table: numbers in descending order first, text alphabetically.
  const words = new Intl.Collator(undefined, { numeric: true });
  for (const table of all(document, "table.sortable")) {
    const body = table.tBodies[0];
    for (const head of all(table, "thead th:not([data-unsorted])")) {
      const numeric = head.classList.contains("n"), column = head.cellIndex;
      const button = make("button", { type: "button", className: "sort" }, ...head.childNodes);
      head.append(button);
      const value = (row) => {
        const cell = row.cells[column];
        return numeric ? (cell.dataset.value === "" ? NaN : Number(cell.dataset.value)) : cell.textContent.trim();
      };
      button.addEventListener("click", () => {
        const first = numeric ? "descending" : "ascending", other = numeric ? "ascending" : "descending";
        const order = head.getAttribute("aria-sort") === first ? other : first;
        all(table, "thead th").forEach((one) => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const compare = (a, b) => {
          if (!numeric) return sign * words.compare(value(a), value(b));
          const [one, two] = [value(a), value(b)];
          if (isNaN(one) || isNaN(two)) return isNaN(one) - isNaN(two); // missing values stay last
          return sign * (one - two);
        };
        body.append(...[...body.rows].sort(compare));
      });
    }
  }

  // The name of a class chooses its card.
  for (const chooser of all(document, ".by-class")) {
    const cards = all(chooser, ".class-card");
    if (!cards.length) continue;
    const links = all(chooser, "tbody th a");
    const choose = (id) => {
      cards.forEach((card) => card.classList.toggle("chosen", card.id === id));
      links.forEach((link) => {
        const here = link.hash === `#${id}`;
        link.closest("tr").classList.toggle("chosen", here);
        if (here) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      });
    };
    links.forEach((link) => link.addEventListener("click", (event) => {
      event.preventDefault();
      choose(link.hash.slice(1));
      const card = chooser.querySelector(".class-card.chosen");
      if (matchMedia("(max-width: 899px)").matches) card.scrollIntoView({ block: "nearest" });
      card.focus({ preventScroll: true });
    }));
    chooser.classList.add("chooser");
    choose(cards.some((card) => `#${card.id}` === location.hash) ? location.hash.slice(1) : cards[0].id);
  }
})();
