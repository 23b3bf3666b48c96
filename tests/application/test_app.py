"""The application itself: construction, factories, live modules, audit, the synchronous face."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from aitoolman._application.app import LLMApplication
from aitoolman._datamodel import LLMConfigError, LLMDirectRequest, Message
from aitoolman._transport.channels import Channel, TextFragmentChannel

from .doubles import WEATHER, Sink, Worker, module


def test_an_application_needs_no_running_loop():
    """Applications, factories and modules are made anywhere."""
    app = LLMApplication(Worker(), module())
    assert app["m"].variables == ["text"]
    assert LLMApplication.factory(app.client, module())().context_id


def test_attributes_are_those_of_the_specification():
    """`client`, `context_id`, `channels`, `processors`, `vars`."""
    worker = Worker()
    app = LLMApplication(worker, processors={"p": str}, context_id="ctx")
    assert app.client is worker
    assert app.context_id == "ctx"
    assert app.processors == {"p": str}
    assert app.vars == {}
    assert type(app.channels["stdin"]) is Channel
    assert type(app.channels["stdout"]) is TextFragmentChannel
    assert type(app.channels["reasoning"]) is TextFragmentChannel


def test_given_channels_are_added_to_the_three_of_every_application():
    """A given channel stands beside the defaults, or replaces one of them."""
    mine, out = Sink(), Sink()
    app = LLMApplication(None, channels={"mine": mine, "stdout": out})
    assert set(app.channels) == {"stdin", "stdout", "reasoning", "mine"}
    assert app.channels["stdout"] is out


def test_context_ids_are_random_unless_given():
    """Two applications never share one."""
    assert LLMApplication(None).context_id != LLMApplication(None).context_id


async def test_applications_of_a_factory_are_one_source_with_ids_of_their_own():
    """`<source>/<n>`, so that all of them can be cancelled at once."""
    worker = Worker()
    factory = LLMApplication.factory(worker, module())
    first, second, named = factory(), factory(), factory(context_id="mine")
    assert first.context_id == f"{factory.source}/1"
    assert second.context_id == f"{factory.source}/2"
    for app in (first, second, named):
        await app["m"](text="x")
        assert worker.last.context_id == app.context_id
        assert worker.last.call.source == factory.source
    assert named.context_id == "mine"


async def test_applications_of_a_factory_do_not_mix_channels():
    """Each has its own, but for those given to the factory or to one call of it."""
    shared, own = Sink(), Sink()
    worker = Worker("one", "two")
    factory = LLMApplication.factory(
        worker, module(output_channel="stdout"), channels={"log": shared}
    )
    first, second = factory(), factory(channels={"own": own})
    await first["m"](text="x")
    await second["m"](text="x")
    assert await first.channels["stdout"].read_whole_message() == "one"
    assert await second.channels["stdout"].read_whole_message() == "two"
    assert first.channels["log"] is second.channels["log"] is shared
    assert "own" not in first.channels
    assert second.channels["own"] is own


def test_variables_and_processors_of_a_factorys_applications_are_their_own():
    """What one application registers, another does not see."""
    factory = LLMApplication.factory(None, module(), processors={"p": str})
    first, second = factory(), factory()
    first.vars["a"] = 1
    first.add_processor("q", int)
    assert second.vars == {}
    assert second.processors == {"p": str}


def test_a_subclass_makes_factories_of_itself():
    """`factory` is a class method, and passes further options on."""

    class Mine(LLMApplication):
        def __init__(self, *args, flavour="plain", **kwargs):
            super().__init__(*args, **kwargs)
            self.flavour = flavour

    factory = Mine.factory(None, module())
    assert type(factory()) is Mine
    assert factory(flavour="hot").flavour == "hot"


async def test_modules_are_live_for_all_that_share_the_configuration():
    """A module that is added or replaced is seen by applications made before."""
    worker = Worker()
    factory = LLMApplication.factory(worker, module() | {"module_default": {"model": "cheap"}})
    old = factory()
    held = old["m"]
    factory().add_module("new", {"template": {"user": "{{a}} {{b}}", "system": "s"}})
    assert old["new"].variables == ["a", "b"]
    assert set(old.modules) == {"m", "new"}
    assert "new" in old
    await old["new"](a=1, b=2)
    assert (worker.last.model_name, worker.sent()) == ("cheap", [("system", "s"), ("user", "1 2")])
    factory().add_module("m", {"template": {"user": "changed {{c}}"}})
    assert held.variables == ["c"]
    factory().add_module("new", {"template": {"user": "x"}})
    with pytest.raises(KeyError):
        old.render_template("module/new/system")


def test_a_module_with_mistakes_is_not_added():
    """The old one stays, and the message names the key."""
    app = LLMApplication(None, module())
    with pytest.raises(LLMConfigError, match=r'module\."m"\.template\.user: line 1'):
        app.add_module("m", {"template": {"user": "{% if %}"}})
    with pytest.raises(LLMConfigError, match="straem"):
        app.add_module("m", {"template": {"user": "x"}, "straem": True})
    assert app["m"].variables == ["text"]


def test_a_configuration_that_changes_later_changes_nothing():
    """What was passed in was read once."""
    config = module()
    app = LLMApplication(None, config)
    config["module"]["m"]["template"]["user"] = "changed"
    config["module"].clear()
    assert app["m"].render(text="x") == [Message("user", "x")]


def test_all_mistakes_of_a_configuration_come_at_construction():
    """Unknown keys are errors that name the nearest known one."""
    config = {"modul": {}, "module": {"a": {"template": {"usr": "x"}}}}
    with pytest.raises(LLMConfigError) as caught:
        LLMApplication(None, config)
    assert "modul" in str(caught.value)
    assert "usr" in str(caught.value)
    assert isinstance(caught.value, ValueError)


async def test_audit_events_carry_the_context():
    """Business events go to the client under the application's id."""
    worker = Worker()
    app = LLMApplication(worker, context_id="ctx")
    await app.audit_event("order", amount=3)
    assert worker.events == [("ctx", "order", {"amount": 3})]


