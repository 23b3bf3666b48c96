"""A module with a request's overrides applied: an immutable value that makes calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._datamodel import LLMApplicationError, LLMDirectRequest, MediaContent, Message
from .call import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._config import ModuleConfig
    from .._datamodel import LLMModuleRequest, Output
    from .templates import Prompt

__all__ = ["CompiledModule", "ResolvedModule", "check_messages", "checked_table"]


class CompiledModule:
    """One module's settings and templates; never changed."""

    __slots__ = ("_examples", "config", "system", "user")

    def __init__(self, config: ModuleConfig, user: Prompt, system: Prompt | None) -> None:
        self.config = config
        self.user = user
        self.system = system
        self._examples: list[Message] | None = None

    @property
    def variables(self) -> frozenset[str]:
        """The variables that the templates look up."""
        return self.user.variables | (self.system.variables if self.system else frozenset())

    def examples(self, variables: Mapping[str, Any]) -> list[Message]:
        """The few-shot turns; rendered once where nothing in them depends on the call."""
        if self._examples is not None:
            return self._examples
        messages: list[Message] = []
        for example in self.config.examples:
            user = self._example_text(example.user, variables)
            messages += (Message("user", user), Message("assistant", example.assistant))
        if all(self._stands_alone(example.user) for example in self.config.examples):
            self._examples = messages
        return messages

    def _example_text(self, user: str | Mapping[str, Any], variables: Mapping[str, Any]) -> str:
        return user if isinstance(user, str) else self.user.render({**variables, **user})

    def _stands_alone(self, user: str | Mapping[str, Any]) -> bool:
        return isinstance(user, str) or self.user.variables <= user.keys()


class ResolvedModule(NamedTuple):
    """A module with a request's overrides applied: what render, preview, call and plan take.

    Immutable: whatever is edited meanwhile, it stays as it was resolved.
    """

    module: CompiledModule
    model_name: str
    tools: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    stream: bool
    output_channel: Output
    reasoning_channel: Output
    post_processor: Any
    format_retries: int

    @property
    def name(self) -> str:
        return self.module.config.name

    def messages(
        self,
        variables: Mapping[str, Any],
        context: Sequence[Message] = (),
        media: MediaContent | list[MediaContent] | None = None,
    ) -> list[Message]:
        """The messages to send: system, examples, context, user prompt.

        Raises:
            LLMApplicationError: A template cannot be rendered, or the context holds no messages.
        """
        module = self.module
        system, context = _split_context(context)
        if system is None and module.system is not None:
            text = module.system.render(variables)
            system = Message("system", text) if text else None
        user = Message("user", module.user.render(variables), _checked_media(media))
        examples = module.examples(variables) if module.config.examples else ()
        return [*((system,) if system else ()), *examples, *context, user]

    def call(self, request: LLMModuleRequest, variables: Mapping[str, Any]) -> Call:
        """The call that `request` asks for, with `variables` for the templates.

        Raises:
            LLMApplicationError: As for `messages`.
        """
        direct = LLMDirectRequest(
            self.model_name,
            self.messages(variables, request.context_messages, request.media_content),
            {name: dict(tool) for name, tool in self.tools.items()},
            dict(self.options),
            self.stream,
            self.output_channel,
            self.reasoning_channel,
            self.post_processor,
        )
        return Call(
            direct,
            self.name,
            request.template_params,
            self.format_retries,
            request.sample,
            request.fresh,
        )


def _split_context(context: Sequence[Message]) -> tuple[Message | None, Sequence[Message]]:
    """The system message that wins over the template, and the other messages."""
    if not context:
        return None, ()
    check_messages(context, "context_messages")
    for index, message in enumerate(context):
        if (message.role or (message.raw_value or {}).get("role")) == "system":
            return message, [*context[:index], *context[index + 1 :]]
    return None, context


def check_messages(messages: Iterable[Any], what: str) -> None:
    """Raise `LLMApplicationError` unless `messages` is a list of `Message`, of texts and media."""
    listed = isinstance(messages, Iterable) and not isinstance(messages, Message)
    if not listed or not all(isinstance(m, Message) for m in messages):
        raise LLMApplicationError(f"{what} must be a list of aitoolman.Message")
    for message in messages:
        if not isinstance(message.content, str | None):
            kind = type(message.content).__name__
            raise LLMApplicationError(
                f"{what}: the content of a message is text, not a {kind}; images and the like go"
                " into media_content, a vendor's own message into raw_value"
            )
        _checked_media(message.media_content)


def checked_table(value: Any, what: str) -> dict[str, Any]:
    """`value`, or `LLMApplicationError` where it is no dict."""
    if not isinstance(value, Mapping):
        raise LLMApplicationError(f"{what} must be a dict, not a {type(value).__name__}")
    return dict(value)


def _checked_media(media: Any) -> Any:
    items = media if isinstance(media, list) else [media]
    if media is not None and not all(isinstance(item, MediaContent) for item in items):
        raise LLMApplicationError("media_content must be an aitoolman.MediaContent or a list of it")
    return media or None
