// Saves a text that the server made: [name, text]. Nothing is left on the server that way.
(file) => {
  const [name, text] = JSON.parse(file || "[]");
  if (!name) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: name.endsWith(".csv") ? "text/csv" : "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
