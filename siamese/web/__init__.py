"""Pages, login and the HTTP server."""
