"""What a comparison shows at a glance: loss against tokens, bytes and seconds, as a picture or a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokenry.core.errors import InvalidValue
from tokenry.core.saving import whole_file, write_text

if TYPE_CHECKING:
    from tokenry.pipeline.compare import Arm

KINDS = (".html", ".png", ".svg")


def write(arms: Sequence[Arm], file: Path) -> None:
    """Draw the arms to a page or a picture, by the ending of `file`; whole or not at all.

    Raises:
        InvalidValue: another ending.
    """
    check(file)
    if file.suffix == ".html":
        from tokenry.report.compare.page import compare_page

        write_text(file, compare_page(arms))
        return
    from tokenry.report.compare.picture import picture

    with whole_file(file) as draft:
        picture(arms).savefig(draft, format=file.suffix[1:], dpi=160)


def check(file: Path) -> None:
    """Refuse an ending that stands for no kind of picture."""
    if file.suffix not in KINDS:
        raise InvalidValue(f"plot: must end in {', '.join(KINDS)}; got {str(file)!r}.")
