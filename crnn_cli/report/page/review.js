"use strict";
// Saves what the reader says of the case as a small JSON file; nothing leaves the computer.
(() => {
  const form = document.querySelector("form.review");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const given = new FormData(form);
    const review = {
      ...JSON.parse(form.dataset.about), verdict: given.get("verdict"), note: given.get("note").trim(),
      date: new Date().toISOString(),
    };
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(review, null, 2) + "\n"], { type: "application/json" }));
    link.download = form.dataset.name;
    link.click();
    URL.revokeObjectURL(link.href);
    form.querySelector("output").textContent = `Saved as ${form.dataset.name} where this browser saves files.`;
  });
})();
