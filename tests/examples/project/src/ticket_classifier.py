"""LLM as a function: batch ticket classification (specification 8.3)."""

import asyncio

import aitoolman
from processors import parse_classification


async def process_ticket(app_factory, ticket):
    """Process single ticket"""
    app = app_factory()
    result = await app['ticket_classifier'](
        ticket_content=ticket['content'],
        ticket_type=ticket['type']
    )
    result.raise_for_status()
    return {
        "ticket_id": ticket['id'],
        "category": result.data['main'],
        "sub_category": result.data['sub']
    }


async def main():
    # Load configurations
    api_config = aitoolman.load_config("config/llm_config.toml")
    prompt_config = aitoolman.load_config("config/app_prompt.toml")

    # Create application factory
    async with aitoolman.LLMLocalClient(api_config) as client:
        app_factory = aitoolman.LLMApplication.factory(
            client=client,
            config_dict=prompt_config,
            processors={
                "classify": parse_classification
            }
        )

        # Simulate batch tickets
        tickets = [
            {"id": "1", "type": "Technical Support", "content": "System login failed"},
            {"id": "2", "type": "Business Inquiry", "content": "How to apply for invoice"},
            # More tickets...
        ]

        # Parallel processing
        async with asyncio.TaskGroup() as tg:
            tasks = [tg.create_task(process_ticket(app_factory, t)) for t in tickets]

        # Collect results
        results = [t.result() for t in tasks]
        for res in results:
            print(f"Ticket {res['ticket_id']}: {res['category']} > {res['sub_category']}")


if __name__ == "__main__":
    asyncio.run(main())
