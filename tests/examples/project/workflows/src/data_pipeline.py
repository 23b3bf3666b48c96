"""A static DAG, as printed (specification 8.4)."""

import asyncio
import aitoolman

# Define task classes
class DataFetchTask(aitoolman.Task):
    async def run(self, query):
        # Simulate data fetching
        return {"sales_data": [100, 200, 300]}

class DataAnalysisTask(aitoolman.Task):
    async def run(self, sales_data):
        # Simulate data analysis
        return {
            "total": sum(sales_data),
            "average": sum(sales_data)/len(sales_data)
        }

class ReportGenerationTask(aitoolman.Task):
    async def run(self, format, analysis_result):
        # Simulate report generation
        if format == "markdown":
            return f"""
# Sales Data Analysis Report
- Total Sales: {analysis_result['total']}
- Average Sales: {analysis_result['average']}
"""
        return str(analysis_result)

async def main():
    # Initialize workflow
    api_config = aitoolman.load_config("config/llm_config.toml")
    prompt_config = aitoolman.load_config("config/app_prompt.toml")

    async with aitoolman.LLMLocalClient(api_config) as client:
        workflow = aitoolman.LLMWorkflow(client, prompt_config)

        # Create tasks
        fetch_task = DataFetchTask({"query": "Q1 2024 sales data"})
        analysis_task = DataAnalysisTask()
        report_task = ReportGenerationTask({"format": "markdown"})

        # Establish dependencies: fetch → analysis → report
        workflow.add_task(fetch_task, analysis_task)
        workflow.add_task(analysis_task, report_task)

        # Wait for all tasks to complete
        await workflow.wait_tasks(report_task)

        # Get results
        print("Analysis report generated successfully:")
        print(report_task.output_data)

if __name__ == "__main__":
    asyncio.run(main())
