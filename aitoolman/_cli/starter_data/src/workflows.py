"""Steps that follow one another: the program decides which, by what the model answered."""

import aitoolman


class ClassifyTicket(aitoolman.LLMTask):
    """Ask for the label; billing goes to a person, the rest gets a draft."""

    def __init__(self, text: str) -> None:
        super().__init__(aitoolman.LLMModuleRequest("ticket_classifier", {"text": text}))

    async def post_process(self, module_result: aitoolman.LLMModuleResult) -> None:
        text = module_result.request_params["text"]
        if module_result.data == "billing":
            self.next_task = HandToPerson({"text": text})
        else:
            self.next_task = DraftReply(text)


class DraftReply(aitoolman.LLMTask):
    """Ask for a reply; it streams to the application's stdout channel."""

    def __init__(self, text: str) -> None:
        super().__init__(aitoolman.LLMModuleRequest("reply", {"text": text}))


class HandToPerson(aitoolman.Task):
    """No model is asked about money."""

    async def run(self, text: str) -> str:
        return f"for a person: {text}"
