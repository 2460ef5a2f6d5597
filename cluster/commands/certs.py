"""``outrider certs``: certificates for the connections between a cluster's processes."""

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.terminal import console, errors_as_sentences


def certs(
    folder: Annotated[Path, typer.Argument(help="Where the files go; an authority that is there already is used.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the certificates hold.")] = 365,
) -> None:
    """Make an authority and a certificate for each role, or new certificates from the authority that is there."""
    from cluster.certificates import Authority  # a library that no other command needs
    from workers.rpc.roles import PeerRole

    with errors_as_sentences():
        authority = Authority(folder)
        for role in PeerRole:
            authority.sign(role, [role], days)
    place = folder.absolute()
    console.print(
        f"Certificates for {', '.join(PeerRole)} are in {place}. On each machine put ca.crt and the two files of the\n"
        "role that it has, keep ca.key away from all of them, and add to the settings:\n\n"
        f"tls:\n  certificate: {place}/{{role}}.crt\n  key: {place}/{{role}}.key\n  authority: {place}/ca.crt",
        markup=False,
        soft_wrap=True,
    )
