"""What a wait raises: all tasks that failed behind its targets, with their causes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .._datamodel import TaskDependencyError
from .tasks import TaskStatus

if TYPE_CHECKING:
    from .scheduling import Node
    from .tasks import Task

__all__ = ["raise_failures"]


def raise_failures(targets: list[Node]) -> None:
    """Raise for what failed in or behind the targets.

    Raises:
        TaskDependencyError: Caused by the one task's error, or by an `ExceptionGroup` of them.
    """
    if all(node.succeeded for node in targets):
        return
    failed = failed_behind(targets)
    count = "1 task" if len(failed) == 1 else f"{len(failed)} tasks"
    error = TaskDependencyError(f"{count} failed: {_reasons(failed)}", failed)
    causes = [task.error for task in failed if isinstance(task.error, Exception)]
    if len(causes) > 1:
        raise error from ExceptionGroup("the tasks' errors", causes)
    raise error from (failed[0].error if failed else None)


def failed_behind(targets: list[Node]) -> list[Task]:
    """All tasks that failed themselves, before or inside `targets`, in order of failing."""
    seen: set[Node] = set()
    todo = list(targets)
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += [*node.parents, *_inside(node)]
            if node.follower is not None:
                todo.append(node.follower)
    failed = [node for node in seen if node.task.status is TaskStatus.FAILED]
    return [node.task for node in sorted(failed, key=lambda node: node.failed_at)]


def _inside(node: Node) -> list[Node]:
    """The tasks whose failure made a waiting task fail."""
    error = node.task.error
    tasks = error.failed_tasks if isinstance(error, TaskDependencyError) else []
    return [task._node for task in tasks if task._node is not None]


def _reasons(failed: list[Task]) -> str:
    """Every task with its cause; a cause that several have is told once."""
    names: dict[str, list[str]] = {}
    for task in failed:
        names.setdefault(_cause(task.error), []).append(f"{task.task_name} ({task.task_id})")
    return "; ".join(f"{', '.join(tasks)}: {cause}" for cause, tasks in names.items())


def _cause(error: BaseException | None) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, TaskDependencyError):
        return "a task that it waited for failed"
    return f"{type(error).__name__}: {error}"
