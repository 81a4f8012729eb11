// Puts the code of a one-time link, which stands behind the # of the address, into the form.
"use strict";

const field = document.querySelector("[data-link-code]");
const input = field?.querySelector("input");
if (input) {
  if (location.hash.length > 1) {
    input.value = location.hash.slice(1);
    history.replaceState(null, "", location.pathname);
  }
  field.hidden = input.value !== "" && !field.querySelector(".error");
}
