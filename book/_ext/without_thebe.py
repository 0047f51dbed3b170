"""Leave sphinx-thebe out: Jupyter Book always adds it, nothing here uses it, and its pages name another host.

It also declares a constant twice, which stops the script that comes after it.
"""


def _disconnect(app, config):
    for name, listeners in app.events.listeners.items():
        app.events.listeners[name] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]
    app.registry.css_files = [one for one in app.registry.css_files if one[0] != "sphinx-thebe.css"]


def setup(app):
    """Register with Sphinx."""
    # After every extension is set up, before the first of its events.
    app.connect("config-inited", _disconnect, priority=999)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
