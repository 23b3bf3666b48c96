"""Classify some tickets at once, then follow one of them through a workflow."""

import asyncio
from pathlib import Path

from processors import ticket_label
from workflows import ClassifyTicket

import aitoolman

CONFIG = Path(__file__).resolve().parent.parent / "config"
TICKETS = [
    "I was charged twice this month, please refund one payment.",
    "The app closes by itself when I open the settings.",
    "My password is not accepted any more.",
    "Do you have a version for tablets?",
]


async def main() -> None:
    prompts = aitoolman.load_config(CONFIG / "app_prompt.toml")
    processors = {"ticket_label": ticket_label}
    async with aitoolman.connect(CONFIG / "llm_config.toml") as client:
        make_app = aitoolman.LLMApplication.factory(client, prompts, processors)

        async def classify(text: str) -> str:
            result = await make_app()["ticket_classifier"](text=text)
            result.raise_for_status()
            return f"{result.data:<10} {text}"

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(classify(text)) for text in TICKETS]
        for task in tasks:
            print(task.result())

        workflow = aitoolman.LLMWorkflow(client, prompts, processors)
        print()
        async with aitoolman.show({"reply": workflow.channels["stdout"]}):
            last = await workflow.run(ClassifyTicket(TICKETS[1]))
        print(f"\nThe workflow ended with {last.task_name}.")


if __name__ == "__main__":
    asyncio.run(main())
