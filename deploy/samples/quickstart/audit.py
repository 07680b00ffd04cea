"""An async function: it reads the topic `audit` at its own pace.

Stop it, send orders, start it again: it goes on where it was.
"""

from ofevents.function import Event, Function

function = Function("audit")


@function.on_topic("audit")
async def audit(event: Event) -> None:
    print(f"{event.type} {event.id}: {event.value}")


if __name__ == "__main__":
    function.run()
