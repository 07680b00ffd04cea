"""The function framework: write a function, get its HTTP server or its topic consumer.

    from ofevents.function import Context, Event, Function

    function = Function("charge")

    @function.on_http()
    def charge(event: Event) -> dict[str, object]:
        return {"charged": event.value["amount"]}

    @function.on_topic("payments")
    async def book(event: Event, context: Context) -> None:
        await context.send("booked", {"payment": event.id})

    if __name__ == "__main__":
        function.run(port=8090)

Plain `def` functions run in a thread and may block; a function that sends is
`async def`. Raising is the refusal: `Rejected` for an event that will never do,
anything else for "try again".
"""

from ofevents.errors import Rejected, Unavailable
from ofevents.event import Event
from ofevents.function.app import Function
from ofevents.function.call import Context

__all__ = ["Context", "Event", "Function", "Rejected", "Unavailable"]
