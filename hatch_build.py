"""The README as a package index shows it, made when a distribution is built.

An index shows the description alone: no file is beside it, so a relative link or picture leads nowhere there. With
`[project.urls] Source`, the address of a repository as GitHub has them, they lead to the files of the version's tag. Without,
a link becomes its text, a picture goes, and the files are said to be in the source distribution.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_BLOCK = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>(?:`[^`\n]*`|[^\]`])*)\]\((?P<target>(?!https?:|#|mailto:)[^)\s]+)\)")
_INSTALLED = """\
> Installed from here, as `pipx install 'covenq[github]'` does it, `make run` is `covenq serve`, and `.venv/bin/covenq` is
> `covenq`; the manual is installed too: `man covenq`.{files}
"""
_FILES = " The files named below are in the source distribution."


def description(readme: str, source: str | None, tag: str) -> str:
    """The README for an index. `source`: the repository's address, if there is one; `tag` is what the files are of."""

    def link(found: re.Match[str]) -> str:
        picture, text, target = found["picture"], found["text"], found["target"]
        if source is not None:
            return f"{picture}[{text}]({source.rstrip('/')}/{'raw' if picture else 'blob'}/{tag}/{target})"
        return "" if picture else text

    blocks = _BLOCK.findall(readme)
    prose = [re.sub(r"\n{3,}", "\n\n", _LINK.sub(link, one)) for one in _BLOCK.split(readme)]
    title, _, rest = "".join(part for both in zip(prose, [*blocks, ""], strict=True) for part in both).partition("\n")
    return f"{title}\n\n{_INSTALLED.format(files='' if source else _FILES)}{rest}"


class CustomMetadataHook(MetadataHookInterface):
    """Hatchling's face of `description`."""

    def update(self, metadata: dict[str, Any]) -> None:
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        source = metadata.get("urls", {}).get("Source")
        text = description(readme, source, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
