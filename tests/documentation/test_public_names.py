"""Claim: what one module uses of another stands in that one's `__all__`: a reader sees there what others rely on."""

from __future__ import annotations

import ast

from documentation.pages import PROJECT

PACKAGES = (PROJECT / "criimage", *(PROJECT / "backends").glob("criimage_*"))
GENERATED = PROJECT / "criimage" / "cri"


def modules() -> dict[str, ast.Module]:
    """Every module that is written by hand, by its name."""
    found = {}
    for package in PACKAGES:
        root = package.parent
        for file in package.rglob("*.py"):
            if not file.is_relative_to(GENERATED):
                parts = file.relative_to(root).with_suffix("").parts
                found[".".join(parts).removesuffix(".__init__")] = ast.parse(file.read_text("utf-8"))
    return found


def named(module: ast.Module) -> set[str] | None:
    """What `__all__` names; None where a module has none."""
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return None


def test_what_others_use_is_named() -> None:
    """Modules that are used are no names of their package; a module without `__all__` offers whatever is public."""
    found = modules()
    offered = {name: names for name, module in found.items() if (names := named(module)) is not None}
    unnamed = {
        f"{node.module}.{alias.name}"
        for module in found.values()
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module in offered
        for alias in node.names
        if alias.name not in offered[node.module] and f"{node.module}.{alias.name}" not in found
    }
    assert len(offered) > 200
    assert unnamed == set()


def test_every_package_is_typed() -> None:
    """PEP 561: type checkers of those who use it look at its annotations only beside this file."""
    assert [str(package) for package in PACKAGES if not (package / "py.typed").is_file()] == []
