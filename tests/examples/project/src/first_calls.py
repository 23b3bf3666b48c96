"""Two ways to call (specification 3.1.4)."""

import asyncio

import aitoolman
from aitoolman import LLMDirectRequest, Message


async def main():
    api_config = aitoolman.load_config("config/llm_config.toml")
    prompt_config = aitoolman.load_config("config/app_prompt.toml")
    async with aitoolman.LLMLocalClient(api_config) as client:
        app = aitoolman.LLMApplication(client, prompt_config)

        # Method 1: Call via module
        result = await app['translator'](text="Hello", target_lang="zh")
        print(result.data)  # Post-processed translation result

        # Method 2: Direct call
        direct_request = LLMDirectRequest(
            model_name="gpt-4",
            messages=[Message(role="user", content="Hello")],
            stream=True
        )
        result = await app.call(direct_request)
        print(result.data)


if __name__ == "__main__":
    asyncio.run(main())
