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

// A label's sign: two letters on its colour, so that nothing depends on colour alone.
export function sign(label) {
  const letters = [...label].slice(0, 2).join("");
  return element("span", {
    className: "sign",
    textContent: letters.charAt(0).toUpperCase() + letters.slice(1),
    dataset: { emotion: label },
    attributes: { "aria-hidden": "true" },
  });
}

// One bar a label: sign and name, bar, share. The label chosen is marked in words for those who do not see.
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
