"""A hook of mkdocs: documents at the top of the repository are pages of the site, README its front page."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

TOP = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
WORKER = "assets/worker.js"
FOREIGN = "https://unpkg.com/iframe-worker/shim"  # what the theme's offline plugin would load in its place


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them, their links turned towards their new places; a link to a file that is no document stays as words."""
    root = Path(config.config_file_path).parent
    for name, page in TOP.items():
        text = (root / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=re.sub(r"\[([^\]]*)\]\(([^)]+)\)", _turned, text)))
    files.append(File.generated(config, WORKER, content=(root / ".ci" / "site_worker.js").read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links from other documents to those lead to their pages, which lie one folder deeper than they."""
    top = "|".join(map(re.escape, TOP))
    return re.sub(rf"\]\(((?:\.\./)*)\.\./({top})", lambda link: f"]({link[1]}{TOP[link[2]]}", markdown)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Search works from files by our own script: no page loads anything from elsewhere."""
    return output.replace(FOREIGN, get_relative_url(WORKER, page.url))


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """The same for the page of what is not found."""
    return output_content.replace(FOREIGN, f"/{WORKER}")


def _turned(link: re.Match[str]) -> str:
    words, target = link.groups()
    if re.match(r"https?:|#", target):
        return link[0]
    path, mark, anchor = target.partition("#")
    page = TOP.get(path, path.removeprefix("docs/"))
    return words if page == path else f"[{words}]({page}{mark}{anchor})"
