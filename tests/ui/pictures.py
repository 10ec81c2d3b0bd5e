"""Pictures of the page for the documentation: `make pictures`."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from world import ROOT, browser, go, page_of, pretend, world

#: View, width, scheme.
WANTED = [("Services", 1280, "light"), ("Services", 1280, "dark"), ("Services", 400, "light"), ("Logs", 1280, "dark"), ("Logs", 400, "dark"), ("Data", 1280, "light"), ("Traces", 1280, "light"),
          ("Chaos", 1280, "dark"), ("Metrics", 2560, "light")]


def main(into=ROOT / "docs/pictures"):
    into.mkdir(parents=True, exist_ok=True)
    with browser() as it, world() as here:
        for view, width, scheme in WANTED:
            with page_of(here, it, color_scheme=scheme) as page:
                pretend(page, "ledger")
                page.set_viewport_size({"width": width, "height": 1440 if width > 2000 else 720})
                go(page, view)
                if view == "Data":
                    page.get_by_text("item", exact=True).first.click()
                if view == "Traces":
                    page.get_by_text("POST /pay").first.click()
                page.wait_for_timeout(7000 if view == "Metrics" else 1500)
                page.screenshot(path=into / f"{view.lower()}-{width}-{scheme}.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
