"""One handler for each kind of failure (specification 10.3)."""

import asyncio

import aitoolman
from aitoolman import LLMApiRequestError, LLMLengthLimitError, LLMResponseFormatError


async def judge(app, review):
    try:
        result = await app['verdict'](review=review)
        result.raise_for_status()  # Check completion status
        processed_data = result.data
    except LLMLengthLimitError as e:
        # Handle length limit: process in segments or switch models
        return f"too long, cut after {e.result.response_text!r}"
    except LLMApiRequestError as e:
        # API error: retry or directly report error
        return f"not answered: {e}"
    except LLMResponseFormatError as e:
        # Response format error: retry or adjust prompt
        return f"not understood: {e}"
    return processed_data


async def main():
    api_config = aitoolman.load_config("config/llm_config.toml")
    prompt_config = aitoolman.load_config("config/app_prompt.toml")
    async with aitoolman.LLMLocalClient(api_config) as client:
        app = aitoolman.LLMApplication(client, prompt_config)
        for review in ("lovely", "endless", "refused", "rambling"):
            print(review, "->", await judge(app, review))


if __name__ == "__main__":
    asyncio.run(main())
