"""The HTTP server of the agent: connections, request heads, routes, and limits for each client."""
