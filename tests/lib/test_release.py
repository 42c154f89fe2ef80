"""What is published: complete, small, without what only developers need, described as the registry wants."""

from __future__ import annotations

import ast
import json
import posixpath
import re
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from PIL import Image
from published import ROOT, builder, published_files, tracked_files, write_archive

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

MEGABYTES = 25


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def files() -> list[str]:
    return published_files()


def test_the_archive_holds_what_runs_and_nothing_else(files):
    assert {"__init__.py", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"} <= set(files)
    for folder in ("nodes", "lclip", "lclip/mini/weights", "lclip/safety/policies", "workflows", "web/docs"):
        assert [name for name in files if name.startswith(f"{folder}/")], folder
    tops = {name.split("/")[0] for name in files}
    assert not tops & {
        "tests",
        "benchmarks",
        "media",
        "release",
        "dist",
        ".ci",
        ".github",
        "Makefile",
        ".gitignore",
    }
    assert not [name for name in files if re.fullmatch(r"lclip/mini/(train.*|pairing)\.py", name)]
    assert not [name for name in files if name.startswith("docs/") and not name.endswith(".md")]


def test_the_archive_is_small(tmp_path):
    assert write_archive(tmp_path / "pack.zip").stat().st_size < MEGABYTES << 20


def test_every_rule_leaves_something_out():
    """A rule that fits nothing is out of date."""
    rules = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    for rule in (rule for rule in rules if rule.strip() and not rule.startswith("#")):
        assert tracked_files("--cached", "--ignored", f"--exclude={rule}"), rule


def imported_modules(path: Path, name: str) -> set[str]:
    """Modules of the pack that a file imports anywhere, as paths without their ending."""
    found, package = set(), name.split("/")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            base = [part for part in base if part]
            found |= {"/".join([*base, alias.name]) for alias in node.names} | {"/".join(base)}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lclip"):
            base = (node.module or "").split(".")
            found |= {"/".join([*base, alias.name]) for alias in node.names} | {"/".join(base)}
    return found


def test_nothing_published_imports_what_is_left_out(files):
    left_out = {name.removesuffix(".py") for name in set(tracked_files()) - set(files)}
    for name in files:
        if name.endswith(".py"):
            missing = imported_modules(ROOT / name, name) & left_out
            assert not missing, f"{name} imports {missing}, which is not published"


def test_nothing_is_installed_beside_the_host(project):
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line.strip() and not line.startswith("#")]
    assert project["project"]["dependencies"] == []


def test_the_registrys_fields_are_filled_in(project):
    about, comfy = project["project"], project["tool"]["comfy"]
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,98}", about["name"])
    assert "comfyui" not in about["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", about["version"])
    assert len(about["description"]) > 40
    assert all(url.startswith("https://") for url in about["urls"].values())
    assert {"Repository", "Documentation", "Issues"} <= set(about["urls"])
    assert comfy["PublisherId"] and comfy["DisplayName"] == "Latent-CLIP"
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])
    systems = [line for line in about["classifiers"] if line.startswith("Operating System")]
    assert systems == ["Operating System :: OS Independent"]


@pytest.mark.parametrize(("entry", "size"), [("Icon", (400, 400)), ("Banner", (1680, 720))])
def test_icon_and_banner_are_where_the_registry_looks_for_them(project, entry, size):
    url = project["tool"]["comfy"][entry]
    place = project["project"]["urls"]["Repository"].replace("github.com", "raw.githubusercontent.com")
    assert url.startswith(f"{place}/main/")
    name = url.removeprefix(f"{place}/main/")
    assert name in tracked_files()
    with Image.open(ROOT / name) as image:
        assert image.size == size
    assert (ROOT / name).stat().st_size < 200_000


def test_one_version_everywhere(project):
    version = project["project"]["version"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version)}\b", changes, re.M)
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    for path in (ROOT / "workflows").glob("*.json"):
        own = [
            node["properties"]
            for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]
            if node["properties"].get("cnr_id") == project["project"]["name"]
        ]
        assert own and all(properties["ver"] == version for properties in own), path.name


def test_an_installed_library_is_complete(project):
    """Every module is in a package that is found, every data file is named."""
    setuptools = pytest.importorskip("setuptools")
    settings = project["tool"]["setuptools"]
    packages = setuptools.find_packages(str(ROOT), include=settings["packages"]["find"]["include"])
    data = {
        str(path.relative_to(ROOT).as_posix())
        for package, patterns in settings["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    for name in tracked_files("lclip"):
        if name.endswith(".py"):
            assert name.rpartition("/")[0].replace("/", ".") in packages, name
        else:
            assert name in data, f"{name} is in no package-data"


def test_citation_names_both_papers():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert "arXiv:2503.08455" in text and "arXiv:2406.04312" in text


def flow(name: str) -> dict:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))


