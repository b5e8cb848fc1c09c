"""In a process of one attempt: notes the phases it comes to, and has happen there what the plan says.

The operators, the hook, the ledgers and S3 are the real ones; they are only listened to, and their requests get a
header by which the servers of the campaign know what to do with them.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from benchmarks.fault_campaign import clock
from benchmarks.fault_campaign.journal import FAULT, Journal, Who
from benchmarks.fault_campaign.orders import Order
from benchmarks.fault_campaign.phases import ON_THE_WIRE
from benchmarks.fault_campaign.plan import Adversity, RunPlan, Strike, Trouble, draw_faults

__all__ = ["Probe"]

_HOLD_S = 0.1
_CLEAR_AFTER_S = 0.1


class Probe:
    """One process's own.

    :param pipe: the runner's end reads what is told here.
    :param adversity: what happens to this process.
    :param seed: of the faults that are asked for with a submit.
    """

    def __init__(self, journal: Journal, pipe: int, who: Who, adversity: Adversity, plan: RunPlan, seed: int) -> None:
        self.task = who.run
        self._journal = journal
        self._pipe = pipe
        self._who = who
        self._strike = adversity.strike
        self._troubles = list(adversity.troubles)
        self._is_cleared = adversity.is_cleared
        self._plan = plan
        self._seed = seed
        self._phase = ""
        self._passed: Counter[str] = Counter()
        self._orders: dict[str, tuple[Order, int]] = {}
        self._lock = threading.RLock()  # the handler of a signal may come in between

    def tell(self, **message: Any) -> None:
        """Tell the runner, one line of JSON."""
        left = json.dumps(message).encode() + b"\n"
        while left:
            left = left[os.write(self._pipe, left) :]

    def passed(self, phase: str, **more: Any) -> None:
        """Note a phase, and have happen what is planned for it; may be called in any thread."""
        with self._lock:
            self._phase = phase
            self._passed[phase] += 1
            self._journal.note(phase, self._who, pid=os.getpid(), **more)
            for trouble in [one for one in self._troubles if one.phase == phase]:
                self._troubles.remove(trouble)
                self._begin(trouble)
            strike = self._strike
            if strike is not None and (phase, self._passed[phase]) == (strike.phase, strike.nth):
                self._strike = None
                self._arm(strike)
            if self._is_cleared:
                self._is_cleared = False
                _later(_CLEAR_AFTER_S, lambda: self.tell(clear=True))

    def recorded(self) -> None:
        """The ledger knows the job that is paid for."""
        self.tell(paid=True)

    def order(self, call: str) -> str | None:
        """What the server is to do with a request that is about to be sent, as the value of a header.

        :param call: what the request is: ``s3``, ``submit``, ``poll``, ``file``.
        """
        with self._lock:
            order, left = self._orders.pop(call, (None, 0))
            if order is not None and left > 1:
                self._orders[call] = (order, left - 1)
            return replace(order, phase=self._phase).dump() if order else None

    def faults(self, result: str, number: int) -> dict[str, Any] | None:
        """The faults to ask the endpoint for with a submit."""
        return draw_faults(self._seed, self._plan, result, number)

    def _begin(self, trouble: Trouble) -> None:
        if trouble.where == "clock":
            clock.step(trouble.value)
            self._fault("clock", seconds=round(trouble.value))
            return
        is_frozen = trouble.how == "freeze"
        times = 1 if trouble.where == "s3" or is_frozen else int(trouble.value)
        order = Order(trouble.how, trouble.value, trouble.phase, os.getpid())
        self._orders[trouble.where] = (order, times)

    def _arm(self, strike: Strike) -> None:
        if strike.delay == 0:
            self._hit(strike)
            return
        if strike.phase in ON_THE_WIRE:  # the answer is held back, so that the request is surely under way
            call = {"submit sent": "submit", "download": "file"}.get(strike.phase, "s3")
            self._orders.setdefault(call, (Order("hold", _HOLD_S, strike.phase, os.getpid()), 1))
        _later(strike.delay, lambda: self._hit(strike))

    def _hit(self, strike: Strike) -> None:
        self._fault(strike.kind)
        if strike.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)  # the signal is on its way
        elif strike.kind == "stop":
            self.tell(stopped=strike.pause)
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            self.tell(term=True)
            os.kill(os.getpid(), signal.SIGINT if self._plan.kind == "command" else signal.SIGTERM)

    def _fault(self, kind: str, **more: Any) -> None:
        self._journal.note(FAULT, self._who, kind=kind, phase=self._phase, pid=os.getpid(), **more)


def _later(seconds: float, do: Any) -> None:
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()
