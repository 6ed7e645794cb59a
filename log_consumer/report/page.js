"use strict";
// Copies the SQL beside a button. The page says all it has to say without this.
for (const button of document.querySelectorAll("button.copy")) {
  const code = button.parentElement.querySelector("code");
  button.hidden = false;
  button.addEventListener("click", async () => {
    const isCopied = await navigator.clipboard.writeText(code.textContent).then(() => true, () => false);
    if (!isCopied) getSelection().selectAllChildren(code);
    const said = isCopied ? "Copied" : "Selected";
    button.textContent = said;
    document.getElementById("status").textContent = `${said}: the SQL`;
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}
