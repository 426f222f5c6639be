"""A trained network behind a web page for people and an HTTP endpoint for programs (`heteroseg serve`)."""
