"""`python release/archive.py`: builds the zip that the registry gets, in dist/.

It has the files that git tracks, without those that .comfyignore names. A link in a Markdown file to one of
those leads to the repository instead, and what stands between `<!-- repository only -->` and `<!-- end -->`
is left out.
"""

from __future__ import annotations

import argparse
import posixpath
import re
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # setuptools and pip bring it to older Pythons

ROOT = Path(__file__).resolve().parents[1]
ONLY_HERE = re.compile(r"<!-- repository only -->.*?<!-- end -->\n?", re.DOTALL)
LINK = re.compile(r"(\]\()([^)#\s]+)([^)\s]*\))|(<img [^>]*src=\")([^\"]+)(\")")


def project() -> dict:
    """pyproject.toml, where owner, publisher and version stand."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def tracked_files(*options: str) -> list[str]:
    """Paths from the root, as git knows them. Raises CalledProcessError where this is no git checkout."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", *options]
    answer = subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8")
    return [name for name in answer.stdout.split("\0") if name]


def published_files() -> list[str]:
    """As the registry's own tool chooses them; git itself reads the rules, whose syntax is its own."""
    left_out = tracked_files("--cached", "--ignored", f"--exclude-from={ROOT / '.comfyignore'}")
    return sorted(set(tracked_files()) - set(left_out))


def as_published(name: str, text: str, files: set[str], repository: str) -> str:
    """A Markdown file of the archive. repository: address of what the archive does not have."""
    folder = PurePosixPath(name).parent

    def led(match: re.Match[str]) -> str:
        before, target, after = [part for part in match.groups() if part is not None]
        if re.match(r"[a-z]+:", target):
            return match.group()
        path = posixpath.normpath(folder / target)
        if path in files or any(file.startswith(f"{path}/") for file in files):
            return match.group()
        return f"{before}{repository}/{path}{after}"

    return LINK.sub(led, ONLY_HERE.sub("", text))


def write_archive(path: Path) -> Path:
    """The published zip: the pack's files at its top level."""
    about = project()["project"]
    repository = f"{about['urls']['Repository']}/blob/v{about['version']}"
    names = published_files()
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            if name.endswith(".md"):
                text = (ROOT / name).read_text("utf-8")
                archive.writestr(name, as_published(name, text, set(names), repository))
            else:
                archive.write(ROOT / name, name)
    return path


def check_tag(tag: str) -> None:
    """Raise ValueError unless a tag names the version in pyproject.toml."""
    if tag != (expected := f"v{project()['project']['version']}"):
        raise ValueError(f"the tag is {tag!r}, but pyproject.toml says {expected!r}; they must be equal")


def main() -> None:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tag", help="refuse unless this is the version, with a v before it")
    options = parser.parse_args()
    if options.tag is not None:
        check_tag(options.tag)
    about = project()["project"]
    path = write_archive(ROOT / "dist" / "{name}-{version}.zip".format(**about))
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
