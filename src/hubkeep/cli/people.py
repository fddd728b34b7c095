"""``hubkeep login``, ``logout``, ``whoami``: people who sign in, in place of a connection string."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from .client import TRUST_BUNDLE_VARIABLE, HubClient, HubPlace, find_hub, place_of_login
from .failure import CommandFailure
from .options import DEFAULT_DATA, ConnectionStringOption, DataOption, JsonOption, client_of
from .output import err, print_fields, print_json, print_plain
from .sign_in import Login, answers, ask_code, forget_login, signed_in, store_login


def login(
    hub: Annotated[
        str,
        typer.Argument(metavar="[HUB]", help="The hub's name, with its port if that is not 443; else that of --data."),
    ] = "",
    trust_bundle: Annotated[
        Path | None, typer.Option(help="The hub's root certificates.", envvar=TRUST_BUNDLE_VARIABLE)
    ] = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Sign in: open the address that is printed, anywhere, and enter the code. Commands then act as you.

    For the hub that you sign in to, and wherever no hub is found by --data; a connection string is stronger.
    """
    wanted = _wanted(hub, trust_bundle, data)
    place = place_of_login(wanted)
    with HubClient(place) as client:
        provider = client.get_openly("/api/sign-in")
    if not provider["clientId"]:
        raise CommandFailure("the hub names no client to sign in by", "its setting people.client_id")
    code = ask_code(provider)
    err.print(f"Open {code.url} and enter {code.user_code}", markup=False)
    if code.whole_url:
        err.print(f"or   {code.whole_url}", markup=False)
    answer = next(each for each in answers(provider, code) if each is not None)
    done = signed_in(wanted._replace(provider=provider), answer)
    with HubClient(place_of_login(done)) as client:
        me = client.get("/api/self")
    store_login(done)
    if as_json:
        print_json(me)
    else:
        print_plain(f"signed in to {done.hub} as {_name(me)}: {_roles(me)}")


def logout(as_json: JsonOption = False) -> None:
    """Forget who signed in. The provider's own session goes on."""
    was_there = forget_login()
    if as_json:
        print_json({"signed_out": was_there})
    else:
        print_plain("signed out" if was_there else "nobody was signed in")


def whoami(
    data: DataOption = DEFAULT_DATA, connection_string: ConnectionStringOption = None, as_json: JsonOption = False
) -> None:
    """As whom commands ask the hub, and what they may."""
    with client_of(data, connection_string) as client:
        me, host = client.get("/api/self"), client.place.host
    if as_json:
        print_json(me)
        return
    print_fields(
        {
            "hub": host,
            me["kind"]: _name(me),
            "issuer": me["issuer"],
            "permissions": me["permissions"],
            "limited to": me["scope"],
            "roles": _roles(me) if me["kind"] == "person" else "",
            "until": (me["expires"] or "")[:19].replace("T", " "),
        }
    )


def _wanted(hub: str, trust_bundle: Path | None, data: Path) -> Login:
    """Where to sign in."""
    if hub:
        bundle = str(trust_bundle.resolve()) if trust_bundle else os.environ.get(TRUST_BUNDLE_VARIABLE, "")
        return Login(hub, "", bundle, {}, "", "", 0.0)
    place: HubPlace = find_hub(data, None)
    port = place.port("https")
    name = place.host if port == 443 else f"{place.host}:{port}"
    bundle = str((trust_bundle or place.trust_bundle or Path()).resolve()) if trust_bundle or place.trust_bundle else ""
    return Login(name, place.address, bundle, {}, "", "", 0.0)


def _name(me: Any) -> str:
    name, subject = me["name"], me["subject"]
    return name if subject in {None, name} else f"{name} ({subject})"


def _roles(me: Any) -> str:
    told = [each["role"] + (f" where {each['devices']}" if each["devices"] else "") for each in me["roles"]]
    return ", ".join(told) or "no role here: an administrator gives one with hubkeep access role assign"
