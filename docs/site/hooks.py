"""What the site is made of, for mkdocs.

The site has the folders of the repository, so that each link leads to the same place on GitHub and
on the site: it starts from the README, the pages of docs/ and of the experiments, and has what they
link; a notebook becomes a page. To these come pages that only the site has: the API, a page for
each module of the package, and how to cite.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebooks import page_files, page_name

ROOT = Path(__file__).parents[2]
CONTENTS, GALLERY, TUTORIAL = "docs/README.md", "docs/gallery.md", "docs/tutorial.md"
LINK = re.compile(r"\]\(([^)#\s]+)")
ITEM = re.compile(r"^- .*\n(?:  .*\n)*\n(?:(?:  .*)?\n)*", re.M)  # with more than one paragraph
NOTEBOOK = re.compile(r"(\]\([^)#\s]+)\.ipynb\)")
PICTURE = re.compile(r"!\[([^]]*)\]\(([^)\s]+)\)")


def on_config(config: MkDocsConfig) -> None:
    """Sets the navigation: guides and notebooks as the table in docs/README.md has them."""
    linked = [f"docs/{name}" for name in LINK.findall((ROOT / CONTENTS).read_text())]
    guides = [name for name in linked if name.endswith(".md")]
    notebooks = [page_name(name) for name in linked if name.endswith(".ipynb")]
    config.nav = [
        {"Home": "README.md"},
        {"Tutorials": [TUTORIAL, *notebooks]},
        {"Guides": [CONTENTS, *(page for page in guides if page not in (TUTORIAL, GALLERY))]},
        {"Experiments": experiments()},
        {"Gallery": GALLERY},
        {"API": api_nav(ROOT / "vgg_jax")},
        {"Changelog": "CHANGELOG.md"},
        {"Cite": "cite.md"},
        {"Contributing": ["CONTRIBUTING.md", "SECURITY.md"]},
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replaces what mkdocs found in docs/ by the files of the site."""
    names = linked_files()
    own = [File.generated(config, name, abs_src_path=str(ROOT / name)) for name in names]
    for name in names:
        if name.endswith(".ipynb"):
            made = page_files(ROOT, name).items()
            own += [File.generated(config, path, content=content) for path, content in made]
    api = [File.generated(config, api_page(p), content=api_text(p)) for p in modules()]
    cite = File.generated(config, "cite.md", content=cite_text())
    theme = [file for file in files if file.src_dir != config.docs_dir]
    return Files([*theme, *own, *api, cite])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adds the figures of all experiments to the gallery, and rewrites lists for Python-Markdown.

    It wants four spaces before a table or a paragraph of an item, and an empty line after it;
    GitHub wants two and none. A link to a notebook leads to its page.
    """
    if page.file.src_uri == GALLERY:
        markdown += figures_text()
    if not (ROOT / page.file.src_uri).with_suffix(".ipynb").is_file():
        markdown = NOTEBOOK.sub(r"\1.md)", markdown)
    return ITEM.sub(lambda item: re.sub(r"^  ", "    ", item[0], flags=re.M) + "\n", markdown)


def experiments() -> list[str]:
    return sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("experiments/*/README.md"))


def linked_files() -> list[str]:
    """Returns the pages of the repository and the files that they link, pages among them."""
    docs = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md"))
    names = ["README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"]
    names += [*docs, *experiments()]
    for name in names:  # grows on the way
        if name.endswith(".md"):
            folder = (ROOT / name).parent
            for link in LINK.findall((ROOT / name).read_text()):
                path = (folder / link).resolve()
                if path.is_file() and (found := str(path.relative_to(ROOT))) not in names:
                    names.append(found)
    return names


def modules() -> list[Path]:
    """Returns the modules of the package; a package stands for itself if it has a text."""
    found = sorted((ROOT / "vgg_jax").rglob("*.py"))
    return [p for p in found if p.stem != "__main__" and p.read_text().strip()]


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def api_page(path: Path) -> str:
    page = path.relative_to(ROOT).with_suffix(".md")
    return f"api/{page.with_name('index.md') if page.stem == '__init__' else page}"


def api_text(path: Path) -> str:
    text = f"::: {module_name(path)}\n"
    if module_name(path) == "vgg_jax":  # the command vgg_jax.predict hides the function
        options = "{heading_level: 2, show_root_full_path: false}"
        text += f"\n::: vgg_jax.evaluation.prediction.predict\n    options: {options}\n"
    return text


def api_nav(folder: Path) -> list[Any]:
    """Returns the pages of a package: its own, those of its modules, then of packages in it."""
    pages = [path for path in modules() if path.parent == folder]
    entries: list[Any] = [{module_name(p): api_page(p)} for p in pages if p.stem == "__init__"]
    entries += [{path.stem: api_page(path)} for path in pages if path.stem != "__init__"]
    packages = sorted({path.parent for path in modules() if path.parent.parent == folder})
    return entries + [{package.name: api_nav(package)} for package in packages]


def figures_text() -> str:
    """Returns a section of the gallery: each figure that an experiment shows leads to its page."""
    lines = ["\n\n## Figures of the experiments\n"]
    for readme in experiments():
        text = (ROOT / readme).read_text()
        if pictures := PICTURE.findall(text):
            title, folder = text.splitlines()[0].removeprefix("# "), Path(readme).parent
            lines.append(f"### {title}\n")
            lines += [f"[![{alt}](../{folder}/{at})](../{readme})\n" for alt, at in pictures]
    return "\n".join(lines)


def cite_text() -> str:
    """Returns the page on how to cite, from CITATION.cff."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    entries = [bibtex("software", "vgg_jax", cff)]
    for work in cff["references"]:
        key = f"{work['authors'][0]['family-names'].lower()}{work['year']}"
        entries.append(bibtex(work["type"], key, work))
    code = "\n\n".join(entries)
    link = "[CITATION.cff](CITATION.cff) has the same for machines."
    return f"# How to cite\n\n{cff['message']}\n\n```bibtex\n{code}\n```\n\n{link}\n"


def bibtex(kind: str, key: str, work: dict[str, Any]) -> str:
    """Returns a BibTeX entry of what CITATION.cff says about one work."""
    people = [a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in work["authors"]]
    fields = {"title": f"{{{work['title']}}}", "author": " and ".join(people)}
    fields |= {name: str(work[name]) for name in ("year", "version", "url") if name in work}
    lines = [f"  {name} = {{{value}}},".replace("_", r"\_") for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])
