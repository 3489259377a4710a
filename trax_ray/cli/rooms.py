"""Commands of the table of options: flags that may stand alone, and a help in rooms.

More than thirty options in one list nobody reads.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from trax_ray.plan.options import OPTIONS, ROOMS

__all__ = ["OptionsCommand", "RoomedCommand"]


class OptionsCommand(TyperCommand):
    """Knows flags that may stand alone: their values come after a `=` only, so that an INPUT after one is no value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give flags that stand alone the value that they mean."""
        bare = {flag: each.bare for each in OPTIONS if each.bare for flag in each.flags}
        end = args.index("--") if "--" in args else len(args)
        given = [f"{arg}={bare[arg]}" if arg in bare else arg for arg in args[:end]]
        return super().parse_args(ctx, given + args[end:])


class RoomedCommand(OptionsCommand):
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
