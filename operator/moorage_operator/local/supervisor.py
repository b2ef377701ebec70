"""Carries a plan out: starts stage after stage, restarts what crashes, ends everything in order.

The stages are DESIGN.md's: stores, then servers, then the proxy; the end goes the other way round.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from moorage_operator.local.child import Child, last_lines, rotate_log
from moorage_operator.local.datadir import DataDir
from moorage_operator.local.failure import UpError
from moorage_operator.local.probe import answers
from moorage_operator.local.processes import STAGES, LocalPlan, ProcessSpec, Stage
from moorage_operator.local.report import Report

START_SECONDS = 90.0
"""How long a stage may take to get ready: the first start on a cold disk reads hundreds of megabytes."""
MAX_EARLY_CRASHES = 3
"""A part that has never been ready and has crashed this often will not get ready at all."""
FIRST_DELAY, LAST_DELAY = 0.2, 10.0
STEADY_SECONDS = 30.0
POLL_SECONDS = 0.05
LOG_CHECK_SECONDS = 60.0


def next_delay(crashes: int) -> float:
    """Seconds to wait before the next start after `crashes` in a row: 0.2, 0.4, 0.8 … 10."""
    return min(FIRST_DELAY * float(2 ** min(crashes - 1, 16)), LAST_DELAY)


class Keeper:
    """Keeps one process running until it is told to stop."""

    def __init__(self, spec: ProcessSpec, data: DataDir, report: Report) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self._data = data
        self._report = report
        self._stopping = asyncio.Event()
        self._child: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._was_ready = False

    @property
    def log(self) -> Path:
        return self._data.log(self.spec.name)

    def start(self) -> asyncio.Task[None]:
        """A task that ends only with an error (UpError: it does not get ready) or after `stop`."""
        self._task = asyncio.create_task(self._keep(), name=self.spec.name)
        return self._task

    async def stop(self, seconds: float | None = None) -> None:
        """End the process, in `seconds` instead of the spec's where given. Idempotent."""
        self._stopping.set()
        if self._child is not None:
            self._report.state(self.spec.name, "stopping")
            in_time = await self._child.stop(self.spec.stop_seconds if seconds is None else seconds)
            self._report.state(self.spec.name, "stopped", "" if in_time else "killed")
            self._child = None
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        crashes = 0
        while not self._stopping.is_set():
            self._report.state(self.spec.name, "starting")
            started = loop.time()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            crashes = 1 if loop.time() - started > STEADY_SECONDS else crashes + 1
            if not self._was_ready and crashes >= MAX_EARLY_CRASHES:
                raise UpError(self._why_not(f"ended {crashes} times at its start ({_describe(code)})"))
            delay = next_delay(crashes)
            self._report.crashed(self.spec.name, _describe(code), delay)
            try:
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def _run_once(self) -> int:
        """Start it, tell when it is ready, and wait for its end."""
        try:
            child = Child.start(
                self.spec, log=self.log, directory=self._data.run, records=self._data.children
            )
        except OSError as error:
            raise UpError(f"{self.spec.name} cannot be started: {error}.") from error
        self._child = child
        watch = asyncio.create_task(self._await_ready(child))
        try:
            return await child.wait()
        finally:
            watch.cancel()
            self.ready.clear()

    async def _await_ready(self, child: Child) -> None:
        while not await answers(self.spec.ready):  # noqa: ASYNC110 - it is another process that changes
            await asyncio.sleep(POLL_SECONDS)
        if not child.has_ended:
            self._was_ready = True
            self.ready.set()
            self._report.state(self.spec.name, "ready")

    def why_not_ready(self) -> str:
        return self._why_not(f"did not get ready within {START_SECONDS:.0f} s")

    def _why_not(self, what: str) -> str:
        lines = last_lines(self.log, 8)
        said = "".join(f"\n    {line}" for line in lines) or " It said nothing."
        return f"{self.spec.name} {what}; see {self.log}. Its last lines:{said}"


def _describe(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


class Supervisor:
    """`prepare_stores` is awaited when the stores are ready, before the servers start."""

    def __init__(
        self,
        plan: LocalPlan,
        data: DataDir,
        report: Report,
        prepare_stores: Callable[[], Awaitable[None]],
    ) -> None:
        self._keepers = {spec.name: Keeper(spec, data, report) for spec in plan.processes}
        self._data = data
        self._prepare_stores = prepare_stores
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Bring everything up, call `on_ready`, and keep it running until `stop`; then end it all.

        UpError when a part cannot be brought up; everything is ended then too.
        """
        stopped = asyncio.create_task(stop.wait())
        try:
            for stage in STAGES:
                keepers = self._of(stage)
                self._tasks |= {keeper.start() for keeper in keepers}
                if not await self._until(stopped, self._await_ready(keepers)):
                    return
                if stage == "stores" and not await self._until(stopped, self._prepare_stores()):
                    return
            on_ready()
            await self._until(stopped, self._look_after_logs())
        finally:
            stopped.cancel()
            await self._end()

    async def kill(self) -> None:
        """End everything at once, without waiting for anybody."""
        await asyncio.gather(*(keeper.stop(0) for keeper in self._keepers.values()))

    def _of(self, stage: Stage) -> list[Keeper]:
        return [keeper for keeper in self._keepers.values() if keeper.spec.stage == stage]

    async def _await_ready(self, keepers: list[Keeper]) -> None:
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.gather(*(keeper.ready.wait() for keeper in keepers))
        except TimeoutError:
            late = next(keeper for keeper in keepers if not keeper.ready.is_set())
            raise UpError(late.why_not_ready()) from None

    async def _look_after_logs(self) -> None:
        while True:
            await asyncio.sleep(LOG_CHECK_SECONDS)
            for keeper in self._keepers.values():
                rotate_log(keeper.log)

    async def _until(self, stopped: "asyncio.Task[bool]", work: Awaitable[None]) -> bool:
        """Whether `work` was done before a stop was asked for. Errors of `work` and of any part are raised."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                waited = {task, stopped, *self._tasks}
                done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
                for part in done & self._tasks:
                    part.result()
                if stopped in done:
                    return False
            task.result()
            return True
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _end(self) -> None:
        for stage in reversed(STAGES):
            await asyncio.gather(*(keeper.stop() for keeper in self._of(stage)))
        # The first error has been raised; what followed from it is not worth a trace.
        await asyncio.gather(*self._tasks, return_exceptions=True)
