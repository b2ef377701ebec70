"""Write what is generated: `crds/`, the same as a chart, `docs/resources.md`, and the operator's rights for the chart.

With `--check`, say what differs instead.
"""

import sys
from pathlib import Path

import yaml

from moorage_operator.crds import build_crds, render_crd
from moorage_operator.rbac import build_rules
from moorage_operator.reference import build_reference

ROOT = Path(__file__).resolve().parent.parent
CRDS = ROOT / "crds"
CHART = ROOT / "charts" / "moorage-crds" / "templates"
RIGHTS = ROOT / "charts" / "moorage" / "files" / "rbac.yaml"


def build_chart_template(name: str, crd: str) -> str:
    """The definition as a part of a release that Helm upgrades and never deletes: with it would go every store."""
    if "{{" in crd:
        raise ValueError(f"{name} would be read as a template")
    keep = "  annotations:\n    helm.sh/resource-policy: keep\n"
    return crd.replace("\nmetadata:\n", f"\nmetadata:\n{keep}", 1)


def build_rights() -> str:
    """The operator's roles as the chart reads them."""
    head = "# Generated from operator/moorage_operator/rbac.py by `make crds`; changes by hand are lost.\n"
    return head + yaml.safe_dump(build_rules(), sort_keys=False, width=1000)


def main(arguments: list[str]) -> int:
    crds = {name: render_crd(crd) for name, crd in build_crds().items()}
    wished = {CRDS / name: crd for name, crd in crds.items()}
    wished |= {CHART / name: build_chart_template(name, crd) for name, crd in crds.items()}
    wished[ROOT / "docs" / "resources.md"] = build_reference()
    wished[RIGHTS] = build_rights()
    present = {path: path.read_text() if path.exists() else None for path in wished}
    stale = [path for path, text in wished.items() if present[path] != text]
    unknown = sorted({*CRDS.glob("*.yaml"), *CHART.glob("*.yaml")} - wished.keys())
    if "--check" in arguments:
        for path in (*stale, *unknown):
            print(f"{path.relative_to(ROOT)} is not what the models say; run `make crds`")
        return 1 if stale or unknown else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(wished[path])
    for path in unknown:
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
