"""Tasks in two ways, and a branch decided by a tool call (specification 3.2.4)."""

import asyncio

import aitoolman


# Method 1: Inherit Task and override run method
class SimpleTask(aitoolman.Task):
    async def run(self, x, y):
        return x + y

# Method 2: Use set_func to specify function
def simple_func(x, y):
    return x + y

task = aitoolman.Task({"x":1, "y":2})
task.set_func(simple_func)


# Define LLM task class
class TranslationTask(aitoolman.LLMTask):
    async def post_process(self, module_result):
        # Determine next step based on tool call
        self.on_tool_call_goto(
            refine=RefinementTask,
            finalize=FinalizationTask
        )


class RefinementTask(aitoolman.LLMTask):
    def __init__(self):
        super().__init__(aitoolman.LLMModuleRequest("refiner", {}))


class FinalizationTask(aitoolman.Task):
    async def run(self, translation):
        return translation


async def main():
    api_config = aitoolman.load_config("config/llm_config.toml")
    config = aitoolman.load_config("config/app_prompt.toml")
    async with aitoolman.LLMLocalClient(api_config) as client:
        # Run workflow
        workflow = aitoolman.LLMWorkflow(client, config)
        start_task = TranslationTask(
            aitoolman.LLMModuleRequest(
                module_name="translator",
                template_params={"text": "Hello"}
            )
        )
        final_task = await workflow.run(start_task)
        print(final_task.task_name, final_task.output_data)

        await workflow.wait_tasks(SimpleTask({"x": 1, "y": 2}), task)
        print(task.output_data)


if __name__ == "__main__":
    asyncio.run(main())
