"""``python -m tools.pages``: writes the generated parts of ``docs/``."""

from __future__ import annotations

from tools.pages import outdated
from tools.pages.markdown import ROOT

for path, text in outdated():
    path.write_text(text, encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}")
