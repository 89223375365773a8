"""A notebook as a page of the site: its cells, what is stored of their output, and its pictures."""

import base64
import json
import re
import tomllib
from pathlib import Path
from typing import Any

GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+?)(?:\.git)?/?")
PICTURES = {"image/png": "png", "image/jpeg": "jpeg"}


def page_name(name: str) -> str:
    return name.removesuffix(".ipynb") + ".md"


def page_files(root: Path, name: str) -> dict[str, str | bytes]:
    """Returns the files {name: content} of a notebook: its page in Markdown, and its pictures.

    Args:
      root: folder of the repository.
      name: of the notebook, in it; its first cell is the title and a text.
    """
    first, *cells = json.loads((root / name).read_text())["cells"]
    parts = ["".join(first["source"]), _links(root, name)]
    pictures: dict[str, bytes] = {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(_fenced(source, "python"))
        for text, picture in _outputs(cell):
            if picture is None:
                parts.append(_fenced(text, 'text title="Output"'))
            else:
                file = f"{Path(name).stem}-{len(pictures) + 1}.{text}"
                parts.append(f"![output of the cell above]({file})")
                pictures[str(Path(name).with_name(file))] = picture
    return {page_name(name): "\n\n".join(parts) + "\n", **pictures}


def _links(root: Path, name: str) -> str:
    """Returns links to the file, and to Colab if the project's metadata names a GitHub address."""
    text = f"[Download this notebook]({Path(name).name})"
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    github = GITHUB.fullmatch(project.get("urls", {}).get("Repository", ""))
    if github:
        place = f"https://colab.research.google.com/github/{github[1]}/blob/main/{name}"
        text += f", or [open it in Colab]({place})"
    return f"{text}."


def _outputs(cell: dict[str, Any]) -> list[tuple[str, bytes | None]]:
    """Returns (text, None) and (kind, picture); texts that follow each other are one."""
    found: list[tuple[str, bytes | None]] = []
    for output in cell["outputs"]:
        data = output.get("data", {"text/plain": output.get("text")})
        picture = next((kind for kind in PICTURES if kind in data), None)
        if picture is not None:
            content = base64.b64decode("".join(data[picture]))
            found.append((PICTURES[picture], content))
            continue
        text = "".join(data["text/plain"])
        if found and found[-1][1] is None:
            text = f"{found.pop()[0].rstrip()}\n{text}"
        found.append((text, None))
    return found


def _fenced(text: str, info: str) -> str:
    """Returns a block of code; its fence is longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{info}\n{text.rstrip()}\n{fence}"
