"""`trax-ray batch --help` with its options in the rooms of their table: more than thirty in one list nobody reads."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from trax_ray.plan.options import ROOMS

__all__ = ["RoomedCommand"]


class RoomedCommand(TyperCommand):
    """A command whose help shows options by what they are about."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section per room, and one for what is in none."""
        records = {each.name: each.get_help_record(ctx) for each in self.get_params(ctx)}
        for title, options in ROOMS.items():
            shown = [records.pop(each.key) for each in options if each.key in records]
            with formatter.section(title):
                formatter.write_dl([record for record in shown if record is not None])
        left = [record for record in records.values() if record is not None]
        if left:
            with formatter.section("Other"):
                formatter.write_dl(left)
