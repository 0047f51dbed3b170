"""Leave sphinx-thebe out: Jupyter Book always adds it, nothing here uses it, and its pages name another host.

It also declares a constant twice, which stops the script that comes after it.
"""


def leave_out(app, config):
    """Take its listeners and its style sheet away."""
    for name, listeners in app.events.listeners.items():
        app.events.listeners[name] = [one for one in listeners if one.handler.__module__ != "sphinx_thebe"]
    app.registry.css_files = [one for one in app.registry.css_files if one[0] != "sphinx-thebe.css"]
