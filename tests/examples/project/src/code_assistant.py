"""Simple Q&A: a code assistant (specification 8.2)."""

import asyncio

import aitoolman
from processors import extract_code


async def main():
    # Load configurations
    api_config = aitoolman.load_config("config/llm_config.toml")
    prompt_config = aitoolman.load_config("config/app_prompt.toml")

    # Create client and application
    async with aitoolman.LLMLocalClient(api_config) as client:
        app = aitoolman.LLMApplication(client, prompt_config)
        app.add_processor("extract_code", extract_code)

        # Monitor output channels
        collector = aitoolman.DefaultTextChannelCollector({
            'Reasoning Process': app.channels['reasoning'],
            'Code Output': app.channels['stdout']
        })
        output_task = asyncio.create_task(collector.start_listening())

        # Call code editor module
        with open("app.py") as code, open("utils.py") as utils:
            result = await app['code_editor'](
                code_content=code.read(),
                instruction="Add error handling logic",
                references=[{"filename": "utils.py", "content": utils.read()}]
            )
        result.raise_for_status()

        # Save results
        with open("app_modified.py", "w") as f:
            f.write(result.data)

        collector.close()
        await output_task


if __name__ == "__main__":
    asyncio.run(main())
