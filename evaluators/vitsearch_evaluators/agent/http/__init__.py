"""The HTTP server of the agent: sockets, request heads, routes, limits for each client."""
