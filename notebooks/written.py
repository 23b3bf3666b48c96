"""Answers of the lessons that the embedded model is too small for, written for the lesson.

`record.py` plays them once, and the lessons replay what was recorded. A lesson's answers are a list,
in the order in which it asks, or a function of the request where several requests run at once.
"""

from __future__ import annotations

from aitoolman import ScriptedReply as Reply


def knows(lesson: str) -> bool:
    return lesson in _ANSWERS


def answers(lesson: str):
    return _ANSWERS[lesson]


STREAMING = [
    Reply(
        reasoning="Charged twice is our mistake, whatever came before. The customer wants to leave,"
        " so the money goes first and the talking later. Nothing may be sold in this mail.",
        text="Pay back one of the two 49 euros **today** and apologise without excuses. Close the"
        " account only if the customer still wants it after the money has arrived.",
    ),
    Reply(
        reasoning="Schools get 20 percent from thirty pieces on, but only with a letter.",
        text="Forty lamps are enough for the school discount of 20 percent. Ask for a letter with"
        " the stamp of the school, and offer delivery on one day.",
    ),
    "Yes. The Aurora gives 800 lumen, and reading needs about 500.",
    "<status>4711: broken on arrival, replaced by express</status>\n<customer>We are sorry that your"
    " lamp arrived in pieces. A new Aurora leaves our shop today by express, so you have it on"
    " Saturday. Please throw the broken one away.</customer>\n"
    '<result>{"action": "replace", "order": 4711}</result>',
    "<status>4718: faulty switch, refund as asked</status>\n<customer>We are sorry about the switch."
    " Your money is on its way back; the label for returning the lamp is in the next mail."
    '</customer>\n<result>{"action": "refund", "order": 4718}</result>',
]

STRUCTURED = [
    'Sure! Here is the order:\n```json\n{"customer": "Rosa Klein", "city": "Graz", "items": ['
    '\n  {"product": "Aurora lamp", "count": 2},\n  {"product": "E27 bulb", "count": 12},\n]}\n```\n'
    "Let me know if you need anything else.",
    '{"topic": "delivery", "urgency": "3", "order": 4711}',
    '{"topic": "noise", "urgency": 1, "order": null}',
    '{"topic": "noise", "urgency": 1, "order": null}',
    '{"topic": "defect", "urgency": 1, "order": null}',
    "<response>\n<summary>The invoice page is ready & goes live on Friday, but the French texts are"
    ' late. The budget ("< 2,000 euros") was not discussed.</summary>\n<todo>Anna puts the invoice'
    " page live on Friday</todo>\n<todo>Ben calls the translator today</todo>\n<todo>Carla writes to"
    " the customers when both are done</todo>\n</response>",
]


def _task(day: str, hours: float, what: str) -> dict:
    return {"name": "add_task", "arguments": {"day": day, "hours": hours, "what": what}}


TOOLS = [
    "On which day does the fair begin, and what do you want to show there?",
    Reply(
        tool_calls=[
            _task("2026-05-04", 4, "write and print the leaflets"),
            _task("2026-05-05", 3, "build two Aurora lamps for the stand"),
            _task("2026-05-06", 2, "pack and load the car"),
        ]
    ),
    Reply(tool_calls=[_task("2026-05-05", 4, "write and print the leaflets")]),
    "All set for Thursday: on Tuesday you build the two lamps and print the leaflets, on Wednesday you"
    " pack and load the car. Monday was too full for the leaflets, so Tuesday is a long day.",
]


def sequence(request):
    """By the message: which tool, and then a letter."""
    text = request.messages[-1].content or ""
    if "Norway" in text and "<message>" in text:
        return Reply(
            tool_calls=[
                {"name": "reply", "arguments": {"facts": "we ship to Norway, it takes five days"}}
            ]
        )
    if "4711" in text and "<message>" in text:
        return Reply(tool_calls=[{"name": "refund", "arguments": {"order": 4711, "amount": 49}}])
    if "4720" in text:
        return Reply(tool_calls=[{"name": "refund", "arguments": {"order": 4720, "amount": 380}}])
    if "Norway" in text:
        return "Hello, yes, we ship to Norway. It takes five days."
    if "warm" in text:
        return (
            "Dear customer, how annoying to unpack a broken lamp! We are truly sorry. Your 49 euros"
            " for order 4711 are already on their way back to you. Dora from the lamp shop"
        )
    return "Hello, we are sorry. 49 euros for order 4711 are on their way back."


def dag(request):
    """By the prompt, since the regions ask at the same time."""
    text = request.messages[-1].content or ""
    if "region North" in text:
        return "Aurora carries the region with 22 % more sales, and hardly anything comes back."
    if "region South" in text:
        return "Aurora lost 19 %, and its 14 returns say that something is wrong with the lamps."
    if "region West" in text:
        return "Aurora grew by 60 %, the most of all, with only 2 returns."
    return (
        "## Verkäufe des Quartals\n\n| Region | Umsatz | |\n| --- | ---: | --- |\n"
        "| Norden | 23.300 | Aurora trägt die Region mit 22 % mehr Umsatz, und kaum etwas kommt"
        " zurück. |\n"
        "| Süden | 14.200 | Aurora hat 19 % verloren, und die 14 Rücksendungen sagen, dass mit den"
        " Lampen etwas nicht stimmt. |\n"
        "| Westen | 9.500 | Aurora ist um 60 % gewachsen, am meisten von allen, bei nur 2"
        " Rücksendungen. |"
    )


_ANSWERS = {"03": STREAMING, "04": STRUCTURED, "05": TOOLS, "06": sequence, "07": dag}
