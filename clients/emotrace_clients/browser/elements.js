// Building elements. Text from outside goes through textContent only, so it can never be markup.

export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  const { dataset = {}, style = {}, attributes = {}, ...rest } = properties;
  Object.assign(made, rest);
  Object.assign(made.dataset, dataset);
  for (const [name, value] of Object.entries(style)) made.style.setProperty(name, value);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null));
  return made;
}

export function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

// A label's two letters, so that nothing depends on colour alone.
export function letters(label) {
  const [first = "?", second = ""] = [...label];
  return first.toUpperCase() + second;
}

// A label's sign: its letters on its colour.
export function sign(label) {
  return element("span", {
    className: "sign",
    textContent: letters(label),
    dataset: { emotion: label },
    attributes: { "aria-hidden": "true" },
  });
}

// One bar a label: sign and name, bar, share. What was chosen is bold, and told in words elsewhere.
export function bars(posterior, chosen) {
  return element(
    "ul",
    { className: "bars", attributes: { "aria-label": "Probabilities" } },
    ...Object.entries(posterior).map(([label, share]) =>
      element(
        "li",
        { className: label === chosen ? "chosen" : "", dataset: { emotion: label } },
        element("span", { className: "name" }, sign(label), label),
        element(
          "span",
          { className: "track", attributes: { "aria-hidden": "true" } },
          element("span", { className: "fill", style: { "--share": share } }),
        ),
        element("span", { className: "share", textContent: `${Math.round(share * 100)} %` }),
      ),
    ),
  );
}

// The same in one line, without words: shares of a whole, each on its label's colour.
export function strip(shares) {
  return element(
    "span",
    { className: "strip", attributes: { "aria-hidden": "true" } },
    ...Object.entries(shares)
      .filter(([, share]) => share > 0)
      .map(([label, share]) =>
        element("span", { dataset: { emotion: label }, style: { "--share": share } }),
      ),
  );
}

// A table with a caption and a head; rows are its <tr>.
export function table(className, caption, columns, rows, foot = []) {
  return element(
    "table",
    { className },
    element("caption", { textContent: caption }),
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        ...columns.map((name) => element("th", { textContent: name, scope: "col" })),
      ),
    ),
    element("tbody", {}, ...rows),
    foot.length > 0 ? element("tfoot", {}, ...foot) : null,
  );
}

// A row of a table: what it is about, and its cells, which are texts or elements.
export function row(about, ...cells) {
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, ...[about].flat()),
    ...cells.map((cell) =>
      cell instanceof Element ? cell : element("td", { className: "number", textContent: cell }),
    ),
  );
}
