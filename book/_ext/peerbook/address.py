"""Everything that follows from the repository's address; without one, nothing is shown that would lead nowhere.

The address is `repository.url` in `_config.yml`, else that of the git remote `origin` if it is on GitHub, where
`.github/workflows/pages.yml` publishes the book.
"""

import re
import subprocess

from sphinx.errors import ConfigError

BINDER = "https://mybinder.org"
# A token in the remote's address, before the @, goes no further than this.
GITHUB = re.compile(r"(?:https://(?:[^/@]*@)?|git@|ssh://git@)github\.com[/:]([\w-]+)/([\w.-]+?)(?:\.git)?/?")


def repository(setting, folder):
    """`https://github.com/owner/name`, or "" where neither the setting nor the git remote of `folder` names one."""
    if setting:
        match = GITHUB.fullmatch(setting)
        if match is None:
            raise ConfigError(f"repository.url in _config.yml is {setting}, expected https://github.com/OWNER/NAME")
    else:
        command = ["git", "-C", str(folder), "remote", "get-url", "origin"]
        try:
            remote = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except OSError:  # there is no git
            remote = ""
        match = GITHUB.fullmatch(remote)
    return f"https://github.com/{match[1]}/{match[2]}" if match else ""


def site(repository):
    """Where GitHub publishes the pages of a repository."""
    owner, name = repository.split("/")[-2:]
    home = f"{owner.lower()}.github.io"
    return f"https://{home}/" if name.lower() == home else f"https://{home}/{name}/"


def apply(app, config):
    """Buttons for the source and for Binder, canonical addresses, a map of the site, and where a lost reader goes."""
    options = config.html_theme_options
    url = repository(options.get("repository_url"), app.confdir)
    if url:
        options["repository_url"] = url
        for button in ("use_repository_button", "use_edit_page_button", "use_issues_button"):
            options[button] = True
        options["launch_buttons"] = {"binderhub_url": BINDER, "notebook_interface": "jupyterlab"}
        config.html_baseurl = config.html_baseurl or site(url)
    config.ogp_site_url = config.html_baseurl
    config.ogp_site_name = config.html_title
    config.ogp_use_first_image = bool(config.html_baseurl)
    config.notfound_urls_prefix = re.sub(r"^https?://[^/]*", "", config.html_baseurl) or "/"