def test_publishing_waits_for_the_tests():
    jobs = flow("publish.yml")["jobs"]
    assert jobs["tests"]["uses"] == "./.github/workflows/tests.yml"
    assert jobs["publish"]["needs"] == "tests"
    tests = flow("tests.yml")
    assert "workflow_call" in tests[True]  # YAML 1.1 reads "on" as true
    runs = [step.get("run", "") for job in tests["jobs"].values() for step in job["steps"]]
    assert any("tests/lib" in run for run in runs) and any("tests/host" in run for run in runs)


def test_only_a_tag_on_main_that_is_the_version_is_published(project):
    publish = flow("publish.yml")
    assert publish[True] == {"push": {"tags": ["v*"]}}
    runs = "\n".join(step.get("run", "") for step in publish["jobs"]["publish"]["steps"])
    for guard in ("merge-base --is-ancestor", "GITHUB_REPOSITORY", "release/archive.py --tag"):
        assert runs.index(guard) < runs.index("node publish")
    version = project["project"]["version"]
    builder().check_tag(f"v{version}")
    for tag in (version, f"v{version}.1", "v", "main"):
        with pytest.raises(ValueError, match="must be equal"):
            builder().check_tag(tag)


@pytest.mark.parametrize("name", ["tests.yml", "publish.yml"])
def test_actions_are_pinned_and_keep_no_credentials(name):
    for job in flow(name)["jobs"].values():
        for step in job.get("steps", ()):
            if "uses" in step:
                assert re.search(r"@[0-9a-f]{40}$", step["uses"]), step["uses"]
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_owner_and_publisher_are_named_in_one_place(project):
    """Others repeat what pyproject.toml says, and no file besides them names an owner."""
    repository = project["project"]["urls"]["Repository"]
    assert f"repository-code: {repository}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    owner = repository.removeprefix("https://github.com/")
    named = [
        name
        for name in tracked_files()
        if name.endswith((".md", ".toml", ".yml", ".cff", ".py", ".json", ".js"))
        and owner in (ROOT / name).read_text(encoding="utf-8")
    ]
    assert named == ["CITATION.cff", "pyproject.toml"]


LINK = re.compile(r"\]\(([^)#\s]+)|<img [^>]*src=\"([^\"]+)")


def test_no_link_in_the_archive_is_dead(tmp_path):
    """What a Markdown file of it leads to is in it, or in the repository."""
    with zipfile.ZipFile(write_archive(tmp_path / "pack.zip")) as archive:
        names = set(archive.namelist())
        folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
        for name in (name for name in names if name.endswith(".md")):
            for found in LINK.finditer(archive.read(name).decode()):
                target = found[1] or found[2]
                place = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
                assert re.match(r"https?:", target) or place in names | folders, f"{name}: {target}"


def test_its_documents_speak_of_no_command_that_only_the_repository_has(tmp_path):
    with zipfile.ZipFile(write_archive(tmp_path / "pack.zip")) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".md")}
    assert "CONTRIBUTING.md" not in texts
    of_the_makefile = re.findall(r"^(\w+): \$\(READY\)", (ROOT / "Makefile").read_text("utf-8"), re.M)
    words = [f"`make {target}" for target in of_the_makefile]
    words += ["python -m benchmarks", "lclip.mini.train", "tests/lib", "repository only"]
    del texts["CHANGELOG.md"]  # what became of the repository, too
    found = [f"{name}: {word}" for name, text in texts.items() for word in words if word in text]
    assert not found
    text = texts["README.md"]
    assert "python -m lclip" in text and "## Licence" in text


@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        ("README.md", "[a](docs/a.md)", "[a](docs/a.md)"),
        ("README.md", "[a](docs/a.md#part)", "[a](docs/a.md#part)"),
        ("README.md", "![a](docs/a.jpg)", "![a](R/docs/a.jpg)"),
        ("docs/a.md", "[a](../tests/b.py#L3)", "[a](R/tests/b.py#L3)"),
        ("docs/a.md", "[a](../README.md), [b](#part)", "[a](../README.md), [b](#part)"),
        ("docs/a.md", "[a](https://x.org/y)", "[a](https://x.org/y)"),
        ("docs/a.md", '<img width="3" src="a.jpg">', '<img width="3" src="R/docs/a.jpg">'),
        ("README.md", "[a](docs)", "[a](docs)"),
        ("README.md", "a\n<!-- repository only -->\nb\n<!-- end -->\nc", "a\nc"),
    ],
)
def test_links_lead_to_the_repository_where_the_archive_has_nothing(name, written, read):
    assert builder().as_published(name, written, {"README.md", "docs/a.md"}, "R") == read
