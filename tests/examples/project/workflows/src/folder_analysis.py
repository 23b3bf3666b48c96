"""A dynamic DAG: folders add tasks for what they find (written from specification 8.5)."""

import asyncio
import sys
from collections import Counter
from pathlib import Path

import aitoolman


class ReadTask(aitoolman.Task):
    """The text of a file."""

    def run(self, path):
        return {"name": path.name, "content": path.read_text(encoding="utf-8")}


class AnalyzeTask(aitoolman.LLMTask):
    """What a file is about, and of which kind it is."""

    def __init__(self):
        # The template's variables come from the ReadTask before it.
        super().__init__(aitoolman.LLMModuleRequest("file_analyzer", {}))


class FolderTask(aitoolman.Task):
    """Everything in a folder: files are analyzed, folders are folders again."""

    async def run(self, path):
        files, folders = [], []
        for item in sorted(path.iterdir()):
            if item.is_dir():
                folders.append(FolderTask({"path": item}))
            elif item.suffix == ".txt":
                analysis = AnalyzeTask()
                self.workflow.add_task(ReadTask({"path": item}), analysis)
                files.append(analysis)
        await self.workflow.wait_tasks(*files, *folders)

        kinds = Counter(file.output_data["kind"] for file in files)
        parts = [file.output_data["summary"] for file in files]
        for folder in folders:
            kinds += folder.output_data["kinds"]
            parts.append(folder.output_data["summary"])
        result = await self.workflow["folder_summarizer"](folder=path.name, parts=parts)
        result.raise_for_status()
        return {"summary": result.data, "kinds": kinds}


async def main(folder):
    prompts = aitoolman.load_config("config/app_prompt.toml")
    # With a ledger, what was answered is not asked again when the program is run again.
    async with aitoolman.connect("config/llm_config.toml", ledger="read_write") as client:
        workflow = aitoolman.LLMWorkflow(client, prompts, max_parallel_tasks=16)
        root = FolderTask({"path": Path(folder)})
        await workflow.wait_tasks(root)
        print(root.output_data["summary"])
        for kind, count in sorted(root.output_data["kinds"].items()):
            print(kind, count)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
