"""Write what is generated from the models: `crds/` and `docs/resources.md`. With `--check`, say what differs instead."""

import sys
from pathlib import Path

from moorage_operator.crds import build_crds, render_crd
from moorage_operator.reference import build_reference

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    wished = {ROOT / "crds" / name: render_crd(crd) for name, crd in build_crds().items()}
    wished[ROOT / "docs" / "resources.md"] = build_reference()
    present = {path: path.read_text() if path.exists() else None for path in wished}
    stale = [path for path, text in wished.items() if present[path] != text]
    unknown = sorted(set((ROOT / "crds").glob("*.yaml")) - wished.keys())
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
