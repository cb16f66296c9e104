"""``edgemesh doctor``: what is wrong, and how to mend it."""

from __future__ import annotations

import click

from edgemesh.cli.output import json_option, print_json
from edgemesh.cli.settings import Settings
from edgemesh.observe.printable import printable


@click.command()
@json_option
@click.pass_obj
def doctor(settings: Settings, as_json: bool) -> int:
    """Check this installation, the broker and the mesh, and say how to mend what is wrong.

    Exit status 1 when something is wrong; notes are about what you may not need.
    """
    from edgemesh.node.diagnosis import diagnosis

    findings = diagnosis(settings.mesh, settings.address)
    wrong = sum(finding.verdict == "wrong" for finding in findings)
    if as_json:
        print_json({"findings": findings, "wrong": wrong})
        return 1 if wrong else 0
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        click.echo(printable(f"{finding.verdict:<5}  {finding.check:<{width}}  {finding.found}"))
        if finding.mend and finding.verdict != "ok":
            click.echo(printable(f"{'':<5}  {'':<{width}}  -> {finding.mend}"))
    click.echo(f"{wrong} wrong" if wrong else "nothing is wrong")
    return 1 if wrong else 0