def test_reprs_are_short_and_show_no_prompt():
    """Names and counts, nothing that was sent or could be secret."""
    app = LLMApplication(None, module("secret {{text}}"), context_id="ctx")
    assert repr(app) == "LLMApplication('ctx', 1 module)"
    assert repr(app["m"]) == "Module('m', model='fast', variables=['text'])"
    assert "secret" not in repr(LLMApplication.factory(None, module("secret")))


# The synchronous face


def test_sync_calls_work_without_a_loop():
    """`app.sync[...]`, `app.sync.call` and the module's own `.sync` are the same names."""
    app = LLMApplication(Worker("ok"), module())
    assert app.sync["m"](text="x").data == "ok"
    assert app["m"].sync(text="x").data == "ok"
    assert app.sync.call(LLMDirectRequest("m", [Message("user", "x")])).data == "ok"
    assert app.sync["m"].render(text="x") == [Message("user", "x")]
    assert app.sync["m"].variables == ["text"]
    assert app.sync.audit_event("e") is None
    with pytest.raises(KeyError):
        app.sync["n"]


def test_sync_user_functions_run_in_worker_threads():
    """Processors, template functions and tools leave the background loop free."""
    threads = {}

    def noting(name):
        def note(*args, **kwargs):
            threads[name] = threading.current_thread()
            assert app.sync["n"]().data == "inner"  # waits for the very loop we came from
            return name

        return note

    config = module("{{ f() }}", post_processor="p")
    config["module"]["n"] = {"model": "x", "template": {"user": "n"}}

    class Answering(Worker):
        async def _answer(self, request, reply):
            inner = request.messages[-1].content == "n"
            await super()._answer(request, "inner" if inner else reply)

    app = LLMApplication(Answering("ok"), config, {"p": noting("processor")})
    app.vars["f"] = noting("template")
    assert app.sync["m"]().data == "processor"
    assert threads["template"] is not threading.current_thread()
    tools = Worker({"finish_reason": "tool_calls", "response_tool_calls": [WEATHER]})
    result = LLMApplication(tools, module()).sync["m"](text="x")
    followed = result.sync.run_tool_calls({"weather": noting("tool")})
    assert followed.messages[-1].content == "tool"
    assert {t.name for t in threads.values()}.isdisjoint({"MainThread", "aitoolman-loop"})


async def test_a_sync_call_from_the_clients_own_loop_says_await():
    """It would wait for itself for ever."""

    class Homed(Worker):
        home = asyncio.get_running_loop()

    app = LLMApplication(Homed(), module())
    with pytest.raises(RuntimeError, match="await"):
        app.sync["m"](text="x")
    assert (await app["m"](text="x")).data == "ok"


def test_ctrl_c_in_a_sync_call_ends_the_request():
    """KeyboardInterrupt comes up where the call stands, and the client has been told."""

    class Interrupting(Worker):
        async def _answer(self, request, reply):
            os.kill(os.getpid(), signal.SIGINT)
            await super()._answer(request, reply)

    worker = Interrupting(gate=asyncio.Event())
    with pytest.raises(KeyboardInterrupt):
        LLMApplication(worker, module()).sync["m"](text="x")
    assert worker.cancelled == [worker.last.request_id]


def test_one_application_serves_many_threads_and_loops():
    """Nothing in it is bound to a loop."""
    app = LLMApplication(Worker(), module(output_channel="", reasoning_channel=""))

    async def several():
        return [r.data for r in await asyncio.gather(*(app["m"](text="x") for _ in range(20)))]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: asyncio.run(several()), range(8)))
    assert answers == [["ok"] * 20] * 8


async def test_calls_leave_nothing_behind():
    """Thousands of calls keep memory flat, once the log of the last thousand is full."""

    class Forgetful(Worker):
        async def request(self, *args, **kwargs):
            request = await super().request(*args, **kwargs)
            self.requests.clear()
            return request

    factory = LLMApplication.factory(
        Forgetful(), module(output_channel="", reasoning_channel="", post_processor="parse_json")
    )
    counts = []
    for calls in (1100, 2000):
        for _ in range(calls):
            await factory()["m"](text="x")
        await asyncio.sleep(0)
        gc.collect()
        counts.append(len(gc.get_objects()))
    assert counts[1] - counts[0] < 200


def test_sync_shows_its_object():
    """Repr and completion are those of the object behind it."""
    app = LLMApplication(None, module(), context_id="ctx")
    assert repr(app.sync) == "LLMApplication('ctx', 1 module).sync"
    assert "add_processor" in dir(app.sync)
    with pytest.raises(AttributeError):
        app.sync.vars_ = {}
