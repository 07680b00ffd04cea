"""A function called over HTTP: the Trigger posts each large order to it.

Returning is the acknowledgement. Raise Rejected for an order that can never be
charged (it becomes a dead letter), anything else for "try again later".
"""

from ofevents.function import Event, Function, Rejected

function = Function("charge")


@function.on_http()
def charge(event: Event) -> dict[str, object]:
    amount = event.value["amount"]
    if amount > 1_000_000:
        raise Rejected(f"nobody pays {amount}")
    print(f"charged {amount} for order {event.id}")
    return {"charged": amount}


if __name__ == "__main__":
    function.run(port=8090)
