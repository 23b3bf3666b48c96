"""A sequence with decisions (specification 8.6; `self.input_data.template_params` is meant)."""

import asyncio
import aitoolman

class ContentSubmitTask(aitoolman.LLMTask):
    def __init__(self, input_data):
        super().__init__(
            aitoolman.LLMModuleRequest(
                module_name="content_validator",
                template_params=input_data
            )
        )

    async def post_process(self, module_result):
        # Determine next step based on verification results
        if module_result.data['status'] == "valid":
            self.next_task = AIAuditTask({
                "content": self.input_data.template_params['content']
            })
        else:
            self.next_task = RejectionTask({
                "reason": module_result.data['reason']
            })

class AIAuditTask(aitoolman.LLMTask):
    def __init__(self, input_data):
        super().__init__(
            aitoolman.LLMModuleRequest(
                module_name="content_auditor",
                template_params=input_data
            )
        )

    async def post_process(self, module_result):
        if module_result.data['risk_level'] <= 1:
            self.next_task = PublishTask({
                "content": self.input_data.template_params['content']
            })
        else:
            self.next_task = ManualReviewTask({
                "content": self.input_data.template_params['content'],
                "risk": module_result.data['risk_details']
            })

class ManualReviewTask(aitoolman.LLMTask):
    def __init__(self, input_data):
        super().__init__(
            aitoolman.LLMModuleRequest(
                module_name="review_coordinator",
                template_params=input_data
            )
        )

    async def post_process(self, module_result):
        if module_result.data['approved']:
            self.next_task = PublishTask({
                "content": self.input_data.template_params['content']
            })
        else:
            self.next_task = RevisionTask({
                "content": self.input_data.template_params['content'],
                "feedback": module_result.data['feedback']
            })

class PublishTask(aitoolman.Task):
    async def run(self, content):
        # Simulate publishing operation
        return {"status": "published", "content": content}

class RevisionTask(aitoolman.Task):
    async def run(self, content, feedback):
        # Simulate returning revision suggestions
        return {"status": "revision_needed", "feedback": feedback}

class RejectionTask(aitoolman.Task):
    async def run(self, reason):
        # Simulate rejection operation
        return {"status": "rejected", "reason": reason}

# Run workflow
async def main():
    # Initialize workflow
    api_config = aitoolman.load_config("config/llm_config.toml")
    prompt_config = aitoolman.load_config("config/app_prompt.toml")

    async with aitoolman.LLMLocalClient(api_config) as client:
        workflow = aitoolman.LLMWorkflow(client, prompt_config)

        # Start workflow
        start_task = ContentSubmitTask({
            "content": "Article content to be published...",
            "type": "article"
        })
        final_task = await workflow.run(start_task)

        print(f"Process completed, final status: {final_task.task_name}")
        print(f"Result: {final_task.output_data}")

if __name__ == "__main__":
    asyncio.run(main())
