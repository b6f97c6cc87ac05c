"""The HTTP server: three interfaces, a page, a queue, and bundles that share steps. The extra `server` installs what it
needs."""
