"""``razor webhooks``: who else is told about jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.console import note, say, table
from cli.examples import epilog
from cli.options import DEFAULT_URL, Json, Url, connect

if TYPE_CHECKING:
    from api_schemas.webhooks import DeliveryView, WebhookView

commands = typer.Typer(no_args_is_help=True, help="Have other systems told about jobs.")

Webhook = Annotated[
    str, typer.Argument(help="The webhook's id, as `razor webhooks list` shows it.")
]


@commands.command("add", epilog=epilog("webhooks add"))
def add(
    address: Annotated[str, typer.Argument(help="A public https address.")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="A type such as job.succeeded; every type when left out."),
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Add a webhook and print its secret, this once.

    What arrives is checked with any Standard Webhooks library and that secret.
    """
    from api_schemas.webhooks import WebhookInput

    wanted = WebhookInput.model_validate({"url": address, "events": event or None})
    with connect(url) as client:
        made = client.add_webhook(wanted.url, wanted.events)
    if json:
        say(made.model_dump_json(indent=2))
        return
    say(made.webhook.id)
    say(made.secret)
    note("keep the secret: it is not shown again")


@commands.command("list", epilog=epilog("webhooks list"))
def show_all(json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Show the webhooks of your tenant."""
    with connect(url) as client:
        found = client.webhooks()
    if json:
        say(found.model_dump_json(indent=2))
        return
    table(("webhook", "state", "events", "address"), [_row(one) for one in found.items])


@commands.command("remove", epilog=epilog("webhooks remove"))
def remove(webhook: Webhook, url: Url = DEFAULT_URL) -> None:
    """Remove a webhook, with the messages that wait for it and its delivery log."""
    with connect(url) as client:
        client.remove_webhook(webhook)
    say(f"{webhook}  removed")


@commands.command("deliveries", epilog=epilog("webhooks deliveries"))
def deliveries(
    webhook: Webhook,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="How many at most.")] = 20,
    json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show a webhook's latest messages and what became of them."""
    with connect(url) as client:
        found = client.deliveries(webhook, limit=limit)
    if json:
        say(found.model_dump_json(indent=2))
        return
    headers = ("delivery", "type", "state", "attempts", "last answer", "next attempt (UTC)")
    table(headers, [_delivery(one) for one in found.items])


@commands.command("replay", epilog=epilog("webhooks replay"))
def replay(
    webhook: Webhook,
    delivery: Annotated[str, typer.Argument(help="The delivery's id.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Send a message again, whatever became of it; its schedule of attempts starts anew."""
    with connect(url) as client:
        say("  ".join(_delivery(client.replay_delivery(webhook, delivery))))


def _row(one: WebhookView) -> tuple[str, ...]:
    reason = one.disabled_reason
    state = "enabled" if reason is None else f"disabled ({reason.value})"
    events = "all" if one.events is None else " ".join(kind.value for kind in one.events)
    return one.id, state, events, one.url


def _delivery(one: DeliveryView) -> tuple[str, ...]:
    last = one.attempts[-1] if one.attempts else None
    answer = "-"
    if last is not None:
        answer = last.failure.value if last.failure is not None else str(last.status_code)
    following = f"{one.next_attempt_at:%Y-%m-%d %H:%M:%S}" if one.next_attempt_at else "-"
    return one.id, one.type, one.status.value, str(len(one.attempts)), answer, following
