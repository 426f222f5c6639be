// What the theme leaves out for screen readers and the keyboard: the search has a name, and what scrolls takes the focus.
document.querySelector(".md-search").setAttribute("aria-label", "Search");
addEventListener("load", () => document.querySelectorAll(".md-typeset__scrollwrap").forEach((table) => (table.tabIndex = 0)));
