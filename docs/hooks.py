"""What the site has from outside this folder: README.md as its first page, CONTRIBUTING.md and
CHANGELOG.md, and the pictures in figures/."""

import re
from pathlib import Path

from mkdocs.structure.files import File

PAGES = {"index.md": "README.md", "extending.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}


def on_files(files, config):
    root = Path(config.config_file_path).parent
    for page, source in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(root / source)))
    for file in sorted((root / "figures").rglob("*")):
        if file.suffix in (".png", ".gif", ".json") or file.name == "README.md":
            name = str(file.relative_to(root)).replace("figures/README.md", "figures/commands.md")
            files.append(File.generated(config, name, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links as they are within the repository become links within the site."""
    if page.file.src_uri in PAGES:
        markdown = markdown.replace("](docs/", "](").replace("](CONTRIBUTING.md", "](extending.md")
    markdown = markdown.replace("](../CONTRIBUTING.md", "](extending.md")
    up = "../" * page.file.src_uri.count("/")
    markdown = markdown.replace("](../figures/README.md", "](figures/commands.md").replace(
        "](../figures/", f"]({up}figures/"
    )
    # what is no page of the site is named, and not linked
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)*(LICENSE|configs/[^)]*|scripts/[^)]*)\)", r"\1", markdown)
