from vitsearch_agent.wire import protocol


def test_exports_exist():
    assert [name for name in protocol.__all__ if not hasattr(protocol, name)] == []


def test_docstring_lists_every_route():
    from vitsearch_agent.server.http.routes import ROUTES

    documented = {
        (line.split()[0], line.split()[1].split("?")[0])
        for line in protocol.__doc__.splitlines()
        if line.split()[:1] and line.split()[0] in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    }
    example = "ab" * 32
    for method, path in documented - {("GET", "/v1/health")}:
        real = path.replace("{id}", example).replace("{sha256}", example)
        assert any(route.method == method and route.pattern.match(real) for route in ROUTES), path
    assert len(documented) == len(ROUTES) + 1
